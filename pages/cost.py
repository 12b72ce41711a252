"""Cost: what the answers of a period cost, and what they would have cost elsewhere."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import streamlit as st

from console import auth, state, wiring
from console.components import budget_view, cost_view, empty, heading, savings_view
from console.i18n import number, t
from services.metering.models import CLAUDE_3_5_SONNET, Usage
from services.metering.service import MAX_ROWS
from services.tenants.models import Actor, Tenant

PERIODS = ("week", "month", "this_month")
SHOWN_ROWS = 50


def first_day(period: str, today: date) -> date:
    """Where a period that ends today begins."""
    starts = {
        "week": today - timedelta(days=6),
        "month": today - timedelta(days=29),
        "this_month": today.replace(day=1),
    }
    return starts[period]


def rows_since(actor: Actor, tenant: Tenant, since: date) -> list[Usage]:
    """The requests of the period, newest first, as far as one file holds them."""
    zone = ZoneInfo(tenant.timezone)
    rows = wiring.services().metering.usage_rows(actor, tenant.id, MAX_ROWS)
    return [row for row in rows if row.at.astimezone(zone).date() >= since]


def requests(actor: Actor, tenant: Tenant, since: date) -> None:
    """The last requests, and all of the period as a file."""
    heading.section(t("cost.last_requests"), t("cost.last_requests_caption", count=SHOWN_ROWS))
    rows = wiring.services().metering.usage_rows(actor, tenant.id, SHOWN_ROWS)
    cost_view.requests(rows, tenant.timezone)
    st.download_button(
        t("cost.download"),
        lambda: cost_view.table(rows_since(actor, tenant, since)),
        file_name=f"{tenant.id}-usage-{since}.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
        key="cost.download",
        help=t("cost.download_help", most=number(MAX_ROWS)),
    )


def page() -> None:
    """Draw the cost of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    heading.draw(t("nav.cost"), t("cost.caption"))
    metering = wiring.services().metering
    budget_view.draw(metering.budget(actor, tenant.id), tenant.timezone)
    period = st.segmented_control(
        t("cost.period"), PERIODS, default="week", required=True, key="cost.period",
        format_func=lambda name: t(f"cost.period_{name}"), label_visibility="collapsed",
    )  # fmt: skip
    today = datetime.now(ZoneInfo(tenant.timezone)).date()
    since = first_day(str(period), today)
    report = metering.report(actor, tenant.id, since=since, until=today)
    if not report.requests:
        empty.draw(t("cost.empty"), t("cost.empty_text"), icon="payments")
        cost_view.prices(metering.prices_now(), tenant.timezone)
        return
    cost_view.totals(report)
    cost_view.savings(metering.savings(report, CLAUDE_3_5_SONNET), CLAUDE_3_5_SONNET)
    savings_view.scenarios(report, CLAUDE_3_5_SONNET)
    heading.section(t("cost.per_day"))
    cost_view.days(report)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        models = [line.name for line in report.by_model]
        cost_view.lines(report.by_model, models, title=t("cost.model"), key="cost.models")
    with right:
        arms = [t(f"cost.arm_{line.name}") for line in report.by_arm]
        cost_view.lines(report.by_arm, arms, title=t("cost.arm"), key="cost.arms")
    cost_view.prices(metering.prices_now(), tenant.timezone)
    requests(actor, tenant, since)


page()
