"""Custody: who made what from what, stated and signed in the transaction of the act itself.

A data set, an adapter's registration, the end of a run and an evaluation's verdict each leave one
statement. It names what was used by SHA-256, and the statements of it as well, as far as there are
any; its own digest stands in the audit log. People appear by pseudonym. `services.attestation.chain`
walks the statements back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.attestation.bundling import Further
from services.attestation.keys import Keyring
from services.attestation.receipts import ReceiptFacts
from services.attestation.statements import sign_statement
from services.attestation.store import CustodyRow
from services.attestation.strict import from_base64, read_json
from services.audit.merkle import timestamp
from services.audit.outbox import checked, record
from services.db import Database, new_id
from services.tenants.models import Actor
from services.tenants.names import pseudonym

Kind = Literal["dataset", "adapter", "run", "evaluation"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BUILDS_ON: Mapping[Kind, tuple[Kind, ...]] = {
    "dataset": (),
    "adapter": ("dataset",),
    "run": ("dataset", "adapter"),
    "evaluation": ("dataset", "adapter", "run"),
}
"""Whose statements each kind names. A run's end comes after the registration of what it made."""
STATEMENT_OF = "statement of "
"""How the name of a material begins that is itself a statement."""
MOST_IN_BUNDLE = 100
_SIGNER = Actor.system("custody")


def predicate_type(kind: Kind) -> str:
    """The URI of a kind of statement."""
    return f"https://param-console.dev/custody/{kind}/v1"


def logged_as(digest: str) -> str:
    """Subject of the audit entry that names a statement."""
    return f"custody:{digest}"


class Custody:
    """The custody statements of one installation.

    Args:
        db: Where they are kept.
        keyring: Holds the key for events.
    """

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self.db = db
        self.keyring = keyring

    def state_in_session(
        self,
        session: Session,
        actor: Actor,
        tenant_id: str,
        *,
        kind: Kind,
        name: str,
        digest: str,
        facts: Mapping[str, Any],
        materials: Mapping[str, str],
        at: datetime,
    ) -> str:
        """Sign a statement and keep it, in the transaction of what it tells of.

        The log gets an entry of its own for it, which goes along in proof bundles and so names no
        person; the caller's event names the digest too.

        Args:
            actor: Who acted; a person appears by pseudonym. Has been admitted by the caller.
            name: What it is about, in words: the subject's name.
            digest: sha256 of that, hex.
            facts: JSON without floats, prompts and secrets.
            materials: What was used: sha256 in hex by name. The newest statements about these
                digests, and about `digest` itself, are added by themselves.

        Returns:
            The digest of the statement, hex; belongs into the details of the act's audit event.

        Raises:
            InvalidInput: A fact has no single canonical form.
            WrongConfiguration: The key cannot be used; then the act does not happen either.
        """
        predicate = {
            **facts,
            "id": new_id(),
            "tenant": tenant_id,
            "by": _by(actor, tenant_id),
            "at": timestamp(at),
        }
        checked(predicate)
        about = {digest, *materials.values()}
        built_on = {
            f"{STATEMENT_OF}{row.kind} {row.name}": row.sha256
            for row in _newest(session, tenant_id, about, BUILDS_ON[kind])
        }
        envelope = sign_statement(
            predicate_type(kind),
            {name: digest},
            predicate,
            self.keyring.key("event"),
            materials={**materials, **built_on},
        )
        own = sha256(from_base64(envelope["payload"], "statement")).hexdigest()
        session.add(
            CustodyRow(
                id=new_id(), tenant_id=tenant_id, kind=kind, name=name, subject=digest,
                sha256=own, envelope=envelope, created_at=at,
            )
        )  # fmt: skip
        record(
            session, _SIGNER, "custody.stated", logged_as(own), tenant_id=tenant_id,
            details={"kind": kind, "statement": own}, at=at,
        )  # fmt: skip
        session.flush()
        return own

    def further(self, facts: ReceiptFacts) -> Sequence[Further]:
        """The statements that belong to a receipt: of its adapter, and those that these name."""
        if facts.adapter_digest is None:
            return ()
        with self.db.read() as session:
            newest_first = select(CustodyRow).where(
                CustodyRow.tenant_id == facts.tenant_id, CustodyRow.subject == facts.adapter_digest
            )
            mine = session.scalars(newest_first.order_by(CustodyRow.id.desc()))
            found = {row.sha256: row for row in mine.fetchmany(MOST_IN_BUNDLE // 2)}
            named = {digest for row in found.values() for digest in _named(row)} - set(found)
            earlier = session.scalars(
                select(CustodyRow)
                .where(CustodyRow.tenant_id == facts.tenant_id, CustodyRow.sha256.in_(named))
                .order_by(CustodyRow.id.desc())
                .limit(MOST_IN_BUNDLE // 2)
            )
            found |= {row.sha256: row for row in earlier}
        ordered = sorted(found.values(), key=lambda row: row.id)
        return [
            Further(f"{row.kind} {row.name}", row.envelope, logged_as(row.sha256))
            for row in ordered
        ]


def _named(row: CustodyRow) -> list[str]:
    """Digests of the statements that a statement names, its signature not checked."""
    payload = read_json(from_base64(row.envelope["payload"], "statement"), "statement")
    materials = payload["predicate"]["materials"]
    return [one["digest"]["sha256"] for one in materials if one["name"].startswith(STATEMENT_OF)]


def _newest(
    session: Session, tenant_id: str, about: set[str], kinds: Sequence[str]
) -> list[CustodyRow]:
    """The newest statement of each kind about each digest, oldest first."""
    rows = session.scalars(
        select(CustodyRow)
        .where(
            CustodyRow.tenant_id == tenant_id,
            CustodyRow.subject.in_(about),
            CustodyRow.kind.in_(kinds),
        )
        .order_by(CustodyRow.id)
    )
    return list({(row.kind, row.subject): row for row in rows}.values())


def _by(actor: Actor, tenant_id: str) -> str:
    return actor.id if actor.kind == "system" else pseudonym(tenant_id, actor.id)
