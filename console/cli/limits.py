"""What `param tenants` and `param keys` say about limits: options, changes, and how they read."""

from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from console.cli.output import dollars
from services.errors import InvalidInput

if TYPE_CHECKING:
    from services.tenants.models import KeyLimits, Limits

L = TypeVar("L", "Limits", "KeyLimits")

Tps = Annotated[int | None, typer.Option("--tps", help="Requests a second.")]
Rpm = Annotated[int | None, typer.Option("--rpm", help="Requests a minute.")]
DailyTokens = Annotated[int | None, typer.Option("--daily-tokens", help="Tokens a day.")]
Concurrent = Annotated[
    int | None,
    typer.Option("--concurrent", help="Requests that run at one time; 0 for any number."),
]
MonthlyBudget = Annotated[
    str | None,
    typer.Option("--monthly-budget", help="Money a month, US dollars, such as 12.50; 0 for none."),
]


def micro(text: str | None) -> int | None:
    """Dollars as whole micro-USD.

    Raises:
        InvalidInput: It is no amount from 0 on with at most six decimals.
    """
    if text is None:
        return None
    try:
        amount = Decimal(text) * 1_000_000
    except InvalidOperation as error:
        raise _no_amount(text) from error
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise _no_amount(text)
    return int(amount)


def changed(limits: L, wanted: dict[str, int | None], *, may_be_open: frozenset[str]) -> L:
    """Limits with those replaced that were given; 0 opens one that may be open."""
    given: dict[str, Any] = {
        name: None if number == 0 and name in may_be_open else number
        for name, number in wanted.items()
        if number is not None
    }
    return replace(limits, **given)


def facts(limits: Limits | KeyLimits) -> dict[str, str]:
    """Limits as people read them; an open one says so."""
    names = {
        "tps": "Requests a second",
        "rpm": "Requests a minute",
        "concurrent": "Requests at one time",
        "daily_tokens": "Tokens a day",
        "monthly_micro": "USD a month",
    }
    shown = {}
    for field in fields(limits):
        number = getattr(limits, field.name)
        money = field.name == "monthly_micro" and number is not None
        shown[field.name] = dollars(number) if money else f"{number:,}" if number else "no limit"
    return {text: shown[name] for name, text in names.items() if name in shown}


def _no_amount(text: str) -> InvalidInput:
    return InvalidInput(
        "--monthly-budget: expected US dollars from 0 on with at most six decimals, such as 12.50, "
        f"found {text[:40]!r}"
    )
