from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import select, update

from labeling.policies import Policies
from labeling.queue import ReviewQueue
from services.db import Database
from services.errors import Conflict
from services.preferences.evidence import lottery
from services.preferences.models import PairStatus
from services.preferences.service import Preferences
from services.preferences.store import PairRow, ReviewRow
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
    served,
    side,
)  # fmt: skip
from tests.services.preferences.conftest import Time
from tests.services.preferences.rows import ENGINEER, pairs_file


def filled(preferences: Preferences, database: Database, count: int) -> list[str]:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(count), source="file")
    ids = pair_ids(preferences)
    with database.write() as session:
        for pair_id in ids:
            session.execute(
                update(PairRow)
                .where(PairRow.id == pair_id)
                .values(priority=0, lottery=lottery(pair_id), lints=None)
            )
    return ids


def test_the_highest_priority_comes_first_and_one_card_in_ten_by_lot(
    database: Database, preferences: Preferences, queue: ReviewQueue
) -> None:
    ids = filled(preferences, database, 60)
    for number, pair_id in enumerate(ids):
        change(database, pair_id, priority=number % 4)
    given = [one.pair_id for one in served(queue, ALI, 60)]
    assert sorted(given) == sorted(ids)
    with database.read() as session:
        rows = session.execute(select(ReviewRow.pair_id, ReviewRow.is_random))
        drawn = {pair_id for pair_id, is_random in rows if is_random}
    assert 1 <= len(drawn) <= 15
    in_turn = [pair_id for pair_id in given if pair_id not in drawn]
    wanted = [pair_id for level in (3, 2, 1, 0) for pair_id in ids[level::4]]
    assert in_turn == [pair_id for pair_id in wanted if pair_id not in drawn]
    by_lot = [pair_id for pair_id in given if pair_id in drawn]
    assert by_lot == sorted(by_lot, key=lottery)


def test_assigned_pairs_come_first_and_to_nobody_else(
    database: Database, preferences: Preferences, queue: ReviewQueue
) -> None:
    ids = filled(preferences, database, 5)
    group = Policies(database).change_group(
        ENGINEER, "acme", None, name="Lawyers", members=[ALI.id, CAN.id]
    )
    change(database, ids[4], assignee=f"user:{ALI.id}")
    change(database, ids[3], assignee=f"group:{group.id}")
    change(database, ids[0], assignee="label-studio:7")
    assert [one.pair_id for one in served(queue, ALI, 2)] == [ids[4], ids[3]]
    assert {one.pair_id for one in served(queue, BEA, 2)} == {ids[1], ids[2]}
    assert queue.next_card(BEA, "acme") is None
    assert queue.next_card(CAN, "acme") is None


def test_a_lapsed_place_of_an_assigned_pair_is_not_given_to_others(
    database: Database, preferences: Preferences, queue: ReviewQueue, time: Time
) -> None:
    (only,) = filled(preferences, database, 1)
    card(queue, ALI)
    change(database, only, assignee=f"user:{ALI.id}")
    time.pass_minutes(11)
    assert queue.next_card(BEA, "acme") is None
    assert card(queue, ALI).pair_id == only


def test_planted_pairs_are_mixed_in_and_decide_nothing(
    database: Database, preferences: Preferences, queue: ReviewQueue
) -> None:
    ids = filled(preferences, database, 40)
    preferences.approve_imported(ENGINEER, "acme")
    known = {pair_id: pair(preferences, pair_id).chosen_response_id for pair_id in ids[:4]}
    for pair_id, better in known.items():
        change(database, pair_id, gold_response_id=better)
    for pair_id in ids[4:]:
        preferences.decide(ENGINEER, "acme", pair_id, verdict=PairStatus.UNREVIEWED)
    policy(database, gold_every=4)
    given = Counter(one.pair_id for one in served(queue, ALI, 30))
    planted = [pair_id for pair_id in given if pair_id in known]
    assert 2 <= len(planted) <= 4
    assert max(given.values()) == 1
    for pair_id in planted:
        entry = history(preferences, pair_id).reviews[-1]
        assert entry.is_gold
        assert pair(preferences, pair_id).chosen_response_id == known[pair_id]
        assert list(places(database, pair_id)) == [1_001]
    policy(database, gold_every=0)
    assert not {one.pair_id for one in served(queue, BEA, 6)} & set(known)


def planted(database: Database, preferences: Preferences, queue: ReviewQueue) -> str:
    """Have Ali be given a planted pair and nothing else."""
    (only,) = filled(preferences, database, 1)
    preferences.approve_imported(ENGINEER, "acme")
    change(database, only, gold_response_id=pair(preferences, only).chosen_response_id)
    policy(database, gold_every=2)
    while queue.next_card(ALI, "acme") is None:
        # Another turn draws another lot.
        queue.undo(ALI, "acme")
        with database.write() as session:
            number = 1 + len(session.scalars(select(ReviewRow.id)).all())
            session.add(
                ReviewRow(
                    id=f"filler-{number}", tenant_id="acme", pair_id=only, annotator_id=ALI.id,
                    number=number, kind="undo", left_response_id="", right_response_id="",
                    note="", created_at=pair(preferences, only).created_at,
                )
            )  # fmt: skip
    return only


def test_a_planted_pair_is_revised_skipped_and_taken_back_like_any_other(
    database: Database, preferences: Preferences, queue: ReviewQueue
) -> None:
    only = planted(database, preferences, queue)
    before = pair(preferences, only)
    shown = card(queue)
    with pytest.raises(Conflict, match="cannot be changed at present"):
        queue.edit(ALI, "acme", only, shown.left.id, "Mended.")
    review = queue.vote(ALI, "acme", only, verdict=side(shown, shown.left.id))
    queue.revise(ALI, "acme", review.id, verdict=0)
    for _ in range(2):
        assert queue.undo(ALI, "acme") is not None
    queue.skip(ALI, "acme", only, "unclear")
    back = queue.undo(ALI, "acme")
    assert back is not None
    again = queue.vote(ALI, "acme", only, verdict=1)
    assert again.is_gold
    after = pair(preferences, only)
    assert (after.status, after.chosen_response_id) == (before.status, before.chosen_response_id)
    assert len(history(preferences, only).decisions) == 1
    assert queue.next_card(ALI, "acme") is None
