"""One look for every Plotly chart, light and dark.

Streamlit's own Plotly theme already takes fonts and colours from `config.toml`; this adds the
calm: no frame, few lines, the legend above, one hover box for all lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from console.i18n import language, percent

HEIGHT_PX = 300


def draw(figure: go.Figure, *, key: str, height_px: int = HEIGHT_PX) -> None:
    """Draw one chart over the full width.

    Args:
        key: Unique on the page: keeps zoom and hidden lines over reruns.
    """
    figure.update_layout(
        height=height_px,
        margin={"l": 8, "r": 8, "t": 28, "b": 8},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None},
        hovermode="x unified",
        bargap=0.35,
        separators=",." if language() == "tr" else ".,",
    )
    figure.update_xaxes(showgrid=False, zeroline=False, exponentformat="none")
    figure.update_yaxes(zeroline=False, exponentformat="none")
    st.plotly_chart(figure, key=key, config={"displayModeBar": False, "scrollZoom": False})


def percents(*marks: int, scale: float = 1.0) -> dict[str, list[Any]]:
    """Marks of an axis in percent, written as the language writes them.

    Args:
        scale: How many percent one unit of the axis is.
    """
    return {
        "tickvals": [mark / scale for mark in marks],
        "ticktext": [percent(mark / 100) for mark in marks],
    }


def name_marks(names: Sequence[str], chars: int = 28) -> dict[str, list[str]]:
    """Marks of an axis of names, long ones cut in the middle: adapters differ at their end.

    Plotly reads a little HTML in labels; a name is none.
    """
    half = (chars - 1) // 2
    short = [one if len(one) <= chars else f"{one[:half]}…{one[-half:]}" for one in names]
    return {
        "tickvals": list(names),
        "ticktext": [one.replace("&", "&amp;").replace("<", "&lt;") for one in short],
    }


def line(
    series: dict[str, tuple[list[Any], list[float]]], *, x_title: str, y_title: str
) -> go.Figure:
    """Lines over one axis.

    Args:
        series: Name of each line, its x values and its y values (of equal length).
    """
    figure = go.Figure(
        [go.Scatter(x=x, y=y, name=name, mode="lines") for name, (x, y) in series.items()]
    )
    return figure.update_layout(
        xaxis_title=x_title, yaxis_title=y_title, showlegend=len(series) > 1
    )


def bars(series: dict[str, tuple[list[Any], list[float]]], *, y_title: str) -> go.Figure:
    """Bars side by side, or stacked where there are several series.

    Args:
        series: Name of each series, its categories and its values (of equal length).
    """
    figure = go.Figure([go.Bar(x=x, y=y, name=name) for name, (x, y) in series.items()])
    return figure.update_layout(barmode="stack", yaxis_title=y_title, showlegend=len(series) > 1)
