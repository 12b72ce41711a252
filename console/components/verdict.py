"""What an evaluation concluded, in the reader's language: verdict, reasons of the gate, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import plotly.graph_objects as go
import streamlit as st

from console.components import charts
from console.components.text import plain
from console.i18n import has, number, percent, t
from services.evaluation.gate import gate
from services.evaluation.models import Evaluation, PairScore, Summary, Verdict
from services.evaluation.policy import Shortfall

GREY = "rgba(128, 136, 132, 0.7)"
"""Lines that must be seen on light and dark alike."""

Colour = Literal["green", "red", "blue", "gray"]
_LOOKS: dict[Verdict, tuple[Colour, str]] = {
    Verdict.BETTER: ("green", "trending_up"),
    Verdict.WORSE: ("red", "trending_down"),
    Verdict.NON_INFERIOR: ("blue", "trending_flat"),
    Verdict.INCONCLUSIVE: ("gray", "help"),
}
_KINDS: tuple[tuple[str, str, bool, bool], ...] = (
    ("gained", "triangle-up", False, True),
    ("lost", "triangle-down", True, False),
    ("both_right", "circle", True, True),
    ("both_wrong", "x", False, False),
)


def word(verdict: Verdict) -> str:
    """A verdict in one or two words."""
    return t(f"verdict.{verdict.name.lower()}")


def badge(verdict: Verdict) -> None:
    """Draw a verdict by sign, word and colour."""
    colour, icon = _LOOKS[verdict]
    st.badge(word(verdict), color=colour, icon=f":material/{icon}:")


def sentence(summary: Summary) -> str:
    """The verdict with its interval and n."""
    said = t(
        f"verdict.{summary.verdict.name.lower()}_sentence",
        base=percent(summary.base_accuracy, 1),
        adapter=percent(summary.adapter_accuracy, 1),
        low=signed(summary.accuracy_low),
        high=signed(summary.accuracy_high),
        count=summary.n_prompts,
    )
    if summary.verdict is not Verdict.INCONCLUSIVE:
        return said
    if summary.minimum_detectable is None:
        return f"{said} {t('verdict.too_few')}"
    return f"{said} {t('verdict.detectable', share=percent(summary.minimum_detectable, 1))}"


def signed(share: float) -> str:
    """A difference of shares with its sign."""
    sign = "+" if share > 0 else "\N{MINUS SIGN}" if share < 0 else ""
    return sign + percent(abs(share), 1)


def gate_reasons(evaluation: Evaluation | None) -> list[str]:
    """Why a promotion needs a stated reason; empty where the gate is passed. Markdown is escaped."""
    judged = gate(evaluation)
    if judged.passed:
        return []
    if evaluation is None:
        return [t("verdict.never_evaluated")]
    if evaluation.summary is None:
        return [t("verdict.not_finished")]
    return [reason(found, evaluation.summary) for found in judged.shortfalls]


def reason(found: Shortfall, summary: Summary) -> str:
    """One thing that an adapter has not shown, in the reader's language; Markdown is escaped."""
    if found.code == "quality":
        return sentence(summary)
    key = f"verdict.{found.code if found.code in _OWN_WORDS else f'gate_{found.code}'}"
    if not has(key):
        return plain(found.sentence)
    shown = {name: _value(found.code, name, value) for name, value in found.values.items()}
    return t(key, **shown)


_OWN_WORDS = {"displaced", "degenerate"}


def _value(code: str, name: str, value: Any) -> Any:
    if name == "task":
        return task_name(str(value))
    if not isinstance(value, float):
        return value
    if code in {"texts", "displaced"}:
        return number(value, 3 if code == "displaced" else 1)
    return percent(value, 1)


def task_name(task: str) -> str:
    """A task in words; its own name where we have none."""
    key = f"evaluate.task_{task.removeprefix('param_')}"
    return t(key) if has(key) else plain(task)


def forest(rows: Sequence[tuple[str, Summary]], *, key: str) -> None:
    """Draw the differences of accuracy with their intervals, and the line of no difference."""
    names = [name for name, _summary in rows]
    middles = [100 * summary.accuracy_difference for _name, summary in rows]
    figure = go.Figure(
        go.Scatter(
            x=middles,
            y=names,
            mode="markers",
            marker={"size": 12, "symbol": "diamond"},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [100 * s.accuracy_high - m for (_n, s), m in zip(rows, middles, strict=True)],
                "arrayminus": [m - 100 * s.accuracy_low for (_n, s), m in zip(rows, middles, strict=True)],
                "thickness": 2,
                "width": 7,
            },
            hovertemplate="%{y}: %{x:+.1f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vline(x=0, line_width=1.5, line_dash="dot", line_color=GREY)
    # Said above the chart: as the axis's title it would be cut off on a phone.
    st.caption(t("verdict.difference_axis"))
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(
        autorange="reversed", showgrid=False, automargin=True, **charts.name_marks(names)
    )
    charts.draw(figure, key=key, height_px=110 + 46 * len(rows))


def margins(scores: Sequence[PairScore], *, key: str) -> None:
    """Draw each held-out pair: its margin under the base (across) and under the adapter (up).

    Signs tell the four kinds of pairs apart, not colour alone; above the diagonal the adapter
    prefers the chosen answer more than the base does.
    """
    figure = go.Figure()
    for kind, symbol, base_right, adapter_right in _KINDS:
        found = [
            score
            for score in scores
            if (score.base_margin > 0) is base_right and (score.adapter_margin > 0) is adapter_right
        ]
        figure.add_scatter(
            x=[score.base_margin for score in found],
            y=[score.adapter_margin for score in found],
            mode="markers",
            name=f"{t(f'verdict.kind_{kind}')} ({len(found)})",
            marker={"symbol": symbol, "size": 9, "opacity": 0.8},
            hovertemplate="%{x:.2f} → %{y:.2f}<extra></extra>",
        )
    ends = [value for s in scores for value in (s.base_margin, s.adapter_margin)]
    low, high = min(ends, default=-1.0), max(ends, default=1.0)
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", name=t("verdict.no_change"),
        line={"dash": "dot", "width": 1, "color": GREY}, hoverinfo="skip",
    )  # fmt: skip
    figure.add_vline(x=0, line_width=1, line_color=GREY)
    figure.add_hline(y=0, line_width=1, line_color=GREY)
    figure.update_layout(
        xaxis_title=t("verdict.base_margin"), yaxis_title=t("verdict.adapter_margin")
    )
    charts.draw(figure, key=key, height_px=420)
