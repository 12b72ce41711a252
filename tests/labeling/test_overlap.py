from __future__ import annotations

from typing import Any

import pytest

from labeling import votes
from labeling.queue import ReviewQueue
from services.db import Database
from services.errors import Conflict
from services.preferences.models import PairStatus
from services.preferences.service import Preferences
from tests.labeling.desks import (
    ALI,
    BEA,
    CAN,
    DAN,
    card,
    change,
    history,
    pair,
    pair_ids,
    places,
    policy,
    side,
)  # fmt: skip
from tests.services.preferences.conftest import Time
from tests.services.preferences.rows import ENGINEER, pairs_file


@pytest.fixture
def twice(database: Database, preferences: Preferences, queue: ReviewQueue) -> ReviewQueue:
    """Three pairs, two people on each."""
    preferences.import_pairs(ENGINEER, "acme", pairs_file(3), source="file")
    policy(database, overlap=2)
    return queue


def test_as_many_people_get_a_pair_as_the_policy_says(twice: ReviewQueue) -> None:
    first = card(twice, ALI).pair_id
    assert card(twice, BEA).pair_id == first
    assert card(twice, CAN).pair_id != first
    assert card(twice, DAN).pair_id == card(twice, CAN).pair_id


def test_a_pair_waits_for_its_last_vote(twice: ReviewQueue, preferences: Preferences) -> None:
    one, two = card(twice, ALI), card(twice, BEA)
    better = one.left.root_id
    twice.vote(ALI, "acme", one.pair_id, verdict=side(one, better))
    assert pair(preferences, one.pair_id).status is PairStatus.UNREVIEWED
    assert history(preferences, one.pair_id).decisions == ()
    assert card(twice, ALI).pair_id != one.pair_id
    last = twice.vote(BEA, "acme", two.pair_id, verdict=side(two, better) * 3)
    after = pair(preferences, one.pair_id)
    assert (after.status, after.chosen_response_id) == (PairStatus.APPROVED, better)
    assert history(preferences, one.pair_id).decisions[-1].review_id == last.id


@pytest.mark.parametrize(
    ("ballots", "status", "reason"),
    [
        (({"verdict": 0}, {"verdict": "both_bad"}), PairStatus.REJECTED, "both bad and tie"),
        (({"verdict": 0}, {"verdict": 0}), PairStatus.REJECTED, "tie"),
        (({"verdict": 2}, {"verdict": 0}), PairStatus.DISPUTED, "votes differ"),
        (({"verdict": 0, "flags": ["unsafe"]}, {"verdict": 0}), PairStatus.DISPUTED, "flagged"),
    ],
)
def test_the_votes_decide(
    twice: ReviewQueue,
    preferences: Preferences,
    ballots: tuple[dict[str, Any], dict[str, Any]],
    status: PairStatus,
    reason: str,
) -> None:
    pair_id = card(twice, ALI).pair_id
    for actor, ballot in zip((ALI, BEA), ballots, strict=True):
        twice.vote(actor, "acme", card(twice, actor).pair_id, **ballot)
    assert pair(preferences, pair_id).status is status
    assert history(preferences, pair_id).decisions[-1].reason == reason


def test_opposite_votes_are_disputed_and_the_pair_is_nobodys_card(
    twice: ReviewQueue, preferences: Preferences
) -> None:
    one, two = card(twice, ALI), card(twice, BEA)
    twice.vote(ALI, "acme", one.pair_id, verdict=side(one, one.left.id))
    twice.vote(BEA, "acme", two.pair_id, verdict=side(two, one.right.id))
    assert pair(preferences, one.pair_id).status is PairStatus.DISPUTED
    assert card(twice, CAN).pair_id != one.pair_id
    assert twice.progress(ALI, "acme").disputed == 1


def test_one_flagged_vote_is_never_the_last_word(
    preferences: Preferences, queue: ReviewQueue
) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(1), source="file")
    shown = card(queue)
    review = queue.vote(
        ALI, "acme", shown.pair_id, verdict=3, flags={"needs_expert", "unsafe"},
        ratings={shown.left.id: {"clarity": 2}, shown.right.id: {}},
    )  # fmt: skip
    assert review.flags == ("unsafe", "needs_expert")
    assert review.ratings == {shown.left.id: {"clarity": 2}}
    assert pair(preferences, shown.pair_id).status is PairStatus.DISPUTED


def test_nobody_votes_twice_on_a_pair(twice: ReviewQueue) -> None:
    pair_id = card(twice).pair_id
    twice.vote(ALI, "acme", pair_id, verdict=1)
    with pytest.raises(Conflict, match="not your card"):
        twice.vote(ALI, "acme", pair_id, verdict=1)


def test_an_edit_begins_a_new_round(
    twice: ReviewQueue, preferences: Preferences, database: Database
) -> None:
    one, two = card(twice, ALI), card(twice, BEA)
    twice.vote(ALI, "acme", one.pair_id, verdict=1)
    twice.edit(BEA, "acme", two.pair_id, two.left.id, "Mended.", reason="wrong fact")
    assert list(places(database, one.pair_id).values()) == [BEA.id]
    twice.vote(BEA, "acme", two.pair_id, verdict=side(two, two.left.id))
    assert pair(preferences, one.pair_id).status is PairStatus.UNREVIEWED
    # Ali has another card; Can takes the place that became free again.
    again = card(twice, CAN)
    assert again.pair_id == one.pair_id
    assert {again.left.text, again.right.text} >= {"Mended."}
    twice.vote(CAN, "acme", again.pair_id, verdict=side(again, two.left.root_id))
    after = pair(preferences, one.pair_id)
    assert after.status is PairStatus.APPROVED
    done = sorted(entry.annotator_id for entry in history(preferences, one.pair_id).reviews)
    assert done == [ALI.id, BEA.id, BEA.id, CAN.id]
    with database.read() as session:
        counted = votes.current(session, "acme", [one.pair_id])
    assert {vote.annotator_id for vote in counted} == {BEA.id, CAN.id}


def test_who_voted_on_the_older_text_may_vote_on_the_newer_one(
    database: Database, preferences: Preferences, queue: ReviewQueue
) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(1), source="file")
    policy(database, overlap=2)
    one = card(queue, ALI)
    assert not queue.vote(ALI, "acme", one.pair_id, verdict=1).is_revealed
    card(queue, BEA)
    queue.edit(BEA, "acme", one.pair_id, one.left.id, "Mended.")
    assert card(queue, ALI).pair_id == one.pair_id
    review = queue.vote(ALI, "acme", one.pair_id, verdict=0)
    assert review.is_revealed  # they have been told of the older text


def test_an_edit_takes_back_the_cards_that_show_the_older_text(twice: ReviewQueue) -> None:
    one, two = card(twice, ALI), card(twice, BEA)
    twice.edit(BEA, "acme", two.pair_id, two.left.id, "Mended.")
    with pytest.raises(Conflict, match="not your card any more"):
        twice.vote(ALI, "acme", one.pair_id, verdict=1)
    again = card(twice, ALI)
    assert again.pair_id == one.pair_id
    assert again.is_edited


def test_another_window_does_not_vote_on_a_text_that_it_does_not_show(twice: ReviewQueue) -> None:
    shown = card(twice)
    twice.edit(ALI, "acme", shown.pair_id, shown.left.id, "Mended.")
    seen = (shown.left.id, shown.right.id)
    with pytest.raises(Conflict, match="changed since it was shown"):
        twice.vote(ALI, "acme", shown.pair_id, verdict=1, shown=seen)
    again = card(twice)
    twice.vote(ALI, "acme", shown.pair_id, verdict=1, shown=(again.left.id, again.right.id))


def test_a_vote_that_waits_can_be_taken_back(
    twice: ReviewQueue, preferences: Preferences, database: Database
) -> None:
    one = card(twice, ALI)
    twice.vote(ALI, "acme", one.pair_id, verdict=1)
    other = card(twice, ALI).pair_id
    back = twice.undo(ALI, "acme")
    assert back is not None
    assert back.pair_id == one.pair_id
    assert places(database, other) == {}
    assert history(preferences, one.pair_id).decisions == ()


def test_a_vote_that_others_have_followed_stays(
    twice: ReviewQueue, preferences: Preferences
) -> None:
    one, two = card(twice, ALI), card(twice, BEA)
    for actor, shown in ((ALI, one), (BEA, two)):
        twice.vote(actor, "acme", shown.pair_id, verdict=side(shown, one.left.id))
    with pytest.raises(Conflict, match="someone else has decided"):
        twice.undo(ALI, "acme")
    assert twice.undo(BEA, "acme") is not None
    assert pair(preferences, one.pair_id).status is PairStatus.UNREVIEWED
    assert twice.undo(ALI, "acme") is not None


def test_risky_pairs_are_asked_of_more_people(
    database: Database, preferences: Preferences, queue: ReviewQueue
) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(2), source="file")
    plain, risky = pair_ids(preferences)
    change(database, risky, priority=2)
    change(database, plain, priority=1)
    policy(database, overlap=1, risky_overlap=3)
    assert [card(queue, actor).pair_id for actor in (ALI, BEA, CAN)] == [risky] * 3
    assert card(queue, DAN).pair_id == plain
    assert pair(preferences, risky).overlap == 3


def test_a_pair_may_ask_for_more_people_than_the_policy(
    database: Database, preferences: Preferences, queue: ReviewQueue
) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(2), source="file")
    first, second = pair_ids(preferences)
    change(database, first, overlap=2)
    assert [card(queue, actor).pair_id for actor in (ALI, BEA, CAN)] == [first, first, second]


def test_a_place_that_lapsed_is_finished_first(
    twice: ReviewQueue, database: Database, time: Time
) -> None:
    one = card(twice, ALI).pair_id
    card(twice, BEA)
    two = card(twice, CAN).pair_id
    time.pass_minutes(11)
    assert card(twice, CAN).pair_id == two
    assert card(twice, DAN).pair_id == one
    # Ali and Bea are as late; Dan took over the place of one of them, and it is still the same.
    assert sorted(places(database, one)) == [1, 2]
    assert DAN.id in places(database, one).values()


def test_opening_a_pair_again_asks_one_more_person(
    preferences: Preferences, queue: ReviewQueue
) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(1), source="file")
    one = card(queue)
    queue.vote(ALI, "acme", one.pair_id, verdict=side(one, one.left.id))
    preferences.decide(ENGINEER, "acme", one.pair_id, verdict=PairStatus.UNREVIEWED)
    assert queue.next_card(ALI, "acme") is None
    two = card(queue, BEA)
    queue.vote(BEA, "acme", two.pair_id, verdict=side(two, one.right.id))
    assert pair(preferences, one.pair_id).status is PairStatus.DISPUTED


def test_asking_fewer_people_decides_what_has_its_votes(
    twice: ReviewQueue, preferences: Preferences, database: Database
) -> None:
    one = card(twice)
    twice.vote(ALI, "acme", one.pair_id, verdict=side(one, one.left.id))
    change(database, one.pair_id, overlap=1)
    assert twice.recount(ENGINEER, "acme", pair_ids(preferences)) == 1
    assert pair(preferences, one.pair_id).chosen_response_id == one.left.id
    assert twice.recount(ENGINEER, "acme", pair_ids(preferences)) == 0


def test_a_card_of_a_pair_that_was_decided_meanwhile_gives_its_place_back(
    twice: ReviewQueue, preferences: Preferences, database: Database
) -> None:
    one = card(twice)
    preferences.decide(ENGINEER, "acme", one.pair_id, verdict=PairStatus.REJECTED)
    assert card(twice).pair_id != one.pair_id
    assert places(database, one.pair_id) == {}
