"""What base and adapter answered to the same prompts, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import state
from console.components import text
from console.i18n import number, t
from services.evaluation.models import AnswerPair
from services.preferences.models import Turn

PER_PAGE = 3


def draw(answers: Sequence[AnswerPair]) -> None:
    """Draw the answers, a few at a time. All of it is model text."""
    repeating = [
        answer for answer in answers if answer.base_degenerate or answer.adapter_degenerate
    ]
    shown: Sequence[AnswerPair] = answers
    if repeating and len(repeating) < len(answers):
        only = st.toggle(
            t("evaluate.only_repeating", count=len(repeating)),
            key="evaluate.only_repeating",
            on_change=state.put,
            args=("evaluate.answers_page", 1),
        )
        shown = repeating if only else answers
    last = -(-len(shown) // PER_PAGE)
    page = min(int(state.get("evaluate.answers_page", 1)), last)
    for answer in shown[(page - 1) * PER_PAGE : page * PER_PAGE]:
        _one(answer)
    if last > 1:
        st.pagination(last, key="evaluate.answers_page")


def _one(answer: AnswerPair) -> None:
    with st.container(border=True):
        turns = [Turn(message["role"], message["content"]) for message in answer.prompt]
        text.turns(turns, as_markdown=False)
        left, right = st.columns(2, gap="medium")
        with left:
            text.answer(
                answer.base, label=_label(t("evaluate.base"), answer.base_tokens),
                as_markdown=False, note=_note(answer.base_degenerate),
            )  # fmt: skip
        with right:
            text.answer(
                answer.adapter, label=_label(t("evaluate.adapter"), answer.adapter_tokens),
                as_markdown=False, note=_note(answer.adapter_degenerate),
            )  # fmt: skip


def _label(name: str, tokens: int) -> str:
    return t("evaluate.with_tokens", name=name, tokens=number(tokens))


def _note(degenerate: bool) -> str:
    return t("evaluate.repeats") if degenerate else ""
