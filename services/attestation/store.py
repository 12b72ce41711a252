"""Tables of issued receipts, time stamps and custody statements."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from services.db import Base


class ReceiptRow(Base):
    """One signed receipt, with the salt that its commitments need until it is forgotten."""

    __tablename__ = "receipts"

    receipt_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    request_id: Mapped[str] = mapped_column(index=True)
    actor_id: Mapped[str]
    envelope: Mapped[dict[str, Any]]
    salt: Mapped[bytes | None]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "created_at"),)


class TimestampRow(Base):
    """What a time-stamping authority answered about one signed checkpoint."""

    __tablename__ = "checkpoint_timestamps"

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    authority: Mapped[str] = mapped_column(primary_key=True)
    response: Mapped[bytes]
    said_at: Mapped[datetime]
    at: Mapped[datetime]


class CustodyRow(Base):
    """One signed statement of what was done; never changed, never deleted."""

    __tablename__ = "custody_statements"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    kind: Mapped[str]
    name: Mapped[str]
    subject: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    envelope: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "subject"),)
