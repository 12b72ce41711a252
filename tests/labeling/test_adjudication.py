from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from labeling.adjudication import Adjudication, Quarrel
from labeling.models import ReviewPolicy
from labeling.policies import Policies
from labeling.queue import ReviewQueue
from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted
from services.preferences.models import PairStatus
from services.preferences.service import MAX_NOTE, Preferences
from services.tenants.models import Actor
from tests.labeling.scene import ALI, BEA, CAN, ECE, FOREIGN, MIA, Made, Scene
from tests.services.preferences.rows import pairs_file

Call = Callable[[Adjudication, Actor], Any]
READS: dict[str, Call] = {
    "count": lambda a, actor: a.count(actor, "acme"),
    "disputes": lambda a, actor: a.disputes(actor, "acme"),
    "case": lambda a, actor: a.case(actor, "acme", "x"),
    "settled": lambda a, actor: a.settled(actor, "acme"),
}
WRITES: dict[str, Call] = {
    "settle": lambda a, actor: a.settle(actor, "acme", "x", chosen_response_id=None, reason="why"),
    "ask again": lambda a, actor: a.ask_again(actor, "acme", "x", reason="why"),
    "reopen": lambda a, actor: a.reopen(actor, "acme", "x", reason="why"),
}


@pytest.fixture
def adjudication(database: Database, preferences: Preferences) -> Adjudication:
    return Adjudication(database, preferences)


@pytest.fixture
def disputed(database: Database) -> Made:
    with database.write() as session:
        scene = Scene(session)
        pair = scene.pair(status=PairStatus.DISPUTED, taken=2)
        scene.vote(pair, ALI, -2, note="True.", ratings={pair.first: {"accuracy": 5}})
        scene.vote(pair, BEA, 1, note="Kinder.", flags=["needs_expert"])
        return pair


@pytest.fixture
def quarrel(database: Database, preferences: Preferences, queue: ReviewQueue) -> Made:
    """A pair on which two annotators have voted against each other at the desk."""
    Policies(database).change(ECE, "acme", ReviewPolicy(overlap=2, risky_overlap=2))
    preferences.import_pairs(ECE, "acme", pairs_file(1), source="file")
    for by, is_first in ((ALI, True), (BEA, False)):
        card = queue.next_card(by, "acme")
        assert card is not None
        first, _second = sorted((card.left, card.right), key=lambda one: one.id)
        verdict = -2 if (card.left == first) is is_first else 2
        queue.vote(by, "acme", card.pair_id, verdict=verdict)
    pair = preferences.pairs(ECE, "acme").pairs[0]
    assert pair.status is PairStatus.DISPUTED
    ids = sorted(one.id for one in pair.responses)
    return Made(pair.id, "acme", ids[0], ids[1], ids[0], ids[1])


def _status(preferences: Preferences, pair: Made) -> PairStatus:
    return preferences.pair(ECE, "acme", pair.id).status


def _settle(adjudication: Adjudication, pair: Made, **changes: Any) -> None:
    wanted = {"chosen_response_id": pair.first, "reason": "It is true.", **changes}
    adjudication.settle(ECE, "acme", pair.id, **wanted)


@pytest.mark.parametrize("call", [*READS.values(), *WRITES.values()], ids=[*READS, *WRITES])
@pytest.mark.parametrize("actor", [FOREIGN, ALI], ids=["wrong tenant", "wrong role"])
def test_others_are_refused(adjudication: Adjudication, call: Call, actor: Actor) -> None:
    with pytest.raises(NotPermitted):
        call(adjudication, actor)


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
def test_a_manager_settles_nothing(adjudication: Adjudication, call: Call) -> None:
    with pytest.raises(NotPermitted):
        call(adjudication, MIA)


def test_a_pair_of_another_tenant_is_not_found(
    database: Database, adjudication: Adjudication
) -> None:
    with database.write() as session:
        theirs = Scene(session, tenant_id="globex").pair(status=PairStatus.DISPUTED)
    assert adjudication.count(MIA, "acme") == 0
    with pytest.raises(NotFound):
        adjudication.case(MIA, "acme", theirs.id)
    with pytest.raises(NotFound):
        _settle(adjudication, theirs)


def test_the_queue_says_what_is_disputed(
    database: Database, adjudication: Adjudication, disputed: Made
) -> None:
    with database.write() as session:
        scene = Scene(session)
        urgent = scene.pair(status=PairStatus.DISPUTED, priority=3)
        scene.vote(urgent, ALI, 0)
        scene.vote(urgent, BEA, 2)
        edited = scene.pair(status=PairStatus.DISPUTED, priority=1)
        scene.vote(edited, ALI, 1)
        scene.edit(edited, 0, "Another text.")
        scene.pair(status=PairStatus.APPROVED)
    found = adjudication.disputes(MIA, "acme")
    assert [one.pair_id for one in found] == [urgent.id, edited.id, disputed.id]
    assert [one.quarrels for one in found] == [
        (Quarrel.UNDECIDED,),
        (),
        (Quarrel.OPPOSITE, Quarrel.FLAGGED),
    ]
    assert [one.votes for one in found] == [2, 0, 2]
    assert adjudication.count(MIA, "acme") == 3
    assert [one.pair_id for one in adjudication.disputes(MIA, "acme", limit=1, offset=1)] == [
        edited.id
    ]


def test_a_case_shows_all_reasons_and_no_name(adjudication: Adjudication, disputed: Made) -> None:
    case = adjudication.case(MIA, "acme", disputed.id)
    assert {one.id for one in (case.left, case.right)} == {disputed.first, disputed.second}
    said = {one.note: one for one in case.opinions}
    assert set(said) == {"True.", "Kinder."}
    assert sorted(one.letter for one in case.opinions) == ["A", "B"]
    assert said["True."].preferred_response_id == disputed.first
    assert said["True."].ratings == {disputed.first: {"accuracy": 5}}
    assert said["Kinder."].flags == ("needs_expert",)
    assert ALI.id not in repr(case.opinions)
    assert BEA.id not in repr(case.opinions)


def test_a_letter_does_not_follow_a_person(database: Database, adjudication: Adjudication) -> None:
    with database.write() as session:
        scene = Scene(session)
        pairs = [scene.pair(status=PairStatus.DISPUTED) for _ in range(12)]
        for pair in pairs:
            scene.vote(pair, ALI, -1, note="by Ali")
            scene.vote(pair, BEA, 1, note="by Bea")
    cases = [adjudication.case(MIA, "acme", pair.id) for pair in pairs]
    assert {case.opinions[0].note for case in cases} == {"by Ali", "by Bea"}


def test_a_revision_is_shown_with_what_was_said_before(
    database: Database, adjudication: Adjudication
) -> None:
    with database.write() as session:
        scene = Scene(session)
        pair = scene.pair(status=PairStatus.DISPUTED)
        first = scene.vote(pair, ALI, -1)
        scene.vote(pair, ALI, 2, revises_id=first.id, is_revealed=True)
        scene.judge(pair, 2)
    case = adjudication.case(MIA, "acme", pair.id)
    (opinion,) = case.opinions
    assert opinion.preferred_response_id == pair.second
    assert opinion.first is not None
    assert opinion.first.preferred_response_id == pair.first
    assert case.ai is not None
    assert case.ai.preferred_response_id == pair.second


def test_votes_on_an_older_text_and_on_planted_cards_are_no_opinions(
    database: Database, adjudication: Adjudication
) -> None:
    with database.write() as session:
        scene = Scene(session)
        pair = scene.pair(status=PairStatus.DISPUTED)
        scene.vote(pair, ALI, -1)
        scene.edit(pair, 0, "Edited.")
        scene.vote(pair, BEA, 1, is_gold=True)
        scene.vote(pair, CAN, 1)
    assert len(adjudication.case(MIA, "acme", pair.id).opinions) == 1


def test_an_adjudicator_who_voted_is_told_so(
    database: Database, adjudication: Adjudication, disputed: Made
) -> None:
    with database.write() as session:
        Scene(session).vote(disputed, ECE, 3, note="mine")
    opinions = adjudication.case(ECE, "acme", disputed.id).opinions
    assert {one.note for one in opinions if one.is_own} == {"mine"}


def test_settling_appends_a_decision_with_its_reason(
    database: Database, adjudication: Adjudication, preferences: Preferences, disputed: Made
) -> None:
    _settle(adjudication, disputed)
    pair = preferences.pair(ECE, "acme", disputed.id)
    assert (pair.status, pair.chosen_response_id) == (PairStatus.APPROVED, disputed.first)
    assert pair.history is not None
    assert [one.reason for one in pair.history.decisions] == ["It is true."]
    assert len(pair.history.reviews) == 2
    with database.read() as session:
        (event,) = session.scalars(select(OutboxRow))
    assert (event.action, event.actor_id) == ("pair.settled", ECE.id)
    assert "It is true." not in str(event.details)
    assert adjudication.count(MIA, "acme") == 0


def test_nothing_better_rejects_the_pair(
    adjudication: Adjudication, preferences: Preferences, disputed: Made
) -> None:
    _settle(adjudication, disputed, chosen_response_id=None)
    assert _status(preferences, disputed) is PairStatus.REJECTED


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": "  "},
        {"reason": "x" * (MAX_NOTE + 1)},
        {"reason": "half \ud800"},
        {"chosen_response_id": "nobody's"},
    ],
    ids=["no reason", "too long", "half a surrogate", "foreign response"],
)
def test_bad_input_settles_nothing(
    adjudication: Adjudication,
    preferences: Preferences,
    disputed: Made,
    changes: dict[str, Any],
) -> None:
    with pytest.raises(InvalidInput):
        _settle(adjudication, disputed, **changes)
    assert _status(preferences, disputed) is PairStatus.DISPUTED


def test_what_somebody_else_has_settled_is_not_settled_again(
    adjudication: Adjudication, disputed: Made
) -> None:
    _settle(adjudication, disputed)
    with pytest.raises(Conflict, match="found it approved"):
        _settle(adjudication, disputed, chosen_response_id=None)
    with pytest.raises(Conflict):
        adjudication.ask_again(ECE, "acme", disputed.id, reason="why")


def test_a_version_that_was_edited_meanwhile_is_not_chosen(
    database: Database, adjudication: Adjudication, disputed: Made
) -> None:
    seen = disputed.first
    with database.write() as session:
        Scene(session).edit(disputed, 0, "Edited meanwhile.")
    with pytest.raises(InvalidInput):
        _settle(adjudication, disputed, chosen_response_id=seen)


def test_one_more_person_is_asked(
    adjudication: Adjudication, queue: ReviewQueue, quarrel: Made
) -> None:
    decision = adjudication.ask_again(ECE, "acme", quarrel.id, reason="Too close.")
    assert decision.verdict is PairStatus.UNREVIEWED
    for by in (ALI, BEA):
        assert queue.next_card(by, "acme") is None
    card = queue.next_card(CAN, "acme")
    assert card is not None
    assert card.pair_id == quarrel.id
    queue.vote(CAN, "acme", quarrel.id, verdict=-1)
    case = adjudication.case(ECE, "acme", quarrel.id)
    assert len(case.opinions) == 3
    assert case.pair.status is PairStatus.DISPUTED


def test_what_was_settled_can_be_opened_again(
    adjudication: Adjudication, preferences: Preferences, quarrel: Made
) -> None:
    _settle(adjudication, quarrel)
    (settled,) = adjudication.settled(ECE, "acme")
    assert (settled.pair_id, settled.reason) == (quarrel.id, "It is true.")
    assert settled.by_reader
    assert not adjudication.settled(MIA, "acme")[0].by_reader
    adjudication.reopen(ECE, "acme", quarrel.id, reason="New source.")
    assert _status(preferences, quarrel) is PairStatus.DISPUTED
    assert adjudication.settled(ECE, "acme") == ()
    _settle(adjudication, quarrel, chosen_response_id=quarrel.second)
    assert len(adjudication.settled(ECE, "acme")) == 1


def test_a_vote_that_is_taken_back_after_settling_is_refused_and_the_decision_stands(
    adjudication: Adjudication, preferences: Preferences, queue: ReviewQueue, quarrel: Made
) -> None:
    _settle(adjudication, quarrel)
    with pytest.raises(Conflict):
        queue.undo(BEA, "acme")
    assert _status(preferences, quarrel) is PairStatus.APPROVED


def test_what_nobody_disputed_is_not_opened_here(
    database: Database, adjudication: Adjudication, preferences: Preferences
) -> None:
    with database.write() as session:
        pair = Scene(session).pair()
    preferences.decide(
        ECE, "acme", pair.id, verdict=PairStatus.APPROVED, chosen_response_id=pair.first
    )
    with pytest.raises(Conflict):
        adjudication.reopen(ECE, "acme", pair.id, reason="why")
    assert adjudication.settled(ECE, "acme") == ()
