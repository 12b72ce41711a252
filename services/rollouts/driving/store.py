"""Tables of the driver: verdicts and signed steps are only added; a drive is its notebook."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base
from services.rollouts.store import RolloutRow


class DriveRow(Base):
    """What the driver knows between two looks; the one table here whose rows change.

    `applied_seq` is the last step that is in effect, `applied_at` since when.
    """

    __tablename__ = "rollout_drives"

    rollout_id: Mapped[str] = mapped_column(ForeignKey(RolloutRow.id), primary_key=True)
    holder: Mapped[str]
    held_until: Mapped[datetime]
    previous: Mapped[dict[str, Any] | None]
    applied_seq: Mapped[int]
    applied_at: Mapped[datetime | None]
    looked_at: Mapped[datetime | None]
    progress: Mapped[dict[str, Any] | None]
    routed_percent: Mapped[int | None]
    note: Mapped[str]


class VerdictRow(Base):
    """One look at a step."""

    __tablename__ = "rollout_verdicts"

    id: Mapped[str] = mapped_column(primary_key=True)
    rollout_id: Mapped[str] = mapped_column(ForeignKey(RolloutRow.id), index=True)
    seq: Mapped[int]
    outcome: Mapped[str]
    facts: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class StatementRow(Base):
    """A step as it was signed."""

    __tablename__ = "rollout_statements"

    rollout_id: Mapped[str] = mapped_column(ForeignKey(RolloutRow.id), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str]
    envelope: Mapped[dict[str, Any]]


@dataclass(frozen=True)
class KeptVerdict:
    """One look, as it was kept.

    Attributes:
        seq: The step that was looked at.
        facts: See `services.rollouts.judging.Verdict.facts`.
    """

    seq: int
    outcome: str
    facts: dict[str, Any]
    at: datetime


def verdicts(session: Session, rollout_id: str, limit: int = 50) -> list[KeptVerdict]:
    """The newest looks, newest first."""
    row = VerdictRow
    found = session.scalars(
        select(row).where(row.rollout_id == rollout_id).order_by(row.id.desc()).limit(limit)
    )
    return [KeptVerdict(one.seq, one.outcome, one.facts, one.at) for one in found]


def last_statement(session: Session, rollout_id: str) -> str | None:
    """Digest of the newest signed step."""
    row = StatementRow
    return session.scalar(
        select(row.sha256).where(row.rollout_id == rollout_id).order_by(row.seq.desc()).limit(1)
    )


def statements(session: Session, rollout_id: str) -> list[tuple[int, str, dict[str, Any]]]:
    """All signed steps, oldest first: number, digest, envelope."""
    row = StatementRow
    found = session.scalars(select(row).where(row.rollout_id == rollout_id).order_by(row.seq))
    return [(one.seq, one.sha256, one.envelope) for one in found]
