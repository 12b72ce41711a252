"""Cost as charts, tables and a file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import plotly.graph_objects as go
import streamlit as st

from console.components import amount, charts, figures
from console.i18n import number, percent, t, when
from services import spreadsheet
from services.metering.models import (
    FIRST_VERSION,
    ApiPrice,
    CostLine,
    CostReport,
    PriceTable,
    Savings,
    Usage,
)

_HEADER = (
    "at", "request_id", "alias", "served", "arm", "status", "prompt_tokens",
    "completion_tokens", "cost_micro_usd", "price_version", "latency_ms", "ttft_ms", "key_id",
)  # fmt: skip


def totals(report: CostReport) -> None:
    """Draw the sums of the period."""
    figures.draw(
        [
            (t("cost.total"), amount.shown(report.total_micro)),
            (t("cost.requests"), number(report.requests)),
            (t("cost.prompt_tokens"), number(report.prompt_tokens)),
            (t("cost.completion_tokens"), number(report.completion_tokens)),
        ]
    )


def savings(found: Savings, api: ApiPrice) -> None:
    """Draw what the same tokens would have cost elsewhere, with the price that this rests on."""
    price = t(
        "cost.api_price",
        api=api.name,
        prompt=number(api.price.prompt_micro_per_mtok / 1_000_000, 2),
        completion=number(api.price.completion_micro_per_mtok / 1_000_000, 2),
    )
    with st.container(border=True):
        st.markdown(f"**{t('cost.savings')}**")
        share = "–" if found.saved_percent is None else percent(found.saved_percent / 100)
        text = t(
            "cost.saved" if found.saved_micro >= 0 else "cost.dearer",
            own=amount.shown(found.own_micro),
            api=found.api,
            elsewhere=amount.shown(found.api_micro),
            saved=amount.shown(abs(found.saved_micro)),
            share=share.replace("\N{MINUS SIGN}", ""),
        )
        st.markdown(text)
        st.caption(price)


def days(report: CostReport) -> None:
    """Draw the cost of each day, those without a request as nothing."""
    known = {line.name: line for line in report.by_day}
    count = (report.until - report.since).days + 1
    names = [(report.since + timedelta(days=day)).isoformat() for day in range(count)]
    spent = [known[name].cost_micro / 1_000_000 if name in known else 0.0 for name in names]
    figure = charts.bars({t("cost.per_day"): (names, spent)}, y_title="USD")
    figure.update_xaxes(type="date", range=_around(report.since, report.until), tickformat="%d.%m.")
    figure.update_traces(hovertemplate="%{y:.6f} USD<extra></extra>", width=0.6 * 86_400_000)
    charts.draw(figure, key="cost.days", height_px=260)


def _around(since: date, until: date) -> list[str]:
    """The axis from half a day before the first bar to half a day after the last one."""
    return [f"{since - timedelta(days=1)} 12:00", f"{until} 12:00"]


def lines(found: Sequence[CostLine], names: Sequence[str], *, title: str, key: str) -> None:
    """Draw one bar for each line, largest on top, with a table of its numbers below.

    Args:
        names: What the lines are called on the screen, as many as `found`.
    """
    st.markdown(f"**{title}**")
    figure = go.Figure(
        go.Bar(
            x=[line.cost_micro / 1_000_000 for line in found], y=list(names), orientation="h",
            hovertemplate="%{y}: %{x:.6f} USD<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(xaxis_title="USD", hovermode="closest")
    figure.update_yaxes(autorange="reversed", automargin=True)
    charts.draw(figure, key=key, height_px=100 + 34 * len(found))
    st.dataframe(
        [
            {
                "name": name,
                "cost": amount.shown(line.cost_micro),
                "requests": number(line.requests),
                "tokens": number(line.prompt_tokens + line.completion_tokens),
                "latency": number(line.mean_latency_ms),
            }
            for name, line in zip(names, found, strict=True)
        ],
        column_config={
            "name": title,
            "cost": t("cost.total"),
            "requests": t("cost.requests"),
            "tokens": t("cost.tokens"),
            "latency": t("cost.latency"),
        },
        hide_index=True,
    )


def prices(table: PriceTable, zone: str) -> None:
    """Draw the prices of the requests to come, in the order in which they are looked up."""
    with st.expander(t("cost.prices", version=table.version), icon=":material/sell:"):
        st.caption(t("cost.prices_caption"))
        st.dataframe(
            [
                {
                    "pattern": pattern,
                    "prompt": amount.shown(price.prompt_micro_per_mtok),
                    "completion": amount.shown(price.completion_micro_per_mtok),
                }
                for pattern, price in table.ordered()
            ],
            column_config={
                "pattern": t("cost.pattern"),
                "prompt": t("cost.price_prompt"),
                "completion": t("cost.price_completion"),
            },
            hide_index=True,
        )
        is_first = table.version == FIRST_VERSION
        since = t("cost.prices_since", at=when(table.created_at, zone))
        st.caption(t("cost.prices_first") if is_first else since)


def requests(found: Sequence[Usage], zone: str) -> None:
    """Draw the last requests."""
    st.dataframe(
        [
            {
                "at": when(row.at, zone),
                "alias": row.alias,
                "served": row.served,
                "arm": t(f"cost.arm_{row.arm}"),
                "status": t(f"cost.status_{row.status}"),
                "tokens": f"{number(row.prompt_tokens)} + {number(row.completion_tokens)}",
                "cost": amount.shown(row.cost_micro),
                "latency": number(row.latency_ms),
            }
            for row in found
        ],
        column_config={
            "at": t("cost.at"),
            "alias": t("cost.alias"),
            "served": st.column_config.Column(t("cost.model"), width="medium"),
            "arm": t("cost.arm"),
            "status": t("cost.status"),
            "tokens": t("cost.tokens_in_out"),
            "cost": t("cost.total"),
            "latency": t("cost.latency_one"),
        },
        hide_index=True,
    )


def table(found: Sequence[Usage]) -> bytes:
    """The requests as a CSV file; times in UTC, money in whole millionths of a dollar."""
    return spreadsheet.csv_of(
        _HEADER,
        [
            (
                row.at.isoformat(), row.request_id, row.alias, row.served, row.arm, row.status,
                row.prompt_tokens, row.completion_tokens, row.cost_micro, row.price_version,
                row.latency_ms, row.ttft_ms, row.key_id,
            )
            for row in found
        ],
    )  # fmt: skip
