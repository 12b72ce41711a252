"""What one browser session remembers of its work at the desk, and which card is its next."""

from __future__ import annotations

import time
from typing import Any

from console import auth, state, wiring
from console.components import errors
from console.components.desk import reveal
from console.components.desk.acts import Act
from console.components.desk.card import Mode, View
from console.i18n import t
from labeling.models import Card
from services.errors import ConsoleError
from services.preferences.models import Review

MARKDOWN, DIFFERENCE, WHOLE = "review.markdown", "review.difference", "review.whole"
EDITING = "review.editing"

AGAIN = "review.again"
"""Id of the pair whose vote is being revised."""

LAST = "review.last"
"""The latest vote as it was told, with the strip about it."""

KEPT = "review.kept"
"""Whether there may be drafts of pairs that are not on the desk."""

_SHOWN = "review.shown"
"""Tenant and pair of the card on the screen, and since when."""


def view() -> View:
    """How texts are drawn at present."""
    return View(*(bool(state.get(key)) for key in (MARKDOWN, DIFFERENCE, WHOLE)))


def turn(key: str) -> None:
    """Turn a view or the editor on or off."""
    state.put(key, not state.get(key, False))


def card() -> Card | None:
    """The card that is to be on the screen; leaves a notice where it went to somebody else."""
    actor, tenant_id, queue = auth.actor(), state.require_tenant(), wiring.review_queue()
    if again := state.get(AGAIN):
        try:
            return queue.reveal(actor, tenant_id, again)
        except ConsoleError as error:
            errors.leave_refusal(error)
            forget()
    found = queue.next_card(actor, tenant_id)
    pair_id = found.pair_id if found else ""
    tenant_before, pair_before, _since = state.get(_SHOWN, ("", "", 0.0))
    if (tenant_before, pair_before) == (tenant_id, pair_id):
        return found
    if pair_before and tenant_before == tenant_id:
        errors.leave(t("review.draft_kept" if state.get(EDITING) else "review.moved_on"), "warning")
        state.put(KEPT, True)
    forget()
    state.put(_SHOWN, (tenant_id, pair_id, time.monotonic()))
    return found


def mode(card: Card) -> Mode:
    """What is done with the card."""
    if card.review_id is not None:
        return "revise"
    return "edit" if state.get(EDITING) else "judge"


def forget() -> None:
    """Begin afresh, as the next card does: nothing open, and the plain view."""
    for key in (EDITING, DIFFERENCE, WHOLE, AGAIN, _SHOWN):
        state.drop(key)


def ballot(act: Act) -> dict[str, Any]:
    """What a vote says; of the browser's time never more than has passed here."""
    said = act.model_dump(include={"verdict", "ratings", "flags", "note"})
    since = state.get(_SHOWN, ("", "", time.monotonic()))[2]
    passed_ms = round((time.monotonic() - since) * 1000)
    believed = None if act.active_ms is None else min(act.active_ms, passed_ms)
    return {**said, "active_ms": believed}


def tell(act: Act, review: Review) -> None:
    """Remember a vote and what the AI had said of the pair, for the strip above the next card."""
    actor, tenant_id = auth.actor(), state.require_tenant()
    evidence = None
    if wiring.policies().get(actor, tenant_id).is_revealing:
        evidence = wiring.review_queue().evidence(actor, tenant_id, act.pair)
    said = act.model_dump(include={"pair", "left", "right", "verdict", "ratings", "flags", "note"})
    strip = reveal.last({**said, "review": review.id}, evidence)
    state.put(LAST, {**said, "tenant": tenant_id, "strip": strip})


def last() -> dict[str, Any] | None:
    """The latest vote in this tenant; None where there is none that could be revised."""
    found: dict[str, Any] | None = state.get(LAST)
    return found if found and found["tenant"] == state.require_tenant() else None
