"""Both arms of a rollout side by side: each metric with its interval and its number of requests."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st

from console.components import charts
from console.i18n import number, percent, t
from services.rollouts.intervals import Interval
from services.rollouts.judging import Figure
from services.rollouts.overview import Compared
from services.rollouts.policy import Metric

_PLACES = ("canary", "stable")


def draw(found: Compared, rollout_id: str) -> None:
    """Draw one small chart for each metric that has data, both arms on one axis."""
    if not found.stable_n and not found.canary_n:
        st.caption(t("rollouts.no_samples"))
        return
    st.caption(
        t(
            "rollouts.compared",
            stable=number(found.stable_n),
            canary=number(found.canary_n),
        )
    )
    seen = [one for one in found.figures if one.stable is not None or one.canary is not None]
    columns = st.columns(2)
    for place, one in enumerate(seen):
        with columns[place % 2]:
            _chart(one, key=".".join(("rollouts", "arms", rollout_id, one.metric.value)))
    without = [t(f"rollouts.metric_{one.metric.value}") for one in found.figures if one not in seen]
    if without:
        st.caption(t("rollouts.without_data", names=", ".join(without)))


def shown(metric: Metric, value: float) -> str:
    """A value of a metric in its unit."""
    if metric.is_rate:
        return percent(value, 1)
    if metric is Metric.COST:
        return f"{number(value)} µUSD"
    return f"{number(value)} ms"


def _chart(found: Figure, *, key: str) -> None:
    shape = go.Figure()
    arms = {"stable": (found.stable, found.stable_n), "canary": (found.canary, found.canary_n)}
    for arm, (interval, n) in arms.items():
        _mark(shape, found.metric, arm, interval, n)
    limit = _limit(found)
    if limit is not None:
        shape.add_vline(x=limit, line_width=1.5, line_dash="dot", line_color="#8b9691")
    title = t(f"rollouts.metric_{found.metric.value}")
    shape.update_layout(title={"text": title, "font": {"size": 13}}, showlegend=False)
    shape.update_yaxes(
        tickvals=[0, 1],
        ticktext=[f"{t(f'rollouts.arm_{arm}')}<br>n = {number(arms[arm][1])}" for arm in _PLACES],
        range=[-0.6, 1.6], showgrid=False, automargin=True,
    )  # fmt: skip
    shape.update_xaxes(nticks=4, automargin=True, **_axis(found.metric))
    charts.draw(shape, key=key, height_px=150)


def _mark(shape: go.Figure, metric: Metric, arm: str, found: Interval | None, n: int) -> None:
    if found is None:
        return
    scale = 100 if metric.is_rate else 1
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    words = t(
        "rollouts.with_interval",
        value=shown(metric, found.value),
        low="?" if found.low is None else shown(metric, found.low),
        high="?" if found.high is None else shown(metric, found.high),
        n=number(n),
    )
    shape.add_scatter(
        x=[scale * found.value], y=[_PLACES.index(arm)], mode="markers",
        marker={"size": 11, "symbol": "circle" if arm == "stable" else "diamond"},
        error_x={
            "type": "data", "symmetric": False, "thickness": 2, "width": 6,
            "array": [scale * (high - found.value)],
            "arrayminus": [scale * (found.value - low)],
        },
        hovertemplate=f"{words}<extra></extra>",
    )  # fmt: skip


def _limit(found: Figure) -> float | None:
    """Where the policy's limit stands, measured from the stable arm's value."""
    if found.stable is None:
        return None
    if found.metric.is_rate:
        return 100 * (found.stable.value + found.limit)
    return found.stable.value * found.limit


def _axis(metric: Metric) -> dict[str, str]:
    if metric.is_rate:
        before, _half, after = percent(0.5).partition("50")
        return {"tickprefix": before, "ticksuffix": after}
    return {"ticksuffix": " µUSD" if metric is Metric.COST else " ms"}
