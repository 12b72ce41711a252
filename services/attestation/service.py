"""Issued receipts: kept with their salt, found by those they concern, verified against the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from cryptography.x509 import Certificate
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.attestation import receipts
from services.attestation.bundle import agreement
from services.attestation.checks import Check, bad, well
from services.attestation.files import Document
from services.attestation.forms import ENTRY_FIELDS
from services.attestation.keys import Keyring
from services.attestation.receipts import ReceiptFacts, VerifiedReceipt
from services.attestation.store import ReceiptRow
from services.audit import record
from services.audit.store import AuditRow
from services.db import Database, insert_rows
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
        roots: Certificates that the time stamps of bundles must lead to.
    """

    def __init__(
        self, db: Database, keyring: Keyring, *, roots: Sequence[Certificate] = ()
    ) -> None:
        self._db = db
        self._keyring = keyring
        self.roots = tuple(roots)

    def store(self, session: Session, *issued: StoredReceipt) -> None:
        """Keep receipts, in the transaction that also records what they tell of."""
        insert_rows(session, ReceiptRow, [vars(receipt) for receipt in issued])

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
        return receipts.verify(
            envelope,
            self._keyring.jwks(),
            request=request,
            response=response,
            salt=salt,
            logged=lambda facts: [self._audit_check(facts)],
        )

    def verify_document(
        self,
        document: Document,
        *,
        request: bytes | None = None,
        response: bytes | None = None,
    ) -> VerifiedReceipt:
        """Check a receipt, alone or in a bundle, with this installation's keys and audit log.

        Raises:
            VerificationFailed: Its form, or the receipt's signature or key do not hold.
        """
        found = document.verify(
            self._keyring.jwks(),
            request=request,
            response=response,
            roots=self.roots,
            logged=lambda facts: [self._audit_check(facts)],
        )
        if document.bundle is None:
            return found
        own = self._audit_check(receipts.facts_of(found.statement))
        return replace(found, checks=[*found.checks, own])

    def _audit_check(self, facts: ReceiptFacts) -> Check:
        names = [getattr(AuditRow, name) for name in (*ENTRY_FIELDS, "leaf_hash")]
        with self._db.read() as session:
            row = session.execute(
                select(*names).where(AuditRow.seq == facts.audit_seq)
            ).one_or_none()
        if row is None:
            return bad("audit", "audit.missing", seq=facts.audit_seq)
        if row.leaf_hash != facts.audit_leaf_hash:
            return bad("audit", "audit.other", seq=facts.audit_seq)
        wrong = agreement(facts, row._asdict())
        if wrong is not None:
            return bad("audit", "audit.says", seq=facts.audit_seq, field=wrong)
        return well("audit", "audit.ok", seq=facts.audit_seq)


def _find(session: Session, actor: Actor, receipt_id: str) -> ReceiptRow:
    row = session.get(ReceiptRow, receipt_id)
    readable = (Permission.CHAT, Permission.READ_AUDIT)
    if row is None or not any(actor.may(permission, row.tenant_id) for permission in readable):
        # The id is not repeated: a page may have it from its address, whoever wrote that.
        raise NotFound("receipt: expected one of your tenants, found none of this id")
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
