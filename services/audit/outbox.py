"""The outbox: an event is written in the same transaction as the change it tells of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base, new_id, utcnow
from services.tenants.models import Actor


class OutboxRow(Base):
    """One event that waits for its place in the log."""

    __tablename__ = "audit_outbox"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str | None]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]
    at: Mapped[datetime]

    __table_args__ = (Index(None, "at"),)


def record(
    session: Session,
    actor: Actor,
    action: str,
    subject: str,
    *,
    tenant_id: str | None,
    details: dict[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """Write one audit event in the caller's transaction.

    Args:
        session: The transaction of the change itself.
        action: `domain.verb`, such as `pairs.imported` or `rollout.promoted`.
        subject: What was changed, as `kind:id`, such as `adapter:legal-3fa2c1d09b7e`.
        tenant_id: None where the change concerns the whole installation.
        details: JSON of strings, whole numbers, booleans, lists and objects. No floats (they
            have no single canonical form; write them as strings), no prompts, no secrets.
        at: Time of the change; now by default.
    """
    session.add(
        OutboxRow(
            id=new_id(),
            tenant_id=tenant_id,
            actor_id=actor.id,
            actor_name=actor.name,
            action=action,
            subject=subject,
            details=details or {},
            at=at or utcnow(),
        )
    )
