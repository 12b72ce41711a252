"""Making proof bundles of issued receipts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import select

from services.attestation.bundle import FORMAT, MOST_STATEMENTS, ORIGIN, encoded
from services.attestation.keys import Keyring
from services.attestation.notes import open_signed_note
from services.attestation.receipts import ReceiptFacts, facts_of
from services.attestation.service import Receipts
from services.attestation.strict import from_base64, read_json
from services.attestation.timestamps import Timestamps
from services.audit.merkle import entry_body
from services.audit.proving import Proofs
from services.audit.service import AuditLog
from services.audit.store import AuditRow, CheckpointRow
from services.db import Database
from services.errors import NotFound, VerificationFailed
from services.tenants.models import Actor


@dataclass(frozen=True)
class Further:
    """A signed statement that goes along with a receipt.

    Attributes:
        name: What people call it.
        logged_as: Subject of the audit entries that may name its digest, such as `rollout:ID`.
    """

    name: str
    envelope: dict[str, Any]
    logged_as: str


FindStatements = Callable[[ReceiptFacts], Sequence[Further]]
"""Finds the further statements that belong to a receipt."""


class Bundles:
    """Makes the proof bundles of one installation.

    Args:
        db: Where log and receipts are kept.
        receipts: The issued receipts.
        audit: The log, which signs a checkpoint where none covers an entry yet.
        proofs: Of the same log.
        timestamps: Of its checkpoints.
        keyring: Whose public keys go along.
        custody: Finds further statements; none by default.
    """

    def __init__(
        self,
        db: Database,
        receipts: Receipts,
        audit: AuditLog,
        proofs: Proofs,
        timestamps: Timestamps,
        keyring: Keyring,
        custody: FindStatements = lambda _receipt: (),
    ) -> None:
        self._db = db
        self._receipts = receipts
        self._audit = audit
        self._proofs = proofs
        self._timestamps = timestamps
        self._keyring = keyring
        self._custody = custody

    def make(self, actor: Actor, receipt_id: str) -> dict[str, Any]:
        """The bundle of one receipt, for those who may read the receipt.

        The salt goes along only to the one who had asked.

        Raises:
            NotFound: There is no such receipt within the actor's scope, or its entry is gone.
            VerificationFailed: The log contradicts its own checkpoints.
        """
        stored = self._receipts.get(actor, receipt_id)
        payload = from_base64(stored.envelope["payload"], "receipt")
        facts = facts_of(read_json(payload, "receipt"))
        seq = facts.audit_seq
        size, note = self._checkpoint(seq)
        proof = self._proofs.inclusion(seq, size)
        stamp = self._timestamps.of(size)
        return {
            "format": FORMAT,
            "receipt": stored.envelope,
            "salt": None if stored.salt is None else stored.salt.hex(),
            "log": {
                "entry": encoded(self._entry(seq)),
                "leaf_index": str(proof.index),
                "tree_size": str(proof.size),
                "path": [encoded(node) for node in proof.path],
                "checkpoint": note,
                "timestamp": stamp
                and {"authority": stamp.authority, "response": encoded(stamp.response)},
            },
            "keys": self._keyring.jwks(),
            "statements": [
                {"name": one.name, "envelope": one.envelope, "log": self._logged(one, size)}
                for one in self._custody(facts)
            ],
        }

    def _checkpoint(self, seq: int) -> tuple[int, str]:
        """The checkpoint that a bundle proves against.

        The earliest one with a time stamp, as it bounds the time best, if its key still counts;
        otherwise the newest, made now where the entry is younger than all of them.
        """
        stamp = self._timestamps.covering(seq)
        if stamp is not None and (note := self._trusted_note(stamp.size)) is not None:
            return stamp.size, note
        newest = self._proofs.newest()
        if newest is None or newest.size < seq or self._trusted_note(newest.size) is None:
            self._audit.sequence()
            newest = self._audit.checkpoint()
        if newest is None or newest.size < seq:
            raise NotFound(f"entry {seq}: expected it in the log, found none")
        return newest.size, newest.note

    def _trusted_note(self, size: int) -> str | None:
        with self._db.read() as session:
            note = session.scalar(select(CheckpointRow.note).where(CheckpointRow.size == size))
        if note is None:
            return None
        try:
            open_signed_note(note, ORIGIN, self._keyring.jwks())
        except VerificationFailed:
            return None  # its key was revoked since
        return note

    def _entry(self, seq: int) -> bytes:
        with self._db.read() as session:
            row = session.get(AuditRow, seq)
        if row is None:
            raise NotFound(f"entry {seq}: expected it in the log, found none")
        return _body(row)

    def _logged(self, one: Further, size: int) -> dict[str, Any] | None:
        """Where the log names a statement; None where it does not, up to that size."""
        digest = sha256(from_base64(one.envelope["payload"], "statement")).hexdigest()
        chosen = select(AuditRow).where(AuditRow.subject == one.logged_as, AuditRow.seq <= size)
        with self._db.read() as session:
            rows = session.scalars(chosen.order_by(AuditRow.seq).limit(MOST_STATEMENTS)).all()
        row = next((row for row in rows if digest in row.details.values()), None)
        if row is None:
            return None
        proof = self._proofs.inclusion(row.seq, size)
        return {
            "entry": encoded(_body(row)),
            "leaf_index": str(proof.index),
            "path": [encoded(node) for node in proof.path],
        }


def _body(row: AuditRow) -> bytes:
    return entry_body(
        row.seq,
        row.tenant_id,
        row.actor_id,
        row.actor_name,
        row.action,
        row.subject,
        row.details,
        row.at,
    )
