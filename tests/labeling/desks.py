"""People at the review desk, and pairs as other rooms would have left them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from labeling.models import Card, ReviewPolicy
from labeling.policies import Policies
from labeling.queue import ReviewQueue
from labeling.store import ClaimRow
from services.db import Database
from services.preferences.models import History, Pair
from services.preferences.service import Preferences
from services.preferences.store import PairRow
from services.tenants.models import Actor, Role
from tests.services.preferences.rows import ENGINEER, person

ALI, BEA, CAN, DAN = (person(name, Role.ANNOTATOR) for name in ("Ali", "Bea", "Can", "Dan"))


def card(queue: ReviewQueue, actor: Actor = ALI) -> Card:
    """The annotator's card, which must be there."""
    found = queue.next_card(actor, "acme")
    assert found is not None
    return found


def side(shown: Card, response_id: str) -> int:
    """The verdict that slightly prefers an answer, as this card shows it."""
    return -1 if shown.left.root_id == response_id else 1


def policy(database: Database, **values: Any) -> None:
    """Have the tenant review in another way."""
    overlap = values.get("overlap", 1)
    values.setdefault("risky_overlap", overlap)
    Policies(database).change(ENGINEER, "acme", ReviewPolicy(**values))


def pair(preferences: Preferences, pair_id: str) -> Pair:
    return preferences.pair(ENGINEER, "acme", pair_id)


def history(preferences: Preferences, pair_id: str) -> History:
    found = pair(preferences, pair_id).history
    assert found is not None
    return found


def pair_ids(preferences: Preferences) -> list[str]:
    """All pairs in order of arrival."""
    return [one.id for one in preferences.pairs(ENGINEER, "acme", limit=1_000).pairs]


def change(database: Database, pair_id: str, **values: Any) -> None:
    """Set columns of a pair."""
    with database.write() as session:
        session.execute(update(PairRow).where(PairRow.id == pair_id).values(**values))


def places(database: Database, pair_id: str) -> dict[int, str]:
    """Who holds which place at a pair."""
    with database.read() as session:
        rows = session.scalars(select(ClaimRow).where(ClaimRow.pair_id == pair_id))
        return {row.place: row.annotator_id for row in rows}


def served(queue: ReviewQueue, actor: Actor, count: int) -> list[Card]:
    """Cards that a person is given one after the other, voting on each."""
    found = []
    for _ in range(count):
        found.append(card(queue, actor))
        queue.vote(actor, "acme", found[-1].pair_id, verdict=1)
    return found
