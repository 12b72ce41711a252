"""Figures with their intervals: in words, and as a plot of all of them over one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from console.components import charts
from console.components.verdict import GREY
from console.i18n import number, percent, t
from labeling.reliability import ENOUGH, Estimate

_SYMBOLS = ("diamond", "circle", "square", "cross")
ROW_PX = 38


def figure(found: Estimate, *, as_percent: bool = False) -> str:
    """The figure alone: `0.67`, `54%`, or a dash."""
    return "–" if found.value is None else _shown(found.value, as_percent)


def between(found: Estimate, *, as_percent: bool = False) -> str:
    """The figure with its interval: `0.67 (0.61 to 0.73)`; a dash where there is none."""
    if found.value is None:
        return "–"
    if found.low is None or found.high is None:
        return _shown(found.value, as_percent)
    return t(
        "agreement.between",
        value=_shown(found.value, as_percent),
        low=_shown(found.low, as_percent),
        high=_shown(found.high, as_percent),
    )


def or_insufficient(found: Estimate) -> str:
    """The figure with its interval, or how much data is missing for one."""
    if found.is_known:
        return between(found)
    if found.n < ENOUGH:
        return t("agreement.insufficient", found=found.n, needed=ENOUGH)
    return t("agreement.no_variation")


def _shown(value: float, as_percent: bool) -> str:
    return percent(value) if as_percent else number(value, 2)


def forest(
    series: Mapping[str, Sequence[Estimate]],
    names: Sequence[str],
    *,
    key: str,
    x_title: str,
    lines: Sequence[float] = (),
    ends: tuple[float, float] | None = None,
    as_percent: bool = False,
) -> None:
    """Draw one row for each name, with one mark and its interval for each series.

    Args:
        series: By the series' name, its figures, as many as `names`; unknown ones leave a gap.
        lines: Where to draw a dotted line, such as the bound of what counts as reliable.
        ends: Of the axis; as the data ask by default.
    """
    scale = 100 if as_percent else 1
    shape = go.Figure()
    for place, (name, found) in enumerate(series.items()):
        offset = (place - (len(series) - 1) / 2) * 0.24
        known = [(row, one) for row, one in enumerate(found) if one.value is not None]
        middles = [scale * (one.value or 0.0) for _row, one in known]
        highs = [scale * _or(one.high, one.value) for _row, one in known]
        lows = [scale * _or(one.low, one.value) for _row, one in known]
        shape.add_scatter(
            x=middles, y=[row + offset for row, _one in known], name=name, mode="markers",
            marker={"size": 10, "symbol": _SYMBOLS[place % len(_SYMBOLS)]},
            error_x={
                "type": "data", "symmetric": False, "thickness": 2, "width": 5,
                "array": [high - m for high, m in zip(highs, middles, strict=True)],
                "arrayminus": [m - low for low, m in zip(lows, middles, strict=True)],
            },
            text=[f"{names[row]}: {between(one, as_percent=as_percent)} · n = {number(one.n)}"
                  for row, one in known],
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    for line in lines:
        shape.add_vline(x=scale * line, line_width=1.5, line_dash="dot", line_color=GREY)
    shape.update_layout(xaxis_title=x_title, hovermode="closest", showlegend=len(series) > 1)
    if ends is not None:
        shape.update_xaxes(range=[scale * end for end in ends])
    if as_percent:
        before, _half, after = percent(0.5).partition("50")
        shape.update_xaxes(tickprefix=before, ticksuffix=after)
    shape.update_yaxes(
        tickvals=list(range(len(names))), ticktext=[_cut(name) for name in names],
        range=[len(names) - 0.4, -0.6], showgrid=False, automargin=True, rangemode="normal",
    )  # fmt: skip
    charts.draw(shape, key=key, height_px=110 + ROW_PX * len(names))


def _or(value: float | None, otherwise: float | None) -> float:
    return value if value is not None else otherwise or 0.0


def _cut(name: str, chars: int = 26) -> str:
    """Plotly reads a little HTML in labels; a name is none."""
    short = name if len(name) <= chars else f"{name[: chars - 1]}…"
    return short.replace("&", "&amp;").replace("<", "&lt;")
