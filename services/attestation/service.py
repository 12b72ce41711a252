"""Issued receipts: kept with their salt, found by those they concern, verified against the log."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.attestation import receipts
from services.attestation.keys import Keyring
from services.attestation.receipts import Check, VerifiedReceipt, facts_of
from services.attestation.store import ReceiptRow
from services.audit import record
from services.audit.store import AuditRow
from services.db import Database
from services.errors import NotFound
from services.tenants.models import Actor, Permission, Role
from services.tenants.scope import scope


@dataclass(frozen=True)
class StoredReceipt:
    """A receipt as it was issued.

    Attributes:
        salt: 32 bytes; None where it was forgotten, or for readers who did not ask themselves.
    """

    receipt_id: str
    tenant_id: str
    request_id: str
    actor_id: str
    envelope: dict[str, Any]
    salt: bytes | None = field(repr=False)
    created_at: datetime

    def document(self) -> dict[str, Any]:
        """The receipt as a file or an answer: `param verify` reads it."""
        salt = None if self.salt is None else self.salt.hex()
        return {"receipt_id": self.receipt_id, "envelope": self.envelope, "salt": salt}


class Receipts:
    """The receipts of one installation.

    Args:
        db: Where they are kept.
        keyring: Whose public keys they are verified with.
    """

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring

    def store(
        self,
        session: Session,
        receipt_id: str,
        tenant_id: str,
        envelope: dict[str, Any],
        salt: bytes,
        *,
        request_id: str,
        actor_id: str,
        at: datetime,
    ) -> None:
        """Keep a receipt, in the transaction that also records what it tells of."""
        session.add(
            ReceiptRow(
                receipt_id=receipt_id,
                tenant_id=tenant_id,
                request_id=request_id,
                actor_id=actor_id,
                envelope=envelope,
                salt=salt,
                created_at=at,
            )
        )

    def get(self, actor: Actor, receipt_id: str) -> StoredReceipt:
        """One receipt of a tenant in which the actor may ask the model or read the audit log.

        The salt, which ties the receipt to its text, goes only to the one who had asked.

        Raises:
            NotFound: There is none within the actor's scope.
        """
        with self._db.read() as session:
            return _visible(_find(session, actor, receipt_id), actor)

    def recent(self, actor: Actor, tenant_id: str, *, limit: int = 50) -> list[StoredReceipt]:
        """The tenant's newest receipts, newest first.

        Raises:
            NotPermitted: The actor may not read the tenant's audit log.
        """
        scoped = scope(actor, tenant_id, Permission.READ_AUDIT)
        mine = select(ReceiptRow).where(ReceiptRow.tenant_id == scoped)
        newest = mine.order_by(ReceiptRow.created_at.desc(), ReceiptRow.receipt_id.desc())
        with self._db.read() as session:
            return [_visible(row, actor) for row in session.scalars(newest.limit(limit))]

    def forget(self, actor: Actor, receipt_id: str) -> None:
        """Delete a receipt's salt: it stays valid, but nothing ties it to a text any more.

        Raises:
            NotFound: There is none within the actor's scope.
            NotPermitted: The actor neither asked nor manages the tenant.
        """
        with self._db.write() as session:
            row = _find(session, actor, receipt_id)
            if row.actor_id != actor.id:
                scope(actor, row.tenant_id, Permission.MANAGE_TENANT)
            if row.salt is None:
                return
            row.salt = None
            record(
                session, actor, "receipt.forgotten", f"receipt:{receipt_id}",
                tenant_id=row.tenant_id,
            )  # fmt: skip

    def verify(
        self,
        envelope: Any,
        *,
        request: bytes | None = None,
        response: bytes | None = None,
        salt: bytes | None = None,
    ) -> VerifiedReceipt:
        """Check a receipt with this installation's keys and against its audit log.

        Raises:
            VerificationFailed: Form, signature or key do not hold.
        """
        found = receipts.verify(
            envelope, self._keyring.jwks(), request=request, response=response, salt=salt
        )
        return replace(found, checks=[*found.checks, self._audit_check(found)])

    def _audit_check(self, found: VerifiedReceipt) -> Check:
        facts = facts_of(found.statement)
        with self._db.read() as session:
            leaf = session.scalar(select(AuditRow.leaf_hash).where(AuditRow.seq == facts.audit_seq))
        where = f"entry {facts.audit_seq} of the audit log"
        if leaf is None:
            return Check("audit", False, f"{where} is not there")
        if leaf != facts.audit_leaf_hash:
            return Check("audit", False, f"{where} is another than the receipt was signed for")
        return Check("audit", True, f"{where} is the one that the receipt names")


def _find(session: Session, actor: Actor, receipt_id: str) -> ReceiptRow:
    row = session.get(ReceiptRow, receipt_id)
    readable = (Permission.CHAT, Permission.READ_AUDIT)
    if row is None or not any(actor.may(permission, row.tenant_id) for permission in readable):
        raise NotFound(f"receipt {receipt_id[:80]!r}: expected one of your tenants, found none")
    return row


def _visible(row: ReceiptRow, actor: Actor) -> StoredReceipt:
    has_asked = row.actor_id == actor.id or Role.SYSTEM in actor.roles_in(row.tenant_id)
    return StoredReceipt(
        receipt_id=row.receipt_id,
        tenant_id=row.tenant_id,
        request_id=row.request_id,
        actor_id=row.actor_id,
        envelope=row.envelope,
        salt=row.salt if has_asked else None,
        created_at=row.created_at,
    )
