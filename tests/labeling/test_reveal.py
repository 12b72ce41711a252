from __future__ import annotations

import pytest

from labeling import votes
from labeling.queue import ReviewQueue
from services.db import Database, new_id, utcnow
from services.errors import Conflict
from services.preferences.models import PairStatus
from services.preferences.service import Preferences
from services.preferences.store import JudgmentRow, ResponseRow
from tests.labeling.desks import ALI, BEA, card, history, pair, policy, side
from tests.services.preferences.rows import ENGINEER, jsonl, trl


@pytest.fixture
def judged(preferences: Preferences, queue: ReviewQueue) -> ReviewQueue:
    """Two pairs that came with scores."""
    rows = [trl(number, chosen_score=9, rejected_score=2) for number in range(2)]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="judge")
    return queue


def test_nothing_is_told_before_the_vote(judged: ReviewQueue) -> None:
    shown = card(judged)
    assert shown.evidence is None
    for call in (judged.evidence, judged.reveal):
        with pytest.raises(Conflict, match="vote"):
            call(ALI, "acme", shown.pair_id)


def test_after_the_vote_the_ai_is_revealed(judged: ReviewQueue, preferences: Preferences) -> None:
    shown = card(judged)
    judged.vote(ALI, "acme", shown.pair_id, verdict=0)
    found = judged.evidence(ALI, "acme", shown.pair_id)
    better = pair(preferences, shown.pair_id).imported_preference
    assert found.ai is not None
    assert (found.ai.preferred_response_id, found.ai.strength, found.ai.margin) == (better, 3, 7)
    assert sorted(found.scores.values(), key=str) == [2, 9]
    with pytest.raises(Conflict):
        judged.evidence(BEA, "acme", shown.pair_id)


def test_a_vote_is_revised_and_both_are_kept(
    judged: ReviewQueue, preferences: Preferences, database: Database
) -> None:
    shown = card(judged)
    first = judged.vote(ALI, "acme", shown.pair_id, verdict=0)
    again = judged.reveal(ALI, "acme", shown.pair_id)
    assert again.evidence is not None
    assert (again.review_id, again.left) == (first.id, shown.left)
    second = judged.revise(ALI, "acme", first.id, verdict=side(shown, shown.left.id) * 2, note="so")
    assert (second.revises_id, first.is_revealed, second.is_revealed) == (first.id, False, True)
    after = pair(preferences, shown.pair_id)
    assert (after.status, after.chosen_response_id) == (PairStatus.APPROVED, shown.left.id)
    kept = history(preferences, shown.pair_id)
    assert kept.reviews == (first, second)
    assert [one.review_id for one in kept.decisions] == [first.id, second.id]
    with database.read() as session:
        assert votes.current(session, "acme") == [second]
    with pytest.raises(Conflict, match="a vote of yours that counts"):
        judged.revise(ALI, "acme", first.id, verdict=1)
    with pytest.raises(Conflict, match="a vote of yours that counts"):
        judged.revise(BEA, "acme", second.id, verdict=1)
    assert judged.progress(ALI, "acme").mine == 1


def test_a_revision_is_taken_back_and_made_again(
    judged: ReviewQueue, preferences: Preferences
) -> None:
    shown = card(judged)
    first = judged.vote(ALI, "acme", shown.pair_id, verdict=0)
    judged.revise(ALI, "acme", first.id, verdict=2)
    next_one = card(judged)
    back = judged.undo(ALI, "acme")
    assert back is not None
    assert (back.pair_id, back.review_id) == (shown.pair_id, first.id)
    assert back.evidence is not None
    assert pair(preferences, shown.pair_id).status is PairStatus.REJECTED
    assert card(judged).pair_id == next_one.pair_id
    judged.revise(ALI, "acme", first.id, verdict=-2)
    assert pair(preferences, shown.pair_id).status is PairStatus.APPROVED
    for _ in range(2):
        back = judged.undo(ALI, "acme")
        assert back is not None
    assert back.pair_id == shown.pair_id
    assert back.review_id is None
    assert pair(preferences, shown.pair_id).status is PairStatus.UNREVIEWED
    assert card(judged).pair_id == shown.pair_id


def test_a_vote_after_an_undo_is_not_blind(judged: ReviewQueue) -> None:
    shown = card(judged)
    assert not judged.vote(ALI, "acme", shown.pair_id, verdict=1).is_revealed
    judged.undo(ALI, "acme")
    assert judged.vote(ALI, "acme", shown.pair_id, verdict=2).is_revealed


def test_a_policy_may_reveal_nothing(judged: ReviewQueue, database: Database) -> None:
    policy(database, is_revealing=False)
    shown = card(judged)
    review = judged.vote(ALI, "acme", shown.pair_id, verdict=1)
    found = judged.evidence(ALI, "acme", shown.pair_id)
    assert (found.ai, found.judgments, found.scores) == (None, (), {})
    assert not judged.revise(ALI, "acme", review.id, verdict=2).is_revealed


def test_a_decision_of_others_ends_revising(judged: ReviewQueue, preferences: Preferences) -> None:
    shown = card(judged)
    review = judged.vote(ALI, "acme", shown.pair_id, verdict=1)
    preferences.decide(ENGINEER, "acme", shown.pair_id, verdict=PairStatus.REJECTED)
    with pytest.raises(Conflict, match="someone else has decided"):
        judged.reveal(ALI, "acme", shown.pair_id)
    with pytest.raises(Conflict, match="someone else has decided"):
        judged.revise(ALI, "acme", review.id, verdict=2)


def test_an_edit_makes_the_ai_stale_and_its_undo_does_not(
    judged: ReviewQueue, preferences: Preferences
) -> None:
    shown = card(judged)
    judged.edit(ALI, "acme", shown.pair_id, shown.left.id, "Mended.")
    assert pair(preferences, shown.pair_id).is_stale
    judged.undo(ALI, "acme")
    assert not pair(preferences, shown.pair_id).is_stale
    again = card(judged)
    judged.edit(ALI, "acme", shown.pair_id, again.left.id, "Mended again.")
    judged.vote(ALI, "acme", shown.pair_id, verdict=1)
    found = judged.evidence(ALI, "acme", shown.pair_id)
    assert found.ai is not None
    assert found.ai.is_stale


def test_a_judge_in_two_orders_is_shown_in_its_own_words(
    judged: ReviewQueue, preferences: Preferences, database: Database
) -> None:
    shown = card(judged)
    left, right = shown.left.id, shown.right.id
    with database.write() as session:
        for first, second, preferred in ((left, right, left), (right, left, right)):
            session.add(
                JudgmentRow(
                    id=new_id(), tenant_id="acme", pair_id=shown.pair_id, reason="because",
                    first_response_id=first, second_response_id=second,
                    preferred_response_id=preferred, scores={}, judge="judge-1", revision="r1",
                    created_at=utcnow(),
                )
            )  # fmt: skip
        generated = session.get_one(ResponseRow, left)
        generated.extra = {**(generated.extra or {}), "generator": "m-1", "temperature": 0.7}
    judged.vote(ALI, "acme", shown.pair_id, verdict=1)
    found = judged.evidence(ALI, "acme", shown.pair_id)
    assert found.ai is not None
    assert (found.ai.is_consistent, found.ai.judge) == (False, "judge-1")
    assert [one.reason for one in found.judgments] == ["because"] * 2
    assert (found.generators[left], found.temperatures[left]) == ("m-1", 0.7)
    assert (found.generators[right], found.temperatures[right]) == (None, None)
