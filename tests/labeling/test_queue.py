from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from labeling.models import Card
from labeling.queue import MAX_EDIT, ReviewQueue, sides
from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted
from services.preferences.models import Pair, PairStatus, ReviewKind
from services.preferences.service import Preferences
from services.tenants.models import Actor, Role
from tests.services.preferences.conftest import Time
from tests.services.preferences.rows import ENGINEER, MANAGER, jsonl, lines, pairs_file, person, trl

ALI, BEA, CAN = (person(name, Role.ANNOTATOR) for name in ("Ali", "Bea", "Can"))
FOREIGN = person("Fay", Role.ANNOTATOR, "globex")
Call = Callable[[ReviewQueue, Actor], Any]
CALLS: dict[str, Call] = {
    "next": lambda queue, actor: queue.next_card(actor, "acme"),
    "vote": lambda queue, actor: queue.vote(actor, "acme", "x", verdict=1),
    "edit": lambda queue, actor: queue.edit(actor, "acme", "x", "y", "text"),
    "skip": lambda queue, actor: queue.skip(actor, "acme", "x", "other"),
    "undo": lambda queue, actor: queue.undo(actor, "acme"),
    "progress": lambda queue, actor: queue.progress(actor, "acme"),
}


@pytest.fixture
def filled(preferences: Preferences, queue: ReviewQueue) -> ReviewQueue:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(4), source="file")
    return queue


def card(queue: ReviewQueue, actor: Actor = ALI) -> Card:
    found = queue.next_card(actor, "acme")
    assert found is not None
    return found


def pair(preferences: Preferences, pair_id: str) -> Pair:
    return preferences.pair(ENGINEER, "acme", pair_id)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("actor", [FOREIGN, MANAGER], ids=["wrong tenant", "wrong role"])
def test_others_are_refused(queue: ReviewQueue, call: Call, actor: Actor) -> None:
    with pytest.raises(NotPermitted):
        call(queue, actor)


def test_an_empty_queue_has_no_card(queue: ReviewQueue) -> None:
    assert queue.next_card(ALI, "acme") is None
    assert queue.undo(ALI, "acme") is None


def test_asking_again_gives_the_same_card_with_the_same_sides(
    filled: ReviewQueue, time: Time
) -> None:
    first = card(filled)
    time.pass_minutes(9)
    again = card(filled)
    assert (again.pair_id, again.left, again.right) == (first.pair_id, first.left, first.right)
    time.pass_minutes(9)
    assert card(filled, BEA).pair_id != first.pair_id


def test_a_lease_that_ran_out_goes_to_whoever_asks_first(filled: ReviewQueue, time: Time) -> None:
    first = card(filled)
    time.pass_minutes(10.5)
    assert card(filled).pair_id == first.pair_id
    time.pass_minutes(10.5)
    assert card(filled, BEA).pair_id == first.pair_id
    with pytest.raises(Conflict, match="not your card any more"):
        filled.vote(ALI, "acme", first.pair_id, verdict=1)
    assert card(filled).pair_id != first.pair_id


def test_a_card_is_blind(preferences: Preferences, queue: ReviewQueue) -> None:
    row = trl(1, chosen_score=9, rejected_score=1, metadata={"judge": "x"})
    preferences.import_pairs(ENGINEER, "acme", jsonl(row), source="judge")
    found = card(queue)
    assert found.left.extra == found.right.extra == {}
    assert not hasattr(found, "imported_preference")
    assert {found.left.text, found.right.text} == {"2.", "Blue."}


def test_neither_side_is_favoured(preferences: Preferences) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(400), source="file")
    pairs = preferences.pairs(ENGINEER, "acme", limit=1_000).pairs
    for annotator in (ALI, BEA):
        left = sum(sides(one, annotator.id)[0].id == one.imported_preference for one in pairs)
        assert 150 < left < 250
    other = sum(sides(one, ALI.id) != sides(one, BEA.id) for one in pairs)
    assert 150 < other < 250


@pytest.mark.parametrize("verdict", [-3, -2, -1, 0, 1, 2, 3, "both_bad"])
def test_a_vote_names_ids_and_decides(
    filled: ReviewQueue, preferences: Preferences, verdict: Any
) -> None:
    found = card(filled)
    review = filled.vote(
        ALI, "acme", found.pair_id, verdict=verdict, note="because", active_ms=1_200
    )
    after = pair(preferences, found.pair_id)
    assert (review.left_response_id, review.right_response_id) == (found.left.id, found.right.id)
    assert after.history is not None
    assert after.history.reviews == (review,)
    assert (review.note, review.active_ms) == ("because", 1_200)
    if verdict in {0, "both_bad"}:
        assert after.status is PairStatus.REJECTED
        assert review.preferred_response_id is None
        assert after.history.decisions[-1].reason == ("tie" if verdict == 0 else "both bad")
        assert review.strength == (0 if verdict == 0 else None)
    else:
        better = found.left if verdict < 0 else found.right
        assert after.status is PairStatus.APPROVED
        assert after.chosen_response_id == review.preferred_response_id == better.id
        assert review.strength == abs(verdict)
    assert card(filled).pair_id != found.pair_id


@pytest.mark.parametrize("verdict", [4, -4, 1.5, "left", None])
def test_no_other_verdict_is_taken(filled: ReviewQueue, verdict: Any) -> None:
    found = card(filled)
    with pytest.raises(InvalidInput, match="expected -3 to 3 or 'both_bad'"):
        filled.vote(ALI, "acme", found.pair_id, verdict=verdict)


def test_a_vote_sent_twice_counts_once(filled: ReviewQueue) -> None:
    found = card(filled)
    filled.vote(ALI, "acme", found.pair_id, verdict=1)
    with pytest.raises(Conflict, match="found it approved"):
        filled.vote(ALI, "acme", found.pair_id, verdict=-1)
    assert filled.progress(ALI, "acme").mine == 1
    with pytest.raises(NotFound):
        filled.vote(ALI, "acme", "nowhere", verdict=1)


def test_a_pair_that_is_not_ones_card_cannot_be_touched(filled: ReviewQueue) -> None:
    theirs = card(filled, BEA)
    for call in (
        lambda: filled.vote(ALI, "acme", theirs.pair_id, verdict=1),
        lambda: filled.skip(ALI, "acme", theirs.pair_id),
        lambda: filled.edit(ALI, "acme", theirs.pair_id, theirs.left.id, "mine"),
    ):
        with pytest.raises(Conflict, match="not your card"):
            call()
    filled.vote(BEA, "acme", theirs.pair_id, verdict=1)


def test_an_edit_is_a_new_version_and_is_exported(
    filled: ReviewQueue, preferences: Preferences, tmp_path: Any
) -> None:
    found = card(filled)
    version = filled.edit(ALI, "acme", found.pair_id, found.left.id, "Mended.")
    assert (version.version, version.parent_id) == (2, found.left.id)
    assert version.root_id == found.left.root_id
    again = card(filled)
    assert (again.pair_id, again.left.text, again.is_edited) == (found.pair_id, "Mended.", True)
    filled.vote(ALI, "acme", found.pair_id, verdict=-2)
    preferences.export(ENGINEER, "acme", tmp_path / "out", eval_fraction=0)
    (row,) = lines(tmp_path / "out/train.jsonl")
    assert row["chosen"] == [{"role": "assistant", "content": "Mended."}]
    assert row["rejected"] == [{"role": "assistant", "content": found.right.text}]
    history = pair(preferences, found.pair_id).history
    assert history is not None
    shown = {found.left.text, found.right.text}
    assert {one.text for one in history.versions} == {*shown, "Mended."}
    assert preferences.stats(ENGINEER, "acme").edited == 1


def test_a_useless_edit_is_refused(filled: ReviewQueue) -> None:
    found = card(filled)
    for text, message in (
        (" ", "found an empty one"),
        (found.left.text, "found the same"),
        (found.right.text + " ", "another answer than the other response"),
        ("a\x00", "a NUL character"),
        ("a" * (MAX_EDIT + 1), "at most 100,000 characters"),
    ):
        with pytest.raises(InvalidInput, match=message):
            filled.edit(ALI, "acme", found.pair_id, found.left.id, text)
    with pytest.raises(Conflict, match="no current response"):
        filled.edit(ALI, "acme", found.pair_id, "old", "text")
    filled.edit(ALI, "acme", found.pair_id, found.left.id, "one")
    with pytest.raises(Conflict, match="no current response"):
        filled.edit(ALI, "acme", found.pair_id, found.left.id, "two")


def test_a_skipped_card_goes_to_others_only(filled: ReviewQueue) -> None:
    first = card(filled)
    filled.skip(ALI, "acme", first.pair_id, "not_my_field")
    seen = {first.pair_id}
    while (found := filled.next_card(ALI, "acme")) is not None:
        assert found.pair_id not in seen
        seen.add(found.pair_id)
        filled.skip(ALI, "acme", found.pair_id)
    assert len(seen) == 4
    assert card(filled, BEA).pair_id == first.pair_id
    assert filled.progress(ALI, "acme").mine_skipped == 4


def test_undo_gives_the_card_back_step_by_step(
    filled: ReviewQueue, preferences: Preferences
) -> None:
    one = card(filled)
    filled.edit(ALI, "acme", one.pair_id, one.left.id, "Mended.")
    filled.vote(ALI, "acme", one.pair_id, verdict=-3)
    two = card(filled)
    filled.skip(ALI, "acme", two.pair_id)
    three = card(filled)
    back = filled.undo(ALI, "acme")
    assert back is not None
    assert back.pair_id == two.pair_id
    assert card(filled, BEA).pair_id == three.pair_id
    back = filled.undo(ALI, "acme")
    assert back is not None
    assert (back.pair_id, back.left.text) == (one.pair_id, "Mended.")
    assert pair(preferences, one.pair_id).status is PairStatus.UNREVIEWED
    back = filled.undo(ALI, "acme")
    assert back is not None
    assert (back.pair_id, back.left.text, back.left.version) == (one.pair_id, one.left.text, 3)
    assert filled.undo(ALI, "acme") is None
    history = pair(preferences, one.pair_id).history
    assert history is not None
    assert [entry.kind for entry in history.reviews] == [
        ReviewKind.EDIT, ReviewKind.VOTE, ReviewKind.UNDO, ReviewKind.UNDO,
    ]  # fmt: skip
    assert [entry.verdict.value for entry in history.decisions] == ["approved", "unreviewed"]
    assert card(filled).pair_id == one.pair_id


def test_undo_does_not_override_a_later_decision(
    filled: ReviewQueue, preferences: Preferences
) -> None:
    found = card(filled)
    filled.vote(ALI, "acme", found.pair_id, verdict=1)
    preferences.decide(ENGINEER, "acme", found.pair_id, verdict=PairStatus.REJECTED)
    with pytest.raises(Conflict, match="someone else has decided"):
        filled.undo(ALI, "acme")
    assert pair(preferences, found.pair_id).status is PairStatus.REJECTED


def test_undoing_a_skip_does_not_take_a_card_from_someone(filled: ReviewQueue) -> None:
    first = card(filled)
    filled.skip(ALI, "acme", first.pair_id)
    assert card(filled, BEA).pair_id == first.pair_id
    assert filled.undo(ALI, "acme") is None
    assert card(filled, BEA).pair_id == first.pair_id
    filled.skip(BEA, "acme", first.pair_id)
    assert card(filled).pair_id == first.pair_id


def test_undoing_an_edit_leaves_what_others_did_since(filled: ReviewQueue, time: Time) -> None:
    first = card(filled)
    filled.edit(ALI, "acme", first.pair_id, first.left.id, "Mended.")
    time.pass_minutes(11)
    assert card(filled, BEA).pair_id == first.pair_id
    with pytest.raises(Conflict, match="someone else has changed"):
        filled.undo(ALI, "acme")


def test_an_engineers_decision_takes_the_card_away(
    filled: ReviewQueue, preferences: Preferences
) -> None:
    found = card(filled)
    preferences.decide(ENGINEER, "acme", found.pair_id, verdict=PairStatus.REJECTED)
    with pytest.raises(Conflict, match="found it rejected"):
        filled.vote(ALI, "acme", found.pair_id, verdict=1)
    assert card(filled).pair_id != found.pair_id


def test_progress_counts_what_is_left(filled: ReviewQueue) -> None:
    card(filled, BEA)
    for verdict in (2, 0):
        filled.vote(ALI, "acme", card(filled).pair_id, verdict=verdict)
    progress = filled.progress(ALI, "acme")
    assert (progress.total, progress.unreviewed) == (4, 2)
    assert (progress.approved, progress.rejected) == (1, 1)
    assert (progress.with_others, progress.mine, progress.mine_skipped) == (1, 2, 0)
    assert filled.progress(BEA, "acme").with_others == 0
    filled.undo(ALI, "acme")
    assert filled.progress(ALI, "acme").mine == 1


def test_each_action_leaves_one_event(filled: ReviewQueue, database: Database) -> None:
    found = card(filled)
    filled.edit(ALI, "acme", found.pair_id, found.left.id, "Mended.")
    filled.vote(ALI, "acme", found.pair_id, verdict=1)
    filled.undo(ALI, "acme")
    filled.undo(ALI, "acme")
    filled.skip(ALI, "acme", found.pair_id)
    with database.read() as session:
        wanted = select(OutboxRow.action).where(OutboxRow.subject == f"pair:{found.pair_id}")
        actions = sorted(session.scalars(wanted))
    assert actions == [
        "pair.edit_undone", "pair.edited", "pair.skipped", "pair.vote_undone", "pair.voted",
    ]  # fmt: skip
