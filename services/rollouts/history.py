"""Whether the signed history of a rollout is whole: what is kept of it against what the log says.

Each statement names the one before it, so one that was taken out of the middle shows by itself. One
taken from the end does not; but the log, which nothing can be taken from unnoticed, names the digest of
every statement, and the history is compared with it. What the log itself is worth, its own
verification tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.attestation.statements import open_statement
from services.audit.outbox import OutboxRow
from services.audit.store import AuditRow
from services.db import Database
from services.errors import VerificationFailed
from services.rollouts.driving import store as drives
from services.rollouts.models import Rollout
from services.rollouts.moving import CHANGED
from services.rollouts.service import Rollouts
from services.rollouts.statements import PREDICATE_TYPE
from services.tenants.models import Actor


class Flaw(StrEnum):
    """What is wrong with one step.

    `MISSING`: the log names a statement that is not there any more. `UNLOGGED`: there is a
    statement that the log does not name. `REFUSED`: its signature, key or form does not hold.
    `FOREIGN`: it is signed, but speaks of another step. `UNCHAINED`: it does not name the one
    before it. `UNSIGNED`: there is a step without a statement. `STEPLESS`: the reverse.
    """

    MISSING = "missing"
    UNLOGGED = "unlogged"
    REFUSED = "refused"
    FOREIGN = "foreign"
    UNCHAINED = "unchained"
    UNSIGNED = "unsigned"
    STEPLESS = "stepless"


_WORDS = {
    Flaw.MISSING: "the log names its statement, and there is none",
    Flaw.UNLOGGED: "there is a statement that the log does not name",
    Flaw.REFUSED: "the signature, the key or the form of its statement does not hold",
    Flaw.FOREIGN: "its statement speaks of another step",
    Flaw.UNCHAINED: "its statement does not name the one before it",
    Flaw.UNSIGNED: "there is a step without a statement",
    Flaw.STEPLESS: "there is a statement, and no step",
}


@dataclass(frozen=True)
class Found:
    """One flaw, and the number of the step that has it."""

    flaw: Flaw
    seq: int

    def sentence(self) -> str:
        """In words."""
        return f"step {self.seq}: {_WORDS[self.flaw]}"


@dataclass(frozen=True)
class Changed:
    """One change of a cluster's object, as the log keeps it.

    Attributes:
        seq: The step in whose course it was made.
        evidence: See `services.clusters.changes.carry_out`.
    """

    seq: int
    at: datetime
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class Checked:
    """A history that was compared with the log.

    Attributes:
        signed: Statements that are kept.
        logged: Statements that the log names, or will within a moment.
        flaws: By step; none where it is whole.
    """

    signed: int
    logged: int
    flaws: tuple[Found, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, added or altered."""
        return not self.flaws


class History:
    """The signed history of rollouts, and the log's part of it.

    Args:
        jwks: Gives the public keys that statements may be signed with.
    """

    def __init__(self, db: Database, rollouts: Rollouts, jwks: Callable[[], Any]) -> None:
        self._db = db
        self._rollouts = rollouts
        self._jwks = jwks

    def check(self, actor: Actor, rollout_id: str) -> Checked:
        """Compare the statements of a rollout with its steps and with the log.

        Raises:
            NotFound: No such rollout in the actor's tenants.
        """
        rollout = self._rollouts.get(actor, rollout_id)
        with self._db.read() as session:
            logged = [
                (place, str(one.details["statement"]))
                for place, one in enumerate(_events(session, rollout), 1)
                if "statement" in one.details
            ]
            kept = drives.statements(session, rollout.id)
        flaws = [*_altered(rollout, kept, self._jwks()), *_compared(rollout, kept, logged)]
        flaws.sort(key=lambda one: one.seq)
        return Checked(len(kept), len(logged), tuple(flaws))

    def changes(self, actor: Actor, rollout_id: str) -> list[Changed]:
        """What was changed on a cluster for a rollout, oldest first; nothing behind the gateway.

        Raises:
            NotFound: No such rollout in the actor's tenants.
        """
        rollout = self._rollouts.get(actor, rollout_id)
        with self._db.read() as session:
            return [
                Changed(int(one.details["seq"]), one.at, one.details["evidence"])
                for one in _events(session, rollout, changes=True)
            ]


def _events(
    session: Session, rollout: Rollout, *, changes: bool = False
) -> list[AuditRow | OutboxRow]:
    """The events of a rollout, oldest first: those in the log, then those on their way into it."""
    subject = f"rollout:{rollout.id}"
    # The outbox first: an event that moves on meanwhile is then seen twice, and never not at all.
    waiting = list(
        session.scalars(
            select(OutboxRow)
            .where(OutboxRow.subject == subject)
            .order_by(OutboxRow.at, OutboxRow.id)
        )
    )
    logged = session.scalars(
        select(AuditRow).where(AuditRow.subject == subject).order_by(AuditRow.seq)
    )
    found: list[AuditRow | OutboxRow] = []
    for one in (*logged, *waiting):
        is_change = one.action == CHANGED
        is_known = any(one.at == other.at and one.details == other.details for other in found)
        if is_change == changes and not is_known:
            found.append(one)
    return found


_Kept = Sequence[tuple[int, str, Mapping[str, Any]]]


def _altered(rollout: Rollout, kept: _Kept, jwks: Any) -> list[Found]:
    """What the statements tell by themselves."""
    flaws, before = [], None
    for seq, digest, envelope in kept:
        try:
            statement, _key = open_statement(envelope, jwks)
        except VerificationFailed:
            flaws.append(Found(Flaw.REFUSED, seq))
        else:
            said = statement.predicate
            is_own = (
                statement.predicate_type == PREDICATE_TYPE
                and statement.payload_sha256 == digest
                and (said.get("rolloutId"), said.get("seq")) == (rollout.id, str(seq))
            )
            if not is_own:
                flaws.append(Found(Flaw.FOREIGN, seq))
            elif (said.get("previous") or {}).get("sha256") != before:
                flaws.append(Found(Flaw.UNCHAINED, seq))
        before = digest
    return flaws


def _compared(rollout: Rollout, kept: _Kept, logged: Sequence[tuple[int, str]]) -> list[Found]:
    """What only the log and the steps tell."""
    digests = {digest: seq for seq, digest, _envelope in kept}
    named = {digest for _place, digest in logged}
    missing = {place for place, digest in logged if digest not in digests}
    signed, steps = set(digests.values()), {step.seq for step in rollout.steps}
    # Steps from before anything was signed, in an older version, lack nothing.
    expected = {seq for seq in steps if seq > min(signed | missing, default=len(steps))}
    return [
        *(Found(Flaw.MISSING, seq) for seq in sorted(missing)),
        *(Found(Flaw.UNLOGGED, seq) for digest, seq in digests.items() if digest not in named),
        *(Found(Flaw.UNSIGNED, seq) for seq in sorted(expected - signed - missing)),
        *(Found(Flaw.STEPLESS, seq) for seq in sorted(signed - steps)),
    ]
