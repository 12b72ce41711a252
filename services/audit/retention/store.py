"""Tables of retention: the choice, the keys, the texts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from services.db import Base


class RetentionChoiceRow(Base):
    """One choice of a tenant; the latest counts. Never changed."""

    __tablename__ = "retention_choices"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    days: Mapped[int]
    actor_id: Mapped[str]
    at: Mapped[datetime]


class RetentionKeyRow(Base):
    """A tenant's key, wrapped by the installation's; gone once nothing is kept any more."""

    __tablename__ = "retention_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    wrapped: Mapped[bytes]
    made_at: Mapped[datetime]


class RetainedRow(Base):
    """The encrypted texts of one request; erased at the deadline."""

    __tablename__ = "retained_texts"

    request_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key_id: Mapped[str]
    box: Mapped[bytes]
    size: Mapped[int]
    kept_at: Mapped[datetime]
    erase_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "kept_at"), Index(None, "erase_at"))
