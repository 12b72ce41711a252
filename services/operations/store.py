"""The table of the fallback switches."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base
from services.operations.models import FallbackSwitch


class FallbackSwitchRow(Base):
    """One decision; never changed. The highest `seq` of a tenant holds."""

    __tablename__ = "fallback_switches"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    seq: Mapped[int]
    allowed: Mapped[bool]
    reason: Mapped[str]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("tenant_id", "seq"),)

    def switch(self) -> FallbackSwitch:
        """This row as the domain knows it."""
        return FallbackSwitch(
            self.tenant_id, self.seq, self.allowed, self.reason, self.actor_id, self.actor_name,
            self.at,
        )  # fmt: skip


def switches_of(session: Session, tenant_id: str, limit: int) -> list[FallbackSwitch]:
    """A tenant's decisions, newest first."""
    mine = select(FallbackSwitchRow).where(FallbackSwitchRow.tenant_id == tenant_id)
    newest = mine.order_by(FallbackSwitchRow.seq.desc()).limit(limit)
    return [row.switch() for row in session.scalars(newest)]
