"""Review: one pair after another, which answer is better, by keyboard."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import empty, errors, heading, review_card
from console.i18n import t
from labeling.models import Card, Progress, Verdict

NOTE = "review.note"
LAST = "review.last"


@errors.guarded
def vote(pair_id: str, verdict: Verdict) -> None:
    """Store a verdict: -3 (left much better) to 3 (right much better), or both are bad."""
    if state.get(LAST) == pair_id:
        return  # the key was struck twice before the next card stood there
    wiring.review_queue().vote(
        auth.actor(),
        state.require_tenant(),
        pair_id,
        verdict=verdict,
        note=state.get(NOTE, ""),
        active_ms=review_card.active_ms(pair_id),
    )
    next_please(pair_id)


@errors.guarded
def skip(pair_id: str) -> None:
    """Leave the card to others."""
    if state.get(LAST) == pair_id:
        return
    note = state.get(NOTE, "")
    wiring.review_queue().skip(auth.actor(), state.require_tenant(), pair_id, reason=note)
    next_please(pair_id)


@errors.guarded
def undo() -> None:
    """Take back the latest vote, skip or edit."""
    next_please("")
    if wiring.review_queue().undo(auth.actor(), state.require_tenant()) is None:
        errors.leave(t("review.nothing_to_undo"), "info")


@errors.guarded
def save(pair_id: str, response_id: str, field: str) -> None:
    """Store a mended answer as a new version; the card stays."""
    wiring.review_queue().edit(
        auth.actor(), state.require_tenant(), pair_id, response_id, state.get(field, "")
    )
    state.put(review_card.EDITING, False)


def next_please(pair_id: str) -> None:
    """Begin the next card with no note and the plain view, and remember which one is done."""
    state.put(LAST, pair_id)
    state.put(NOTE, "")
    state.put(review_card.EDITING, False)
    state.put(review_card.COMPARING, False)


def progress(done: Progress) -> None:
    """How much is left, and this person's share."""
    reviewed = done.approved + done.rejected
    st.progress(
        reviewed / done.total,
        text=t("review.progress", reviewed=reviewed, total=done.total, mine=done.mine),
    )


def finished(done: Progress) -> None:
    """Say why there is no card."""
    if not done.total:
        empty.draw(t("review.empty"), t("review.empty_text"), icon="inbox")
        return
    if done.with_others:
        text = t("review.with_others_text", count=done.with_others)
        empty.draw(t("review.with_others"), text, icon="groups")
    elif done.unreviewed:
        text = t("review.only_skipped_text", count=done.unreviewed)
        empty.draw(t("review.only_skipped"), text, icon="skip_next")
    else:
        empty.draw(t("review.done"), t("review.done_text", count=done.total), icon="task_alt")
    review_card.undo_alone(undo)


def on_card(card: Card) -> None:
    """Draw the card with either its verdicts or its editors."""
    if state.get(review_card.EDITING):
        review_card.prompt(card)
        review_card.editor(card, save)
        return
    review_card.draw(card)
    review_card.verdicts(card, vote)
    st.text_input(
        t("review.note"), key=NOTE, placeholder=t("review.note"), label_visibility="collapsed"
    )
    review_card.actions(card, vote=vote, skip=skip, undo=undo)


@st.fragment
def desk() -> None:
    """The part that is drawn again after each key; the rest of the page stays."""
    with errors.shown():
        errors.notices()
        actor, tenant_id = auth.actor(), state.require_tenant()
        queue = wiring.review_queue()
        card = queue.next_card(actor, tenant_id)
        done = queue.progress(actor, tenant_id)
        above = st.container()
        if card is None:
            finished(done)
        else:
            on_card(card)
        if done.total:
            with above:  # last: whoever sees the count rise has the next card's keys
                progress(done)


heading.draw(t("nav.review"), t("review.caption"))
desk()
