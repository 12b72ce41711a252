from __future__ import annotations

from typing import Any

import pytest

from labeling.queue import ReviewQueue
from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted
from services.preferences.models import Origin, PairStatus, Review
from services.preferences.service import Preferences
from tests.labeling.desks import (
    ALI,
    BEA,
    CAN,
    card,
    change,
    history,
    pair,
    pair_ids,
    places,
    policy,
)  # fmt: skip
from tests.services.preferences.rows import ENGINEER, MANAGER, STRANGER, pairs_file


@pytest.fixture
def only(preferences: Preferences) -> str:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(1), source="file")
    return pair_ids(preferences)[0]


def bring(
    queue: ReviewQueue, preferences: Preferences, pair_id: str, annotator: str, **values: Any
) -> Review:
    first, second = pair(preferences, pair_id).responses
    sent = {
        "left_response_id": first.id, "right_response_id": second.id, "verdict": -2,
        "origin": Origin.LABEL_STUDIO, **values,
    }  # fmt: skip
    return queue.record_outside(ENGINEER, "acme", pair_id, annotator_id=annotator, **sent)


@pytest.mark.parametrize("actor", [ALI, MANAGER, STRANGER], ids=["annotator", "manager", "other"])
def test_only_who_may_import_brings_votes_and_edits(queue: ReviewQueue, actor: Any) -> None:
    with pytest.raises(NotPermitted):
        queue.record_outside(
            actor, "acme", "x", annotator_id="a", left_response_id="l", right_response_id="r",
            verdict=1,
        )  # fmt: skip
    with pytest.raises(NotPermitted):
        queue.edit_outside(actor, "acme", "x", "l", "text", annotator_id="a")
    with pytest.raises(NotPermitted):
        queue.recount(actor, "acme", [])


def test_a_vote_from_elsewhere_decides_like_one_from_here(
    queue: ReviewQueue, preferences: Preferences, only: str
) -> None:
    review = bring(queue, preferences, only, "ls-1", note="there", active_ms=900, is_revealed=True)
    first = pair(preferences, only).responses[0]
    assert (review.origin, review.annotator_id) == (Origin.LABEL_STUDIO, "ls-1")
    assert review.is_revealed
    assert review.preferred_response_id == first.id
    after = pair(preferences, only)
    assert (after.status, after.chosen_response_id) == (PairStatus.APPROVED, first.id)


def test_no_more_votes_come_in_than_the_pair_has_places(
    queue: ReviewQueue, preferences: Preferences, database: Database, only: str
) -> None:
    policy(database, overlap=2)
    change(database, only, overlap=2)
    shown = card(queue, ALI)
    bring(queue, preferences, only, "ls-1")
    with pytest.raises(Conflict, match="all of its 2 places are taken"):
        bring(queue, preferences, only, "ls-2")
    with pytest.raises(Conflict, match="has voted on it already"):
        bring(queue, preferences, only, "ls-1")
    assert queue.next_card(BEA, "acme") is None
    queue.vote(ALI, "acme", shown.pair_id, verdict=1)
    with pytest.raises(Conflict, match="expected it unreviewed"):
        bring(queue, preferences, only, "ls-3")


def test_the_card_that_is_out_is_the_place_of_a_vote_from_elsewhere(
    queue: ReviewQueue, preferences: Preferences, database: Database, only: str
) -> None:
    card(queue, ALI)
    bring(queue, preferences, only, ALI.id)
    assert places(database, only) == {1: ALI.id}
    assert queue.next_card(ALI, "acme") is None


def test_a_vote_from_elsewhere_replaces_its_former_self(
    queue: ReviewQueue, preferences: Preferences, only: str
) -> None:
    former = bring(queue, preferences, only, "ls-1")
    again = bring(queue, preferences, only, "ls-1", verdict=3, replaces=former.id)
    assert again.revises_id == former.id
    assert pair(preferences, only).chosen_response_id == pair(preferences, only).responses[1].id
    with pytest.raises(Conflict, match="a vote of yours that counts"):
        bring(queue, preferences, only, "ls-2", replaces=again.id)


def test_a_vote_on_another_text_is_refused(
    queue: ReviewQueue, preferences: Preferences, only: str
) -> None:
    before = pair(preferences, only).responses
    card(queue, ALI)
    queue.edit(ALI, "acme", only, before[0].id, "Mended.")
    with pytest.raises(Conflict, match="changed since it was shown"):
        bring(queue, preferences, only, "ls-1", left_response_id=before[0].id)
    with pytest.raises(NotFound):
        queue.record_outside(
            ENGINEER, "acme", "nowhere", annotator_id="a", left_response_id="l",
            right_response_id="r", verdict=1,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"verdict": 4}, "verdict: expected -3 to 3"),
        ({"verdict": True}, "verdict: expected -3 to 3"),
        ({"flags": ["odd"]}, "flags: expected unsafe"),
        ({"ratings": {"x": {"clarity": 3}}}, "ids of the two current responses"),
        ({"ratings": {"x": {"clarity": 6}}}, "expected 1 to 5 for clarity"),
        ({"ratings": {"x": {"beauty": 3}}}, "ratings: expected relevance"),
        ({"note": "a" * 2_001}, "note: expected at most 2000"),
        ({"note": "\ud800"}, "note: expected text that can be stored"),
    ],
)
def test_what_no_vote_can_say_is_refused(
    queue: ReviewQueue,
    preferences: Preferences,
    only: str,
    values: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(InvalidInput, match=message):
        bring(queue, preferences, only, "ls-1", **values)
    assert history(preferences, only).reviews == ()


def test_an_edit_from_elsewhere_opens_the_pair_again(
    queue: ReviewQueue, preferences: Preferences, database: Database, only: str
) -> None:
    bring(queue, preferences, only, "ls-1")
    first = pair(preferences, only).responses[0]
    queue.edit_outside(
        ENGINEER, "acme", only, first.id, "Mended.", annotator_id="ls-1", reason="there"
    )
    after = pair(preferences, only)
    assert after.status is PairStatus.UNREVIEWED
    assert "Mended." in {one.text for one in after.responses}
    assert places(database, only) == {}
    assert card(queue, CAN).pair_id == only
