"""Samples as they come from the gateway, and what people think of single answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from services.attestation.service import Receipts
from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import InvalidInput, NotFound
from services.rollouts.samples import store
from services.rollouts.samples.models import Sample, Thumb
from services.tenants.models import Actor


def observe(session: Session, samples: Sequence[Sample]) -> None:
    """Keep what the arms answered, in the transaction that also records the requests."""
    if samples:
        store.add(session, samples)


class Feedback:
    """Thumbs up and down.

    Args:
        receipts: Know who was answered what.
    """

    def __init__(self, db: Database, receipts: Receipts, *, clock: Clock = utcnow) -> None:
        self._db = db
        self._receipts = receipts
        self._clock = clock

    def give(self, actor: Actor, request_id: str, thumb: str) -> datetime:
        """Say what one thinks of an answer; the latest word counts.

        Args:
            request_id: Of the answer, which is also the id of its receipt.
            thumb: `up`, `down`, or `none` to take it back.

        Raises:
            InvalidInput: The thumb is another word.
            NotFound: The actor has received no such answer.
        """
        if thumb not in {one.value for one in Thumb}:
            raise InvalidInput(f"thumb: expected up, down or none, found {thumb[:40]!r}")
        receipt = self._receipts.get(actor, request_id)
        if receipt.actor_id != actor.id:
            raise NotFound(f"answer {request_id[:80]!r}: expected one of your own, found none")
        now = self._clock()
        with self._db.write() as session:
            session.add(
                store.FeedbackRow(
                    id=new_id(),
                    tenant_id=receipt.tenant_id,
                    request_id=receipt.request_id,
                    actor_id=actor.id,
                    thumb=thumb,
                    at=now,
                )
            )
            record(
                session, actor, "feedback.given", f"request:{receipt.request_id}",
                tenant_id=receipt.tenant_id, details={"thumb": thumb}, at=now,
            )  # fmt: skip
        return now
