"""No sequence of actions, lapses and crashes breaks overlap or loses a vote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select
from sqlalchemy.orm import Session

from labeling import votes
from labeling.claims import PLANTED
from labeling.models import Card, ReviewPolicy
from labeling.policies import Policies
from labeling.queue import LEASE, ReviewQueue
from labeling.rules import outcome
from labeling.store import ClaimRow
from services.db import Database, new_id
from services.errors import Conflict, InvalidInput
from services.preferences import queries
from services.preferences.models import PairStatus
from services.preferences.service import Preferences
from services.preferences.store import PairRow, ReviewRow
from services.tenants.models import Actor, Role
from tests.services.preferences.conftest import Time
from tests.services.preferences.rows import pairs_file, person

VERDICTS = st.sampled_from([-3, -1, 0, 2, "both_bad"])
PEOPLE = st.integers(0, 3)
PAIRS = 4


class Crash(BaseException):
    """The process ends in the middle of a transaction."""


class Fragile:
    """A database whose next transaction ends before it is committed, if told so."""

    def __init__(self, database: Database) -> None:
        self._database, self.crashes = database, False

    def read(self) -> Any:
        return self._database.read()

    @contextmanager
    def write(self) -> Iterator[Session]:
        with self._database.write() as session:
            yield session
            if self.crashes:
                session.flush()
                self.crashes = False
                raise Crash


@dataclass
class Person:
    """What the test knows of one annotator.

    Attributes:
        card: What the person has before them; none where it was taken away by right.
        cast: Ids of all votes that the desk took.
    """

    actor: Actor
    card: Card | None = None
    cast: list[str] = field(default_factory=list)


class Room(RuleBasedStateMachine):
    """Four annotators and an engineer at four pairs, two votes on each, one of them planted."""

    def __init__(self, database: Database, preferences: Preferences, time: Time) -> None:
        super().__init__()
        self.database, self.preferences, self.time = database, preferences, time
        self.fragile = Fragile(database)
        # A fragile database does what a database does.
        self.queue = ReviewQueue(self.fragile, preferences, clock=time)  # type: ignore[arg-type]
        self.tenant = f"t-{new_id()}"
        self.engineer = person("Ece", Role.ENGINEER, self.tenant)
        self.people = [
            Person(person(name, Role.ANNOTATOR, self.tenant)) for name in ("A", "B", "C", "D")
        ]
        self.elsewhere: list[str] = []
        preferences.import_pairs(self.engineer, self.tenant, pairs_file(PAIRS), source="file")
        policy = ReviewPolicy(overlap=2, risky_overlap=2, gold_every=4)
        Policies(database).change(self.engineer, self.tenant, policy)
        first = preferences.pairs(self.engineer, self.tenant, limit=1).pairs[0]
        better = first.responses[0].id
        preferences.decide(
            self.engineer, self.tenant, first.id, verdict=PairStatus.APPROVED,
            chosen_response_id=better,
        )  # fmt: skip
        with database.write() as session:
            session.get_one(PairRow, first.id).gold_response_id = better
        self.planted = first.id

    def call(self, name: str, actor: Actor, *args: Any, **values: Any) -> Any:
        return getattr(self.queue, name)(actor, self.tenant, *args, **values)

    def disturb(self, pair_id: str, but: Person | None = None) -> None:
        """Everybody else may lose the card of a pair that changed or was decided."""
        for one in self.people:
            if one is not but and one.card is not None and one.card.pair_id == pair_id:
                one.card = None

    @rule(who=PEOPLE)
    def take(self, who: int) -> None:
        one = self.people[who]
        found = self.call("next_card", one.actor)
        if one.card is not None and one.card.lease_until >= self.time.now:
            assert found is not None
            assert found.pair_id == one.card.pair_id
            assert (found.left, found.right) == (one.card.left, one.card.right)
        one.card = found

    @rule(who=PEOPLE, verdict=VERDICTS, flagged=st.booleans())
    def vote(self, who: int, verdict: Any, flagged: bool) -> None:
        one = self.people[who]
        if one.card is None:
            return
        card, one.card = one.card, None
        shown = (card.left.id, card.right.id)
        flags = ["unsafe"] if flagged and verdict == 2 else []
        try:
            review = self.call(
                "vote", one.actor, card.pair_id, verdict=verdict, flags=flags, shown=shown
            )
        except Conflict:
            assert card.lease_until < self.time.now, "a card was lost while its lease held"
            return
        one.cast.append(review.id)
        assert (review.left_response_id, review.right_response_id) == shown
        if self.status(card.pair_id) != PairStatus.UNREVIEWED.value:
            self.disturb(card.pair_id)

    @rule(who=PEOPLE)
    def skip(self, who: int) -> None:
        one = self.people[who]
        if one.card is None:
            return
        card, one.card = one.card, None
        try:
            self.call("skip", one.actor, card.pair_id, "unclear")
        except Conflict:
            assert card.lease_until < self.time.now

    @rule(who=PEOPLE, which=st.booleans())
    def edit(self, who: int, which: bool) -> None:
        one = self.people[who]
        if one.card is None:
            return
        card = one.card
        text, target = f"edit {new_id()}", card.left if which else card.right
        try:
            self.call("edit", one.actor, card.pair_id, target.id, text)
        except Conflict:
            assert card.lease_until < self.time.now or card.pair_id == self.planted
            assert text in {draft.text for draft in self.call("my_drafts", one.actor)}
            return
        self.disturb(card.pair_id, one)
        one.card = self.call("next_card", one.actor)
        assert one.card is not None
        assert text in {one.card.left.text, one.card.right.text}

    @rule(who=PEOPLE)
    def undo(self, who: int) -> None:
        one = self.people[who]
        before = self.texts()
        try:
            back = self.call("undo", one.actor)
        except Conflict:
            return
        for pair_id, texts in self.texts().items():
            if texts != before[pair_id]:
                self.disturb(pair_id, one)
        if back is not None and back.review_id is None:
            one.card = back

    @rule(who=PEOPLE, verdict=VERDICTS)
    def revise(self, who: int, verdict: Any) -> None:
        one = self.people[who]
        if not one.cast:
            return
        try:
            review = self.call("revise", one.actor, one.cast[-1], verdict=verdict)
        except Conflict:
            return
        one.cast.append(review.id)

    @rule(minutes=st.sampled_from([4, 11]))
    def wait(self, minutes: int) -> None:
        self.time.pass_minutes(minutes)

    @rule(number=st.integers(1, PAIRS - 1), opens=st.booleans())
    def decide(self, number: int, opens: bool) -> None:
        pair_id = self.pairs()[number]
        verdict = PairStatus.UNREVIEWED if opens else PairStatus.REJECTED
        if opens and self.status(pair_id) == verdict.value:
            return
        self.preferences.decide(self.engineer, self.tenant, pair_id, verdict=verdict)
        self.disturb(pair_id)

    @rule(number=st.integers(1, PAIRS - 1), verdict=VERDICTS, who=st.integers(0, 5))
    def vote_elsewhere(self, number: int, verdict: Any, who: int) -> None:
        found = self.preferences.pair(self.engineer, self.tenant, self.pairs()[number])
        annotator = self.people[who].actor.id if who < 4 else f"elsewhere-{who}"
        left, right = (one.id for one in found.responses)
        try:
            review = self.call(
                "record_outside", self.engineer, found.id, annotator_id=annotator,
                left_response_id=left, right_response_id=right, verdict=verdict,
            )  # fmt: skip
        except Conflict:
            return
        if who < 4:
            self.people[who].cast.append(review.id)
            if (card := self.people[who].card) is not None and card.pair_id == found.id:
                self.people[who].card = None
        else:
            self.elsewhere.append(review.id)
        if self.status(found.id) != PairStatus.UNREVIEWED.value:
            self.disturb(found.id)

    @rule(who=PEOPLE, action=st.sampled_from(["next_card", "vote", "edit", "skip", "undo"]))
    def crash(self, who: int, action: str) -> None:
        one = self.people[who]
        arguments: dict[str, Any] = {}
        if action in {"vote", "edit", "skip"}:
            if one.card is None:
                return
            values: dict[str, dict[str, Any]] = {
                "vote": {"verdict": 1},
                "edit": {"response_id": one.card.left.id, "text": f"lost {new_id()}"},
                "skip": {"reason": "other"},
            }
            arguments = {**values[action], "pair_id": one.card.pair_id}
        self.fragile.crashes = True
        try:
            self.call(action, one.actor, **arguments)
        except (Crash, Conflict, InvalidInput):
            pass
        finally:
            self.fragile.crashes = False

    @invariant()
    def places_are_held_once_and_votes_hold_them(self) -> None:
        with self.database.read() as session:
            rows = session.scalars(select(PairRow).where(PairRow.tenant_id == self.tenant)).all()
            counted = [vote for vote in votes.current(session, self.tenant) if not vote.is_gold]
            for row in rows:
                claims = session.scalars(select(ClaimRow).where(ClaimRow.pair_id == row.id)).all()
                seats = [claim for claim in claims if claim.place <= PLANTED]
                assert row.taken == len(seats)
                assert all(1 <= seat.place <= row.overlap for seat in seats)
                standing = [vote for vote in counted if vote.pair_id == row.id]
                assert len(standing) <= row.overlap
                held = {seat.review_id for seat in seats if seat.review_id is not None}
                assert held == {vote.id for vote in standing}
                decisions = queries.history(session, row.id).decisions
                if row.status == PairStatus.UNREVIEWED.value:
                    assert outcome(standing, overlap=row.overlap) is None
                elif decisions[-1].review_id is not None:
                    found = outcome(standing, overlap=row.overlap)
                    assert found is not None
                    assert (found.status, found.chosen_response_id) == (
                        PairStatus(row.status), row.chosen_response_id,
                    )  # fmt: skip

    @invariant()
    def no_vote_is_lost(self) -> None:
        with self.database.read() as session:
            stored = set(
                session.scalars(
                    select(ReviewRow.id).where(
                        ReviewRow.tenant_id == self.tenant, ReviewRow.kind == "vote"
                    )
                )
            )
        mine = {review_id for one in self.people for review_id in one.cast}
        assert stored == mine | set(self.elsewhere)

    @invariant()
    def nobody_has_two_cards(self) -> None:
        with self.database.read() as session:
            out = session.scalars(
                select(ClaimRow.annotator_id).where(
                    ClaimRow.tenant_id == self.tenant, ClaimRow.until >= self.time.now
                )
            ).all()
        assert len(out) == len(set(out))

    def pairs(self) -> list[str]:
        return [one.id for one in self.preferences.pairs(self.engineer, self.tenant).pairs]

    def status(self, pair_id: str) -> str:
        return self.preferences.pair(self.engineer, self.tenant, pair_id).status.value

    def texts(self) -> dict[str, set[str]]:
        found = self.preferences.pairs(self.engineer, self.tenant).pairs
        return {one.id: {version.id for version in one.responses} for one in found}


@pytest.mark.parametrize("steps", [40])
def test_no_sequence_breaks_overlap_or_loses_a_vote(
    database: Database, preferences: Preferences, time: Time, steps: int
) -> None:
    class Fresh(Room):
        """A tenant of its own makes each example start from nothing."""

        def __init__(self) -> None:
            super().__init__(database, preferences, time)

    run_state_machine_as_test(
        Fresh,
        settings=settings(
            max_examples=25,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("overlap", [1, 3])
def test_annotators_at_once_never_exceed_the_overlap_and_lose_no_vote(
    preferences: Preferences, queue: ReviewQueue, database: Database, overlap: int
) -> None:
    engineer = person("Ece", Role.ENGINEER)
    preferences.import_pairs(engineer, "acme", pairs_file(30), source="file")
    Policies(database).change(
        engineer, "acme", ReviewPolicy(overlap=overlap, risky_overlap=overlap)
    )
    given: list[tuple[str, str]] = []
    failures: list[BaseException] = []

    def review(actor: Actor) -> None:
        try:
            while (card := queue.next_card(actor, "acme")) is not None:
                given.append((actor.id, card.pair_id))
                queue.vote(actor, "acme", card.pair_id, verdict=0)
        except BaseException as error:  # shown by the assertion below
            failures.append(error)

    people = [person(f"P{number}", Role.ANNOTATOR) for number in range(5)]
    threads = [Thread(target=review, args=(actor,)) for actor in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(given) == len(set(given)) == 30 * overlap
    stats = preferences.stats(engineer, "acme")
    assert (stats.by_status[PairStatus.REJECTED], stats.reviews) == (30, 30 * overlap)


def test_one_person_in_two_windows_has_one_card(
    preferences: Preferences, queue: ReviewQueue, time: Time
) -> None:
    preferences.import_pairs(person("Ece", Role.ENGINEER), "acme", pairs_file(9), source="file")
    actor = person("Ali", Role.ANNOTATOR)
    found: list[tuple[str, datetime]] = []

    def window() -> None:
        card = queue.next_card(actor, "acme")
        assert card is not None
        found.append((card.pair_id, card.lease_until))

    threads = [Thread(target=window) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(found[0][0], time.now + LEASE)] * 4
