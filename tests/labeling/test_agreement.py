from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from sqlalchemy.orm import Session

from labeling.agreement import Agreement, Agreements, Couple, Slice
from labeling.votes import Basis
from services.db import Database
from services.errors import NotPermitted
from services.tenants.models import Actor
from services.tenants.store import UserRow
from tests.labeling.scene import ALI, BEA, CAN, CHIEF, ECE, FOREIGN, MIA, NOON, Scene, person

GRADES = (-3, -2, -1, 0, 1, 2, 3)


@pytest.fixture
def agreements(database: Database) -> Agreements:
    return Agreements(database)


def _slice(report: Agreement, dimension: str, name: str = "") -> Slice:
    return next(one for one in report.slices if (one.dimension, one.name) == (dimension, name))


def _couple(report: Agreement, first: Actor, second: Actor | None) -> Couple:
    """Of two raters, in whatever order; None is the AI."""
    for one in report.couples:
        names = {None if rater is None else rater.name for rater in (one.first, one.second)}
        if names == {first.name, None if second is None else second.name}:
            return one
    raise AssertionError(f"no couple of {first.name} and {second and second.name}")


def _enrol(session: Session, *actors: Actor) -> None:
    for actor in actors:
        session.add(
            UserRow(
                id=actor.id, username=actor.name.lower(), display_name=actor.name,
                password_hash="", language="en", disabled=False, created_at=NOON,
            )
        )  # fmt: skip


@pytest.mark.parametrize(
    "actor", [FOREIGN, ALI, person("Nobody")], ids=["wrong tenant", "annotator", "annotator 2"]
)
def test_others_are_refused(agreements: Agreements, actor: Actor) -> None:
    with pytest.raises(NotPermitted):
        agreements.report(actor, "acme")


def test_without_votes_there_is_insufficient_data_and_no_error(agreements: Agreements) -> None:
    report = agreements.report(MIA, "acme")
    assert (report.votes, report.raters, report.couples, report.criteria) == (0, (), (), {})
    assert report.overall.people.value is None
    assert report.overall.people.n == 0


def test_below_thirty_pairs_with_two_votes_nothing_is_claimed(
    database: Database, agreements: Agreements
) -> None:
    with database.write() as session:
        scene = Scene(session)
        for number in range(29):
            pair = scene.pair()
            for by in (ALI, BEA):
                scene.vote(pair, by, GRADES[number % 7])
        for _ in range(40):
            scene.vote(scene.pair(), ALI, 1)
    found = agreements.report(MIA, "acme").overall
    assert (found.people.value, found.people.n, found.pairs) == (None, 29, 69)
    assert (found.same_side.value, found.same_side.n) == (None, 29)


def test_alpha_is_that_of_the_votes(database: Database, agreements: Agreements) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(-3, 4, 60)
    said = np.clip(truth[:, None] + rng.integers(-1, 2, (60, 3)), -3, 3)
    with database.write() as session:
        scene = Scene(session)
        for row in said:
            pair = scene.pair()
            for by, value in zip((ALI, BEA, CAN), row, strict=True):
                scene.vote(pair, by, int(value))
    found = agreements.report(MIA, "acme").overall
    both_ways = np.concatenate([said, -said]).T.astype(float)
    expected = krippendorff.alpha(both_ways, level_of_measurement="ordinal")
    assert found.people.value == pytest.approx(float(expected), abs=2e-3)
    assert found.people.low is not None
    assert found.people.high is not None
    assert found.people.low < found.people.value < found.people.high
    sides = np.sign(said)
    alike = float(np.mean((sides == sides[:, :1]).all(axis=1)))
    assert found.same_side.value == pytest.approx(alike)


def test_both_bad_favours_no_answer(database: Database, agreements: Agreements) -> None:
    with database.write() as session:
        scene = Scene(session)
        for number in range(30):
            pair = scene.pair()
            scene.vote(pair, ALI, None if number % 2 else GRADES[number % 7])
            scene.vote(pair, BEA, 0 if number % 2 else GRADES[number % 7])
    found = agreements.report(MIA, "acme").overall
    assert found.people.value == 1.0
    assert found.same_side.value == 1.0


def test_blind_votes_are_compared_unless_the_last_word_is_asked_for(
    database: Database, agreements: Agreements
) -> None:
    with database.write() as session:
        scene = Scene(session)
        for number in range(40):
            pair = scene.pair()
            value = GRADES[number % 7]
            scene.vote(pair, ALI, value)
            other = scene.vote(pair, BEA, -value or 1)
            scene.vote(pair, BEA, value, revises_id=other.id, is_revealed=True)
    blind = agreements.report(MIA, "acme").overall
    last = agreements.report(MIA, "acme", basis=Basis.CURRENT).overall
    assert blind.people.value is not None
    assert blind.people.value < 0
    assert last.people.value == 1.0


def test_planted_pairs_and_edited_texts_say_nothing(
    database: Database, agreements: Agreements
) -> None:
    with database.write() as session:
        scene = Scene(session)
        for number in range(40):
            planted, edited = scene.pair(gold=0), scene.pair()
            for by in (ALI, BEA):
                scene.vote(planted, by, -1, is_gold=True)
                scene.vote(edited, by, GRADES[number % 7])
            scene.edit(edited, 0, "Something else.")
    report = agreements.report(MIA, "acme")
    assert (report.votes, report.overall.people.n) == (0, 0)


def test_the_ai_is_one_more_rater(database: Database, agreements: Agreements) -> None:
    with database.write() as session:
        _enrol(session, ALI)
        scene = Scene(session)
        for number in range(42):
            value = GRADES[number % 7]
            pair = scene.pair()
            for is_swapped in (False, True):
                scene.judge(pair, value, is_swapped=is_swapped)
            scene.vote(pair, ALI, value)
    report = agreements.report(CHIEF, "acme")
    assert report.overall.people.value is None  # nobody voted on the same pair as somebody else
    assert (report.overall.with_ai.value, report.overall.with_ai.n) == (1.0, 42)
    assert (report.overall.ai.value, report.overall.ai.n) == (1.0, 42)
    found = _couple(report, ALI, None)
    assert (found.kappa.value, found.same_side.value) == (1.0, 1.0)


def test_a_judge_that_contradicts_itself_and_stale_scores_do_not_rate(
    database: Database, agreements: Agreements
) -> None:
    with database.write() as session:
        scene = Scene(session)
        for number in range(35):
            contradicting = scene.pair()
            scene.judge(contradicting, -2)
            scene.judge(contradicting, 2, is_swapped=True)
            scene.vote(contradicting, ALI, GRADES[number % 7])
            stale = scene.pair(scores=(8.0, 4.0))
            scene.edit(stale, 0, "An edited answer.")
            scene.vote(stale, ALI, GRADES[number % 7])
    assert agreements.report(MIA, "acme").overall.ai.n == 0


def test_imported_scores_are_an_ai_too(database: Database, agreements: Agreements) -> None:
    with database.write() as session:
        scene = Scene(session)
        for _ in range(30):
            scene.vote(scene.pair(scores=(9.0, 2.0)), ALI, -3)
            scene.vote(scene.pair(scores=(2.0, 9.0)), ALI, 3)
    found = agreements.report(MIA, "acme").overall.ai
    assert (found.value, found.n) == (1.0, 60)


def test_languages_sources_and_the_pairs_drawn_by_lot_stand_on_their_own(
    database: Database, agreements: Agreements
) -> None:
    with database.write() as session:
        scene = Scene(session)
        for number in range(35):
            value = GRADES[number % 7]
            turkish = scene.pair(language="tr", source="a.jsonl")
            english = scene.pair(language="en", source="b.jsonl")
            for by, turn in ((ALI, 1), (BEA, -1)):
                scene.vote(turkish, by, value, is_random=by is ALI)
                scene.vote(english, by, turn * (value or 1))
    report = agreements.report(MIA, "acme")
    assert _slice(report, "language", "tr").people.value == 1.0
    assert _slice(report, "draw").people.value == 1.0
    disagreeing = _slice(report, "source", "b.jsonl").people.value
    assert disagreeing is not None
    assert disagreeing < 0
    assert [one.dimension for one in report.slices].count("source") == 2


def test_people_are_compared_two_by_two(database: Database, agreements: Agreements) -> None:
    with database.write() as session:
        _enrol(session, ALI, BEA, CAN)
        scene = Scene(session)
        for number in range(70):
            value = GRADES[number % 7]
            pair = scene.pair()
            scene.vote(pair, ALI, value)
            scene.vote(pair, BEA if number % 2 else CAN, value if number % 2 else (-value or 2))
    report = agreements.report(CHIEF, "acme")
    assert _couple(report, ALI, BEA).kappa.value == 1.0
    opposed = _couple(report, CAN, ALI)
    assert opposed.kappa.value is not None
    assert opposed.kappa.value < 0
    assert opposed.same_side.value == 0.0
    assert len(report.couples) == 2


def test_only_who_manages_people_reads_names(database: Database, agreements: Agreements) -> None:
    with database.write() as session:
        _enrol(session, ALI)
        scene = Scene(session)
        scene.vote(scene.pair(), ALI, 1)
    for reader, name in ((CHIEF, "Ali"), (ECE, None), (MIA, None)):
        (found,) = agreements.report(reader, "acme").raters
        assert found.name == name
        assert len(found.code) == 4


def test_ratings_are_compared_by_criterion(database: Database, agreements: Agreements) -> None:
    with database.write() as session:
        scene = Scene(session)
        for number in range(20):
            pair = scene.pair()
            stars = 1 + number % 5
            for by, off in ((ALI, 0), (BEA, 2)):
                given = {
                    pair.first: {"accuracy": stars, "clarity": 1 + (stars + off) % 5},
                    pair.second: {"accuracy": 6 - stars},
                }
                scene.vote(pair, by, 1, ratings=given)
    found = agreements.report(MIA, "acme").criteria
    assert set(found) == {"accuracy", "clarity"}
    assert (found["accuracy"].value, found["accuracy"].n) == (1.0, 40)
    assert (found["clarity"].value, found["clarity"].n) == (None, 20)
