"""Several adapters beside each other: a table with intervals, a forest plot, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from console.components import charts, chooser, diff, text, verdict
from console.components.verdict import GREY
from console.i18n import number, percent, t
from services.evaluation.comparing import BASE, Texts
from services.evaluation.comparison import Comparison, PromptChange, Row
from services.evaluation.findings import Range
from services.evaluation.gate import gate
from services.evaluation.models import Evaluation, Summary
from services.preferences.models import Turn

MEASURES = ("accuracy", "margin", "shift")
MAX_PROMPTS = 500
"""So many prompts are listed, the worst ones; the CSV file holds all."""


def against_name(against: str) -> str:
    """What the adapters are compared with, as people read it."""
    return t("compare.base") if against == BASE else against


def table_rows(found: Comparison) -> list[dict[str, Any]]:
    """The cells of the table, as they are read."""
    return [
        {
            "adapter": row.adapter,
            "verdict": verdict.word(row.verdict),
            "accuracy": percent(row.accuracy, 1),
            "against": percent(row.against, 1),
            "interval": t(
                "evaluate.between", low=verdict.signed(row.low), high=verdict.signed(row.high)
            ),
            "changed": t("evaluate.gained_lost", gained=row.gained, lost=row.lost),
            "p": number(row.p_adjusted, 4),
            "margin": ranged(row.margin, 2),
            "shift": ranged(row.chosen_shift, 3),
            "detectable": "–"
            if row.minimum_detectable is None
            else percent(row.minimum_detectable, 1),
        }
        for row in found.rows
    ]


def table_names() -> dict[str, str]:
    """The names of the table's columns."""
    return {
        "adapter": t("compare.adapter"),
        "verdict": t("compare.verdict"),
        "accuracy": t("compare.accuracy"),
        "against": t("compare.against_accuracy"),
        "interval": t("compare.interval"),
        "changed": t("compare.changed"),
        "p": t("compare.p_adjusted"),
        "margin": t("compare.margin"),
        "shift": t("compare.shift"),
        "detectable": t("compare.detectable"),
    }


def table(found: Comparison) -> None:
    """Draw the adapters against what they are compared with."""
    st.dataframe(table_rows(found), column_config=table_names(), hide_index=True)


def ranged(found: Range, digits: int) -> str:
    """A mean with its interval, as it is read."""
    if found.low is None or found.high is None:
        return number(found.mean, digits)
    between = t("evaluate.between", low=number(found.low, digits), high=number(found.high, digits))
    return f"{number(found.mean, digits)} ({between})"


def span(row: Row, measure: str) -> tuple[float, float, float]:
    """Middle, lower and upper bound of one measure, in the unit of its axis."""
    if measure == "accuracy":
        return 100 * row.difference, 100 * row.low, 100 * row.high
    found = row.margin if measure == "margin" else row.chosen_shift
    low = found.mean if found.low is None else found.low
    high = found.mean if found.high is None else found.high
    return found.mean, low, high


def forest(found: Comparison, measure: str) -> None:
    """Draw one measure's differences with their intervals, and the line of no difference."""
    spans = [span(row, measure) for row in found.rows]
    figure = go.Figure(
        go.Scatter(
            x=[middle for middle, _low, _high in spans],
            y=[row.adapter for row in found.rows],
            mode="markers",
            marker={"size": 12, "symbol": "diamond"},
            error_x={
                "type": "data", "symmetric": False, "thickness": 2, "width": 7,
                "array": [high - middle for middle, _low, high in spans],
                "arrayminus": [middle - low for middle, low, _high in spans],
            },
            hovertemplate="%{y}: %{x:+.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vline(x=0, line_width=1.5, line_dash="dot", line_color=GREY)
    # Said above the chart: as the axis's title it would be cut off on a phone.
    st.caption(t(f"compare.axis_{measure}"))
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(
        autorange="reversed", showgrid=False, automargin=True,
        **charts.name_marks([row.adapter for row in found.rows]),
    )  # fmt: skip
    charts.draw(figure, key="compare.forest", height_px=110 + 46 * len(found.rows))


def beside_rows(chosen: Sequence[Evaluation]) -> list[dict[str, str]]:
    """What each adapter lost or gained beside the held-out pairs, as it is read."""
    return [
        {"adapter": one.adapter, "gate": _gate(one), **_beside(one.summary)}
        for one in chosen
        if one.summary is not None
    ]


def beside_names() -> dict[str, str]:
    """The names of that table's columns."""
    names = (
        "adapter", "gate", "perplexity", "tasks", "judge", "rouge", "bleu", "repeating", "speed",
        "length", "cost",
    )  # fmt: skip
    return {name: t(f"compare.{name}") for name in names}


def beside(chosen: Sequence[Evaluation]) -> None:
    """Draw what each adapter lost or gained beside the held-out pairs."""
    st.dataframe(beside_rows(chosen), column_config=beside_names(), hide_index=True)


def _gate(one: Evaluation) -> str:
    return t("compare.gate_passed" if gate(one).passed else "compare.gate_failed")


def _beside(summary: Summary) -> dict[str, str]:
    found = dict.fromkeys(("perplexity", "tasks", "judge", "rouge", "bleu"), "–")
    found |= dict.fromkeys(("speed", "length", "cost"), "–")
    if summary.texts is not None:
        found["perplexity"] = _arrow(
            number(summary.texts.base_perplexity, 1), number(summary.texts.adapter_perplexity, 1)
        )
    if summary.tasks:
        n = sum(task.n for task in summary.tasks)
        base = sum(task.base * task.n for task in summary.tasks) / n
        found["tasks"] = _arrow(
            percent(base, 1), percent(sum(task.adapter * task.n for task in summary.tasks) / n, 1)
        )
    if (judged := summary.judged) is not None:
        between = t(
            "evaluate.between",
            low=percent(judged.controlled_low), high=percent(judged.controlled_high),
        )  # fmt: skip
        found["judge"] = f"{percent(judged.controlled)} ({between})"
    if (overlap := summary.overlap) is not None:
        found["rouge"] = _arrow(number(overlap.rouge_l.base, 2), number(overlap.rouge_l.adapter, 2))
        found["bleu"] = _arrow(number(overlap.bleu.base, 2), number(overlap.bleu.adapter, 2))
    repeating = f"{summary.adapter_degenerate} / {summary.n_answers}"
    return {**found, **_speed(summary), "repeating": repeating}


def _speed(summary: Summary) -> dict[str, str]:
    found = summary.speed
    if found is None:
        return {}
    shown = {"length": ranged(found.tokens, 1)}
    if found.base_tokens_per_s is not None and found.adapter_tokens_per_s is not None:
        shown["speed"] = _arrow(number(found.base_tokens_per_s), number(found.adapter_tokens_per_s))
    if found.base_cost_micro is not None and found.adapter_cost_micro is not None:
        shown["cost"] = _arrow(
            number(found.base_cost_micro / 1_000, 4), number(found.adapter_cost_micro / 1_000, 4)
        )
    return shown


def _arrow(base: str, adapter: str) -> str:
    return f"{base} → {adapter}"


def prompts(found: Comparison, texts: Texts) -> None:
    """Draw the prompts, the worst changes first, and the chosen one in full."""
    shown = found.prompts[:MAX_PROMPTS]
    names = [row.adapter for row in found.rows]
    chosen = chooser.one(
        [one.prompt_key for one in shown],
        [
            {
                "prompt": text.shortened(question(one, texts)),
                "language": one.label.language or "–",
                "topic": one.label.topic or "–",
                **{name: round(one.change(name), 2) for name in names},
            }
            for one in shown
        ],
        columns={
            "prompt": st.column_config.Column(t("compare.prompt"), width="large"),
            "language": t("compare.language"),
            "topic": t("compare.topic"),
        },
        key="compare.prompts",
    )
    one_prompt(next(one for one in shown if one.prompt_key == chosen), found, texts)


def question(one: PromptChange, texts: Texts) -> str:
    """The last thing that a prompt says; untrusted."""
    pair = texts.pairs.get(one.pair_ids[0])
    return t("compare.no_prompt") if pair is None else str(pair.prompt[-1]["content"])


def one_prompt(one: PromptChange, found: Comparison, texts: Texts) -> None:
    """Draw one prompt: its pair, and what the models answered, word by word. All untrusted."""
    pair = texts.pairs.get(one.pair_ids[0])
    with st.container(border=True):
        if pair is None:
            st.caption(t("compare.no_prompt"))
        else:
            _turns(pair.prompt)
            st.caption(t("compare.chosen_rejected"))
            diff.draw(pair.rejected[-1]["content"], pair.chosen[-1]["content"])
        drawn = [_answers(row.adapter, one, found, texts) for row in found.rows]
        if not any(drawn):
            st.caption(t("compare.no_answer"))


def _answers(adapter: str, one: PromptChange, found: Comparison, texts: Texts) -> bool:
    own = texts.answers.get(adapter, {}).get(one.prompt_key)
    if own is None:
        return False
    before = own.base
    label = t("compare.answers_from", adapter=text.plain(adapter))
    if found.against != BASE:
        other = texts.answers.get(found.against, {}).get(one.prompt_key)
        if other is None:
            return False
        before = other.adapter
        label = t(
            "compare.answers_between",
            adapter=text.plain(adapter), against=text.plain(found.against),
        )  # fmt: skip
    st.caption(label)
    diff.draw(before, own.adapter)
    return True


def _turns(prompt: Sequence[Mapping[str, str]]) -> None:
    turns = [Turn(message["role"], message["content"]) for message in prompt]
    text.turns(turns, as_markdown=False)
