"""Tables of the guardrails."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.db import Base


class GuardrailPolicyRow(Base):
    """One version of a tenant's policy; the highest holds."""

    __tablename__ = "guardrail_policies"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    version: Mapped[int]
    source: Mapped[str]
    digest: Mapped[str]
    actor_id: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("tenant_id", "version"),)
