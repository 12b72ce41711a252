"""The three ways to serve a month: all at an API, shared with it, all on the own model."""

from __future__ import annotations

import streamlit as st

from console import state
from console.components import amount
from console.i18n import money, number, percent, t
from services.metering.models import ApiPrice, CostReport, Scenario, Scenarios
from services.metering.savings import scenarios as scenarios_of

OWN_PERCENT = 60
FIXED_USD = 200
"""What the project's first plan counted for the machines of an own model, US dollars a month."""


def scenarios(report: CostReport, api: ApiPrice) -> None:
    """Draw what a month costs each way; share, fixed cost and volume can be changed.

    Args:
        report: At least one request.
    """
    with st.expander(t("cost.scenarios"), icon=":material/compare_arrows:"):
        st.caption(t("cost.scenarios_caption", api=api.name))
        start = scenarios_of(report, api)
        # Of this period alone: another one begins with its own number.
        volume = f"cost.month_requests.{report.since}"
        _fields(start.requests, volume)
        found = scenarios_of(
            report,
            api,
            requests=int(state.get(volume, start.requests)),
            own_percent=int(state.get("cost.own_percent", OWN_PERCENT)),
            fixed_micro=int(state.get("cost.fixed_usd", FIXED_USD)) * 1_000_000,
        )
        st.dataframe(
            [_row(way) for way in found.ways],
            column_config={
                "way": t("cost.way"),
                "month": t("cost.month_cost"),
                "year": t("cost.year_cost"),
                "saved": t("cost.saved_a_year"),
                "share": t("cost.saved_share"),
            },
            hide_index=True,
        )
        st.caption(_footnote(found, api))


def _fields(requests: int, key: str) -> None:
    share, fixed, volume = st.columns(3)
    share.slider(t("cost.own_share"), 0, 100, OWN_PERCENT, 5, key="cost.own_percent")
    fixed.number_input(
        t("cost.fixed_usd"), min_value=0, value=FIXED_USD, step=50, key="cost.fixed_usd"
    )
    volume.number_input(t("cost.month_requests"), min_value=1, value=requests, step=1000, key=key)


def _row(way: Scenario) -> dict[str, str]:
    share = way.saved_percent
    # The sign comes first in both languages, also where the percent sign does.
    shown = "–" if share is None else percent(abs(share) / 100)
    return {
        "way": t(f"cost.way_{way.share}", share=percent(way.own_percent / 100)),
        "month": amount.shown(way.month_micro),
        "year": amount.shown(way.year_micro),
        "saved": amount.shown(way.saved_micro),
        "share": f"\N{MINUS SIGN}{shown}" if share is not None and share < 0 else shown,
    }


def _footnote(found: Scenarios, api: ApiPrice) -> str:
    average = t(
        "cost.average_request",
        own=money(found.own_request_nano // 1000, digits=6),
        api=api.name,
        elsewhere=money(found.api_request_nano // 1000, digits=6),
    )
    if found.break_even is None:
        return f"{average} {t('cost.never_breaks_even')}"
    return f"{average} {t('cost.breaks_even', requests=number(found.break_even))}"
