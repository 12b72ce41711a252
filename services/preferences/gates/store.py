"""Tables of the gates: what a check of all pairs found."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from services.db import Base


class QualityReportRow(Base):
    """One finished check; its files lie in a folder that is named by the job.

    `content` is the manifest without its lists of pairs.
    """

    __tablename__ = "quality_reports"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    sha256: Mapped[str]
    choices: Mapped[dict[str, Any]]
    content: Mapped[dict[str, Any]]
    actor_id: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "created_at"),)
