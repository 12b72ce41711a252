from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from threading import Thread
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from labeling.models import Card
from labeling.queue import LEASE, ReviewQueue
from services.db import Database, new_id
from services.errors import Conflict
from services.preferences.models import PairStatus, ReviewKind
from services.preferences.service import Preferences
from services.preferences.store import PairRow, ReviewRow
from services.tenants.models import Actor, Role
from tests.services.preferences.conftest import Time
from tests.services.preferences.rows import pairs_file, person

PAIRS = 4
ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["next", "vote", "vote", "skip", "edit", "edit", "undo", "undo", "wait"]),
        st.sampled_from([-3, -1, 0, 2, "both_bad"]),
    ),
    min_size=5,
    max_size=25,
)


@dataclass
class Desk:
    """What the test knows of one annotator."""

    actor: Actor
    card: Card | None = None
    done: list[tuple[str, str, Any]] = field(default_factory=list)


@dataclass
class Room:
    """Three annotators at one tenant's queue, checked after each action."""

    tenant: str
    queue: ReviewQueue
    preferences: Preferences
    time: Time
    desks: list[Desk]
    live: int = 0

    @property
    def engineer(self) -> Actor:
        return person("Ece", Role.ENGINEER, self.tenant)

    def state(self, pair_id: str) -> tuple[Any, ...]:
        found = self.preferences.pair(self.engineer, self.tenant, pair_id)
        return (found.status, found.chosen_response_id, [one.text for one in found.responses])

    def act(self, desk: Desk, action: str, verdict: Any) -> None:
        if action == "wait":
            self.time.pass_minutes(4)
        elif action == "next":
            self.take(desk, self.queue.next_card(desk.actor, self.tenant))
        elif action == "undo":
            self.undo(desk)
        else:
            if desk.card is None:
                self.take(desk, self.queue.next_card(desk.actor, self.tenant))
            if desk.card is not None:
                self.work(desk, desk.card, action, verdict)

    def take(self, desk: Desk, card: Card | None) -> None:
        desk.card = card
        for other in self.desks:
            if card and other is not desk and other.card and other.card.pair_id == card.pair_id:
                assert other.card.lease_until < self.time.now, "one pair on two desks"
                other.card = None

    def work(self, desk: Desk, card: Card, action: str, verdict: Any) -> None:
        before = self.state(card.pair_id)
        actor, pair_id = desk.actor, card.pair_id
        if action == "vote":
            self.queue.vote(actor, self.tenant, pair_id, verdict=verdict)
            preferred = isinstance(verdict, int) and verdict != 0
            wanted = PairStatus.APPROVED if preferred else PairStatus.REJECTED
            assert self.state(pair_id)[0] is wanted
            desk.card, self.live = None, self.live + 1
        elif action == "skip":
            self.queue.skip(actor, self.tenant, pair_id)
            desk.card = None
        else:
            self.queue.edit(actor, self.tenant, pair_id, card.left.id, f"edit {new_id()}")
            self.take(desk, self.queue.next_card(actor, self.tenant))
        desk.done.append((action, pair_id, before))

    def undo(self, desk: Desk) -> None:
        try:
            card = self.queue.undo(desk.actor, self.tenant)
        except Conflict:
            # Only an edit can have been overtaken: nobody decides but by vote in this room.
            assert desk.done[-1][0] == "edit"
            return
        if not desk.done:
            assert card is None
            return
        action, pair_id, before = desk.done.pop()
        if action == "vote":
            self.live -= 1
        if action != "skip":
            assert card is not None
            assert self.state(pair_id) == before
        if card is not None:
            assert card.pair_id == pair_id
            self.take(desk, card)

    def check(self, database: Database) -> None:
        undone = select(ReviewRow.undoes_id).where(ReviewRow.undoes_id.is_not(None))
        votes = select(func.count()).where(
            ReviewRow.tenant_id == self.tenant,
            ReviewRow.kind == ReviewKind.VOTE.value,
            ReviewRow.id.not_in(undone),
        )
        decided = select(func.count()).where(
            PairRow.tenant_id == self.tenant, PairRow.status != PairStatus.UNREVIEWED.value
        )
        with database.read() as session:
            assert session.scalar(votes) == session.scalar(decided) == self.live
        for desk in self.desks:
            if desk.card is not None and desk.card.lease_until >= self.time.now:
                again = self.queue.next_card(desk.actor, self.tenant)
                assert again is not None
                assert again.pair_id == desk.card.pair_id
                assert again.left == desk.card.left


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(actions=ACTIONS)
def test_no_vote_is_lost_no_pair_is_on_two_desks_and_undo_restores(
    database: Database,
    preferences: Preferences,
    queue: ReviewQueue,
    time: Time,
    actions: list[tuple[int, str, Any]],
) -> None:
    # A tenant of its own makes each example start from nothing.
    tenant = f"t-{new_id()}"
    desks = [Desk(person(name, Role.ANNOTATOR, tenant)) for name in ("Ali", "Bea", "Can")]
    room = Room(tenant, queue, preferences, time, desks)
    preferences.import_pairs(room.engineer, tenant, pairs_file(PAIRS), source="file")
    for index, action, verdict in actions:
        room.act(desks[index], action, verdict)
    room.check(database)


def test_annotators_at_once_never_share_a_pair_and_lose_no_vote(
    preferences: Preferences, queue: ReviewQueue, database: Database, time: Time
) -> None:
    engineer = person("Ece", Role.ENGINEER)
    preferences.import_pairs(engineer, "acme", pairs_file(40), source="file")
    given: list[tuple[str, str]] = []
    failures: list[BaseException] = []

    def review(actor: Actor) -> None:
        try:
            while (card := queue.next_card(actor, "acme")) is not None:
                given.append((actor.id, card.pair_id))
                queue.vote(actor, "acme", card.pair_id, verdict=1)
        except BaseException as error:  # shown by the assertion below
            failures.append(error)

    people = [person(f"P{number}", Role.ANNOTATOR) for number in range(5)]
    threads = [Thread(target=review, args=(actor,)) for actor in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(given) == len({pair_id for _, pair_id in given}) == 40
    stats = preferences.stats(engineer, "acme")
    assert (stats.by_status[PairStatus.APPROVED], stats.reviews) == (40, 40)


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
