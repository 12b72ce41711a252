"""The outbox of alerts; a row changes only by its delivery."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base


class AlertRow(Base):
    """One alert for one sink."""

    __tablename__ = "rollout_alerts"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    rollout_id: Mapped[str]
    seq: Mapped[int]
    sink: Mapped[str]
    facts: Mapped[dict[str, Any]]
    attempts: Mapped[int]
    next_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    problem: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "next_at"), Index(None, "rollout_id"))


def due(session: Session, now: datetime, limit: int) -> list[AlertRow]:
    """Alerts to be sent now, oldest first; held by the caller's transaction."""
    return list(
        session.scalars(
            select(AlertRow)
            .where(AlertRow.next_at <= now)
            .order_by(AlertRow.next_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
    )


def of_rollout(session: Session, rollout_id: str) -> list[AlertRow]:
    """All alerts of a rollout, oldest first."""
    mine = select(AlertRow).where(AlertRow.rollout_id == rollout_id)
    return list(session.scalars(mine.order_by(AlertRow.id)))
