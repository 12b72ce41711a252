"""Review: one pair after another, which answer is better, by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import streamlit as st

from console import auth, state, wiring
from console.components import desk, errors, heading, my_meters, text
from console.components.desk import kept, sitting, standing
from console.components.desk.acts import Act
from console.components.desk.card import as_data
from console.i18n import language, t


def vote(act: Act) -> None:
    """Store a verdict and have the next card come."""
    review = wiring.review_queue().vote(
        auth.actor(),
        state.require_tenant(),
        act.pair,
        shown=(act.left, act.right),
        **sitting.ballot(act),
    )
    sitting.tell(act, review)
    sitting.forget()


def revise(_act: Act) -> None:
    """Have the last pair come back, with what the AI had said."""
    if found := sitting.last():
        state.put(sitting.AGAIN, found["pair"])
    else:
        errors.leave(t("review.nothing_to_revise"), "info")


def revote(act: Act) -> None:
    """Put another verdict in the place of the last one."""
    queue, actor, tenant_id = wiring.review_queue(), auth.actor(), state.require_tenant()
    old = queue.reveal(actor, tenant_id, act.pair)
    review = queue.revise(actor, tenant_id, old.review_id or "", **sitting.ballot(act))
    sitting.tell(act, review)
    sitting.forget()


def skip(act: Act) -> None:
    """Leave the card to others."""
    wiring.review_queue().skip(auth.actor(), state.require_tenant(), act.pair, act.reason, act.note)
    sitting.forget()


def undo(_act: Act) -> None:
    """Take back the latest vote, revision, skip or edit."""
    card = wiring.review_queue().undo(auth.actor(), state.require_tenant())
    sitting.forget()
    state.drop(sitting.LAST)
    if card is None:
        errors.leave(t("review.nothing_to_undo"), "info")
    elif card.review_id is not None:
        state.put(sitting.AGAIN, card.pair_id)


def save(act: Act) -> None:
    """Store a mended answer as a new version; the card stays, and so does what else was typed."""
    draft(act)
    wiring.review_queue().edit(
        auth.actor(), state.require_tenant(), act.pair, act.response, act.text, reason=act.reason
    )
    state.put(sitting.EDITING, False)


def draft(act: Act) -> None:
    """Keep what is typed; the editor stays."""
    for response_id, typed in act.drafts.items():
        wiring.review_queue().keep_draft(
            auth.actor(), state.require_tenant(), act.pair, response_id, typed
        )


def close(act: Act) -> None:
    """Leave the editor and keep what is typed."""
    draft(act)
    state.put(sitting.EDITING, False)


def turn(key: str, _act: Act) -> None:
    """Turn a view on or off."""
    sitting.turn(key)


ACTS: Mapping[str, Callable[[Act], None]] = {
    "vote": vote, "revise": revise, "revote": revote, "skip": skip, "undo": undo,
    "edit": partial(turn, sitting.EDITING), "save": save, "draft": draft, "close": close,
    "markdown": partial(turn, sitting.MARKDOWN), "whole": partial(turn, sitting.WHOLE),
    "difference": partial(turn, sitting.DIFFERENCE),
    "keep": lambda _act: sitting.forget(),
    "touch": lambda _act: None,  # drawing the card renews it
}  # fmt: skip


@errors.guarded
def acted() -> None:
    """Do what the browser says that the person did."""
    if act := desk.act():
        ACTS[act.do](act)


@st.fragment
def review() -> None:
    """The part that is drawn again after each act; the rest of the page stays."""
    with errors.shown():
        notices = st.container()
        card, last = sitting.card(), sitting.last()
        actor, tenant_id = auth.actor(), state.require_tenant()
        done = wiring.review_queue().progress(actor, tenant_id)
        guidelines = wiring.policies().get(actor, tenant_id).guidelines.get(language(), "")
        desk.mount(
            acted,
            card=as_data(card, sitting.view(), sitting.mode(card), vote=last) if card else None,
            empty=None if card else standing.why_none(done),
            last=last["strip"] if last else None,
            progress=standing.progress(done),
            guidelines=text.html_of(guidelines, as_markdown=True) if guidelines else "",
        )
        kept.draw(card.pair_id if card else "")
        with notices:
            errors.notices()


@st.fragment
def meters() -> None:
    """The person's own figures, asked for only while they are looked at."""
    with errors.shown():
        opened = st.popover(t("review.my_meters"), icon=":material/speed:", type="tertiary",
                            key="review.meters", on_change="rerun")  # fmt: skip
        if opened.open:
            with opened:
                my_meters.draw(auth.actor(), state.require_tenant())


heading.draw(t("nav.review"), t("review.caption"))
review()
meters()
