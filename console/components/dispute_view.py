"""A disagreement: what is disputed, what each annotator said, and the ways out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from console.components import chooser, diff, text
from console.i18n import number, t, when
from labeling.adjudication import Case, Dispute, Opinion, Settlement
from services.preferences.evidence import AiVerdict
from services.preferences.models import CRITERIA, PairStatus, Response

Act = Callable[..., None]
ABREAST = 3


def choose(found: Sequence[Dispute], *, asked: str | None) -> str:
    """Draw the queue; the id of the chosen pair."""
    return chooser.one(
        [one.pair_id for one in found],
        [
            {
                "question": text.shortened(one.question),
                "why": [t(f"disputes.{quarrel.value}") for quarrel in one.quarrels],
                "votes": one.votes,
                "language": one.language,
                "source": one.source,
            }
            for one in found
        ],
        columns={
            "question": st.column_config.Column(t("disputes.question"), width="large"),
            "why": st.column_config.ListColumn(t("disputes.why")),
            "votes": st.column_config.NumberColumn(t("disputes.votes"), width="small"),
            "language": st.column_config.Column(t("disputes.language"), width="small"),
            "source": t("disputes.source"),
        },
        key="agreement.disputes",
        asked=asked,
        height_px=190,
    )


def case(found: Case) -> None:
    """Draw prompt, answers and opinions; what the AI says stands closed below them."""
    text.turns(found.pair.prompt.turns, as_markdown=False)
    sides = ((t("review.left"), found.left), (t("review.right"), found.right))
    for column, (label, response) in zip(st.columns(2, gap="medium"), sides, strict=True):
        with column:
            note = t("review.edited", version=response.version) if response.version > 1 else ""
            text.answer(response.text, label=label, as_markdown=False, note=note)
            _edits(found, response)
    if not found.opinions:
        st.info(t("disputes.no_opinion"), icon=":material/edit_note:")
    for start in range(0, len(found.opinions), ABREAST):
        row = found.opinions[start : start + ABREAST]
        width = min(ABREAST, len(found.opinions))
        for column, opinion in zip(st.columns(width, gap="medium"), row, strict=False):
            with column, st.container(border=True, height="stretch"):
                _opinion(found, opinion)
    with st.expander(t("disputes.ai"), icon=":material/visibility_off:"):
        _ai(found)


def _edits(found: Case, response: Response) -> None:
    first = next((one for one in found.history.versions if one.id == response.root_id), None)
    if first is not None and response.version > 1:
        with st.expander(t("pairs.changes")):
            diff.draw(first.text, response.text)


def _opinion(found: Case, opinion: Opinion) -> None:
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.markdown(f"**{t('disputes.annotator', letter=opinion.letter)}**", width="content")
        if opinion.is_own:
            st.badge(t("disputes.own"), color="blue", icon=":material/person:")
        for flag in opinion.flags:
            st.badge(t(f"review.flag_{flag}"), color="orange", icon=":material/flag:")
    st.markdown(_said(found, opinion))
    if opinion.first is not None:
        st.caption(t("disputes.before", said=_said(found, opinion.first)))
    if opinion.note:
        st.html(text.html_of(opinion.note, as_markdown=False))
    else:
        st.caption(t("disputes.no_reason"))
    _ratings(found, opinion)


def _said(found: Case, opinion: Opinion) -> str:
    if opinion.strength is None:
        return t("disputes.said_both_bad")
    if opinion.preferred_response_id is None:
        return t("disputes.said_tie")
    side = "left" if opinion.preferred_response_id == found.left.id else "right"
    return t(f"disputes.said_{side}", grade=t(f"review.grade_{opinion.strength}").lower())


def _ratings(found: Case, opinion: Opinion) -> None:
    left, right = (opinion.ratings.get(one.id, {}) for one in (found.left, found.right))
    rated = [name for name in CRITERIA if name in left or name in right]
    if rated:
        st.dataframe(
            [
                {
                    "criterion": t(f"review.criterion_{name}"),
                    "left": str(left.get(name, "–")),
                    "right": str(right.get(name, "–")),
                }
                for name in rated
            ],
            column_config={
                "criterion": t("agreement.criterion"),
                "left": t("review.left"),
                "right": t("review.right"),
            },
            hide_index=True,
        )


def _ai(found: Case) -> None:
    if found.ai is None:
        st.caption(t("disputes.ai_silent"))
        return
    st.markdown(_ai_said(found, found.ai))
    if found.ai.is_stale:
        st.caption(t("disputes.ai_stale"))
    for judgment in found.history.judgments:
        first = judgment.first_response_id == found.left.id
        st.caption(t("disputes.ai_saw_left_first" if first else "disputes.ai_saw_right_first"))
        st.html(text.html_of(judgment.reason, as_markdown=False))


def _ai_said(found: Case, ai: AiVerdict) -> str:
    if ai.is_consistent is False:
        return t("disputes.ai_inconsistent")
    if ai.preferred_response_id is None:
        return t("disputes.said_tie")
    side = "left" if ai.preferred_response_id == found.left.id else "right"
    said = t(f"disputes.said_{side}", grade=t(f"review.grade_{ai.strength}").lower())
    if ai.margin is None:
        return said
    return t("disputes.ai_margin", said=said, margin=number(ai.margin, 1))


def ways_out(found: Case, *, settle: Act, ask_again: Act, later: Act | None) -> None:
    """Draw the reason and the decisions; a key's meaning stands on its button."""
    pair_id = found.pair.id
    reason = f"agreement.reason.{pair_id}"
    buttons: tuple[tuple[str, str, str, Act, tuple[object, ...]], ...] = (
        ("left", "1", "arrow_back", settle, (found.left.id,)),
        ("right", "2", "arrow_forward", settle, (found.right.id,)),
        ("neither", "3", "block", settle, (None,)),
        ("ask_again", "4", "person_add", ask_again, ()),
    )
    with st.form(f"agreement.settle.{pair_id}", border=False):
        st.text_area(
            t("disputes.reason"), key=reason, height=80, placeholder=t("disputes.reason_example")
        )
        with st.container(horizontal=True, gap="xsmall"):
            for name, key, icon, act, args in buttons:
                st.form_submit_button(
                    t(f"disputes.{name}"), key=f"agreement.{name}.{pair_id}", shortcut=key,
                    icon=f":material/{icon}:", on_click=act, args=(pair_id, reason, *args),
                )  # fmt: skip
    if later is not None:
        st.button(
            t("disputes.later"), key="agreement.later", shortcut="S", type="tertiary",
            icon=":material/skip_next:", on_click=later,
        )  # fmt: skip


def settled(found: Sequence[Settlement], zone: str, *, reopen: Act) -> None:
    """Draw what was settled; the chosen one can be reopened."""
    chosen = chooser.one(
        [one.pair_id for one in found],
        [
            {
                "question": text.shortened(one.question, 80),
                "verdict": t(f"disputes.settled_{_outcome(one)}"),
                "reason": text.shortened(one.reason),
                "by": t("disputes.you") if one.by_reader else t("disputes.colleague"),
                "at": when(one.at, zone),
            }
            for one in found
        ],
        columns={
            "question": st.column_config.Column(t("disputes.question"), width="medium"),
            "verdict": t("disputes.verdict"),
            "reason": st.column_config.Column(t("disputes.reason"), width="large"),
            "by": t("disputes.by"),
            "at": t("disputes.at"),
        },
        key="agreement.settled",
    )
    with st.form("agreement.reopen", border=False):
        st.text_input(t("disputes.reopen_reason"), key="agreement.reopen_reason")
        st.form_submit_button(
            t("disputes.reopen"), key="agreement.reopen_now", icon=":material/undo:",
            on_click=reopen, args=(chosen, "agreement.reopen_reason"),
        )  # fmt: skip


def _outcome(one: Settlement) -> str:
    return "approved" if one.verdict is PairStatus.APPROVED else "rejected"
