"""What an evaluation found beside the held-out pairs: texts, references, tasks, judge, speed."""

from __future__ import annotations

from collections.abc import Iterator

import streamlit as st

from console.components import figures, heading, verdict
from console.components.compare_view import ranged
from console.components.text import plain
from console.i18n import number, percent, t
from services.evaluation.findings import JudgeFinding, SpeedFinding, TaskFinding
from services.evaluation.models import Summary


def draw(summary: Summary) -> None:
    """Draw all of it; nothing where nothing was measured."""
    rows = list(_rows(summary))
    if not (rows or summary.tasks or summary.judged):
        return
    heading.section(t("evaluate.beside"), t("evaluate.beside_caption"))
    if rows:
        st.dataframe(
            [{"what": what, "base": base, "adapter": adapter} for what, base, adapter in rows],
            column_config={
                "what": st.column_config.Column(t("evaluate.beside"), width="large"),
                "base": t("evaluate.base"),
                "adapter": t("evaluate.adapter"),
            },
            hide_index=True,
        )
    if summary.tasks:
        _tasks(summary.tasks)
    if summary.judged is not None:
        _judge(summary.judged)


def _rows(summary: Summary) -> Iterator[tuple[str, str, str]]:
    if (texts := summary.texts) is not None:
        yield (
            t("evaluate.perplexity"),
            number(texts.base_perplexity, 1),
            number(texts.adapter_perplexity, 1),
        )
        change = t("evaluate.perplexity_change", count=texts.n_texts)
        yield change, "–", ranged(texts.change, 3)
    if (overlap := summary.overlap) is not None:
        for name, found in (("rouge", overlap.rouge_l), ("bleu", overlap.bleu)):
            label = t(f"evaluate.{name}", count=overlap.n)
            yield label, number(found.base, 3), number(found.adapter, 3)
    if summary.speed is not None:
        yield from _speed(summary.speed)


def _speed(found: SpeedFinding) -> Iterator[tuple[str, str, str]]:
    if found.base_tokens_per_s is not None and found.adapter_tokens_per_s is not None:
        rates = (found.base_tokens_per_s, found.adapter_tokens_per_s)
        yield t("evaluate.speed"), number(rates[0], 1), number(rates[1], 1)
    yield t("evaluate.length"), "–", ranged(found.tokens, 1)
    if found.base_cost_micro is not None and found.adapter_cost_micro is not None:
        costs = (found.base_cost_micro / 1_000, found.adapter_cost_micro / 1_000)
        yield t("evaluate.cost"), number(costs[0], 4), number(costs[1], 4)


def _tasks(tasks: tuple[TaskFinding, ...]) -> None:
    st.caption(t("evaluate.tasks_caption"))
    st.dataframe(
        [
            {
                "task": verdict.task_name(one.task),
                "verdict": verdict.word(one.verdict),
                "base": percent(one.base, 1),
                "adapter": percent(one.adapter, 1),
                "interval": t(
                    "evaluate.between",
                    low=verdict.signed(one.low), high=verdict.signed(one.high),
                ),
                "p": number(one.p_adjusted, 3),
                "n": one.n,
            }
            for one in tasks
        ],
        column_config={
            "task": st.column_config.Column(t("evaluate.task"), width="medium"),
            "verdict": t("evaluate.verdict"),
            "base": t("evaluate.base"),
            "adapter": t("evaluate.adapter"),
            "interval": t("evaluate.difference"),
            "p": t("evaluate.p_adjusted"),
            "n": t("evaluate.documents"),
        },
        hide_index=True,
    )  # fmt: skip


def _judge(found: JudgeFinding) -> None:
    heading.section(
        t("evaluate.judge"),
        t("evaluate.judge_caption", judge=plain(found.judge), count=found.n),
    )
    between = t(
        "evaluate.between",
        low=percent(found.controlled_low), high=percent(found.controlled_high),
    )  # fmt: skip
    figures.draw(
        [
            (t("evaluate.judge_wins"), f"{found.wins} / {found.ties} / {found.losses}"),
            (t("evaluate.judge_rate"), percent(found.win_rate.mean, 1)),
            (t("evaluate.judge_controlled"), f"{percent(found.controlled, 1)} ({between})"),
            (t("evaluate.judge_turned"), number(found.inconsistent)),
            (t("evaluate.judge_length"), number(found.length_ratio, 2)),
            (t("evaluate.judge_failed"), number(found.failed)),
            *([(t("evaluate.judge_unasked"), number(found.unasked))] if found.unasked else []),
        ],
        columns=3,
    )
