from __future__ import annotations

from datetime import timedelta

import pytest

from labeling.meters import Meter, Meters
from labeling.models import ReviewPolicy
from labeling.policies import Policies
from services.db import Database
from services.errors import NotPermitted
from services.preferences.models import PairStatus
from services.tenants.models import Actor
from tests.labeling.scene import ALI, BEA, ECE, FOREIGN, MIA, NOON, Scene, person


@pytest.fixture
def meters(database: Database) -> Meters:
    return Meters(database, clock=lambda: NOON + timedelta(hours=1))


def _mine(meters: Meters, actor: Actor = ALI) -> Meter:
    return meters.mine(actor, "acme")


@pytest.mark.parametrize("actor", [FOREIGN, MIA], ids=["wrong tenant", "wrong role"])
def test_who_does_not_review_has_no_meters(meters: Meters, actor: Actor) -> None:
    with pytest.raises(NotPermitted):
        meters.mine(actor, "acme")


@pytest.mark.parametrize("actor", [FOREIGN, ALI], ids=["wrong tenant", "wrong role"])
def test_others_do_not_see_everybody(meters: Meters, actor: Actor) -> None:
    with pytest.raises(NotPermitted):
        meters.everyone(actor, "acme")


def test_who_has_done_nothing_has_empty_meters(meters: Meters) -> None:
    mine = _mine(meters)
    assert (mine.votes, mine.pairs_per_hour, mine.chose_left.value) == (0, None, None)
    found = meters.everyone(MIA, "acme")
    assert (found.annotators, found.team.votes, found.hours_left) == ((), 0, None)


def test_only_the_tenants_and_the_persons_own_votes_count(
    database: Database, meters: Meters
) -> None:
    with database.write() as session:
        ours, theirs = Scene(session), Scene(session, tenant_id="globex")
        ours.vote(ours.pair(), ALI, 1)
        ours.vote(ours.pair(), BEA, 1)
        theirs.vote(theirs.pair(), ALI, 1)
    assert _mine(meters).votes == 1
    assert meters.everyone(MIA, "acme").team.votes == 2


def test_what_was_taken_back_does_not_count(database: Database, meters: Meters) -> None:
    with database.write() as session:
        scene = Scene(session)
        pair = scene.pair()
        scene.undo(scene.vote(pair, ALI, 1, active_ms=5_000), pair)
        scene.undo(scene.skip(pair, ALI), pair)
        scene.skip(pair, ALI)
        scene.edit(pair, 0, "Mended.", by=ALI)
    mine = _mine(meters)
    assert (mine.votes, mine.skips, mine.edits, mine.active_s) == (0, 1, 1, 0.0)


def test_speed_counts_active_time_revisions_included(database: Database, meters: Meters) -> None:
    with database.write() as session:
        scene = Scene(session)
        for _ in range(3):
            pair = scene.pair()
            first = scene.vote(pair, ALI, 1, active_ms=20_000)
            scene.vote(pair, ALI, 2, active_ms=10_000, revises_id=first.id, is_revealed=True)
        scene.vote(scene.pair(), ALI, 1)  # was not timed
    mine = _mine(meters)
    assert (mine.votes, mine.active_s) == (4, 90.0)
    assert mine.pairs_per_hour == pytest.approx(120.0)


def test_sides_and_lengths_are_counted_on_votes_for_an_answer(
    database: Database, meters: Meters
) -> None:
    with database.write() as session:
        scene = Scene(session)
        for number in range(10):
            pair = scene.pair(texts=("Short.", "Much longer than that."))
            chosen = 1 if number < 7 else -1  # the longer one
            left = pair.second if number < 4 else pair.first
            scene.vote(pair, ALI, chosen, left=left)
        alike = scene.pair(texts=("Four", "Five"))
        scene.vote(alike, ALI, -1, left=alike.first)
        scene.vote(scene.pair(), ALI, 0)
        scene.vote(scene.pair(), ALI, None)
    mine = _mine(meters)
    assert (mine.chose_longer.value, mine.chose_longer.n) == (0.7, 10)
    assert mine.chose_left.n == 11
    assert mine.chose_left.value == pytest.approx(8 / 11)
    assert mine.chose_left.low is not None
    assert mine.chose_left.low < 8 / 11


def test_a_vote_confirms_the_import_only_where_no_text_was_changed(
    database: Database, meters: Meters
) -> None:
    with database.write() as session:
        scene = Scene(session)
        scene.vote(scene.pair(imported=0), ALI, -1)
        scene.vote(scene.pair(imported=0), ALI, 1)
        edited = scene.pair(imported=1)
        scene.edit(edited, 1, "Mended by hand.")
        scene.vote(edited, ALI, 2)
        scene.vote(scene.pair(imported=1), ALI, 0)
        scene.vote(scene.pair(), ALI, 1)  # came without a preference
    found = _mine(meters).approved_as_is
    assert (found.value, found.n) == (0.25, 4)


def test_too_fast_is_what_the_tenant_says(database: Database, meters: Meters) -> None:
    with database.write() as session:
        scene = Scene(session)
        for active_ms in (1_000, 2_999, 3_000, 9_000):
            scene.vote(scene.pair(), ALI, 1, active_ms=active_ms)
    assert _mine(meters).too_fast.value == 0.5
    Policies(database).change(ECE, "acme", ReviewPolicy(too_fast_ms=9_001))
    assert _mine(meters).too_fast.value == 1.0
    assert meters.everyone(MIA, "acme").too_fast_ms == 9_001


def test_planted_pairs_measure_who_is_right_and_nothing_else(
    database: Database, meters: Meters
) -> None:
    with database.write() as session:
        scene = Scene(session)
        for gold, value in ((0, -2), (0, 1), (1, 3), (1, 0)):
            scene.vote(scene.pair(gold=gold, imported=gold), ALI, value, is_gold=True)
        edited = scene.pair(gold=0)
        scene.edit(edited, 0, "A newer version of the better answer.")
        scene.vote(edited, ALI, -1, is_gold=True)
    mine = _mine(meters)
    assert (mine.gold.value, mine.gold.n) == (0.6, 5)
    assert (mine.approved_as_is.n, mine.chose_left.n) == (0, 0)
    assert mine.votes == 5


def test_a_change_of_mind_is_another_verdict_not_another_note(
    database: Database, meters: Meters
) -> None:
    with database.write() as session:
        scene = Scene(session)
        for value, revised in ((1, -1), (1, 2), (0, None), (2, 2), (3, "taken back"), (1, "none")):
            pair = scene.pair()
            first = scene.vote(pair, ALI, value)
            if revised == "none":
                continue
            to = -3 if revised == "taken back" else revised
            assert not isinstance(to, str)
            again = scene.vote(pair, ALI, to, note="why", revises_id=first.id, is_revealed=True)
            if revised == "taken back":
                scene.undo(again, pair)
    found = _mine(meters).changed
    assert found.n == 6
    assert found.value == pytest.approx(3 / 6)


def test_a_period_leaves_out_what_is_older(database: Database, meters: Meters) -> None:
    with database.write() as session:
        scene = Scene(session)
        scene.vote(scene.pair(), ALI, 1, at=NOON - timedelta(days=8))
        scene.vote(scene.pair(), ALI, 1, at=NOON - timedelta(days=2))
    assert meters.mine(ALI, "acme", within=timedelta(days=7)).votes == 1
    assert meters.everyone(MIA, "acme", within=timedelta(days=7)).team.votes == 1
    assert meters.everyone(MIA, "acme").team.votes == 2


def test_the_lead_sees_what_is_left_to_do(database: Database, meters: Meters) -> None:
    with database.write() as session:
        scene = Scene(session)
        scene.pair(overlap=3, taken=1)
        scene.pair(overlap=1, taken=0)
        scene.pair(overlap=2, taken=0, status=PairStatus.APPROVED)
        scene.pair(overlap=2, taken=2, status=PairStatus.DISPUTED)
        scene.vote(scene.pair(overlap=1, taken=1), BEA, 1, active_ms=60_000)
    found = meters.everyone(MIA, "acme")
    assert found.votes_left == 3
    assert found.hours_left == pytest.approx(3 / 60)
    assert found.by_status[PairStatus.APPROVED] == 1
    assert found.by_status[PairStatus.DISPUTED] == 1


def test_everybody_is_the_sum_of_the_annotators(database: Database, meters: Meters) -> None:
    people = [person(name) for name in ("A", "B", "C")]
    with database.write() as session:
        scene = Scene(session)
        for number in range(30):
            scene.vote(scene.pair(), people[number % 3], (-1, 1)[number % 2], active_ms=4_000)
    found = meters.everyone(MIA, "acme")
    assert [one.votes for one in found.annotators] == [10, 10, 10]
    assert found.team.votes == 30
    assert found.team.chose_left.n == sum(one.chose_left.n for one in found.annotators)
    codes = {one.person.code for one in found.annotators if one.person}
    assert len(codes) == 3
