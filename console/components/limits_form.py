"""Limits as numbers to read, and as fields to change; a field of 0 leaves a limit open."""

from __future__ import annotations

from decimal import Decimal

import streamlit as st

from console import state
from console.components import amount, figures
from console.i18n import number, t
from services.tenants.models import KeyLimits, Limits

_COUNTS = ("tps", "rpm", "concurrent", "daily_tokens")
_MAY_BE_OPEN = frozenset({"concurrent"})


def draw(limits: Limits) -> None:
    """Draw a tenant's limits."""
    counts = [(t(f"tenants.{name}"), _shown(getattr(limits, name))) for name in _COUNTS]
    money = limits.monthly_micro
    budget = t("tenants.open") if money is None else amount.shown(money)
    figures.draw([*counts, (t("tenants.monthly_budget"), budget)], columns=3)


def fields(name: str, start: Limits) -> None:
    """Five numbers; `chosen` reads them back by the same name."""
    for field in _COUNTS:
        least = 0 if field in _MAY_BE_OPEN else 1
        st.number_input(
            t(f"tenants.{field}"),
            min_value=least,
            value=getattr(start, field) or least,
            step=1,
            key=_key(name, field),
            help=None if least else t("tenants.zero_is_open"),
        )
    st.number_input(
        t("tenants.monthly_budget_usd"),
        min_value=0.0,
        value=(start.monthly_micro or 0) / 1_000_000,
        step=1.0,
        format="%.2f",
        key=_key(name, "monthly_usd"),
        help=t("tenants.zero_is_open"),
    )


def chosen(name: str) -> Limits:
    """The limits in the fields of that name."""
    tps, rpm, concurrent, tokens = (state.get(_key(name, field)) for field in _COUNTS)
    # Through its text: what a person typed as 0.1 is a tenth, not the nearest binary fraction.
    money = int(Decimal(str(state.get(_key(name, "monthly_usd"), 0.0))) * 1_000_000)
    return Limits(tps, rpm, tokens, concurrent or None, money or None)


def key_fields(name: str, start: KeyLimits) -> None:
    """Four numbers, each open at 0; `chosen_key` reads them back by the same name."""
    for field in _COUNTS:
        st.number_input(
            t(f"tenants.{field}"),
            min_value=0,
            value=getattr(start, field) or 0,
            step=1,
            key=_key(name, field),
        )


def chosen_key(name: str) -> KeyLimits:
    """The key's limits in the fields of that name."""
    tps, rpm, concurrent, tokens = (state.get(_key(name, field)) or None for field in _COUNTS)
    return KeyLimits(tps, rpm, tokens, concurrent)


def line(limits: KeyLimits) -> str:
    """A key's own limits in one line; empty where it has none."""
    found = [(name, getattr(limits, name)) for name in _COUNTS]
    return " · ".join(f"{t(f'tenants.{name}')}: {_shown(most)}" for name, most in found if most)


def _shown(most: int | None) -> str:
    return t("tenants.open") if most is None else number(most)


def _key(name: str, field: str) -> str:
    return f"tenants.{name}.{field}"
