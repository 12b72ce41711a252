"""The `jobs` table and the statements that move a row from one state to the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, Index, Update, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base
from services.jobs.models import ACTIVE, Job, JobStatus

_IS_ACTIVE = text("status IN ('running', 'stopping')")


class JobRow(Base):
    """One job. `slot` is set while it is active, and unique within its queue and host."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    kind: Mapped[str]
    queue: Mapped[str]
    payload: Mapped[dict[str, Any]]
    status: Mapped[str]
    progress: Mapped[float]
    message: Mapped[str]
    error: Mapped[str | None]
    attempt: Mapped[int]
    crashes: Mapped[int]
    slot: Mapped[int | None]
    host: Mapped[str] = mapped_column(default="", server_default="")
    worker: Mapped[str | None]
    heartbeat_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    created_by_id: Mapped[str]
    created_by: Mapped[str]

    __table_args__ = (
        # The database itself refuses a second job in a slot, whatever the workers believe.
        Index(
            "uq_jobs_active_slot",
            "queue",
            "host",
            "slot",
            unique=True,
            sqlite_where=_IS_ACTIVE,
            postgresql_where=_IS_ACTIVE,
        ),
        Index(None, "tenant_id", "created_at"),
        Index(None, "status", "queue", "created_at"),
    )


def as_job(row: JobRow) -> Job:
    """The row as a value."""
    return Job(
        id=row.id,
        tenant_id=row.tenant_id,
        kind=row.kind,
        queue=row.queue,
        payload=dict(row.payload),
        status=JobStatus(row.status),
        progress=row.progress,
        message=row.message,
        error=row.error,
        attempt=row.attempt,
        worker=row.worker,
        heartbeat_at=row.heartbeat_at,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        created_by=row.created_by,
        host=row.host,
        slot=row.slot,
    )


def find(session: Session, job_id: str) -> JobRow | None:
    """The row of a job, or None."""
    return session.get(JobRow, job_id)


def locked(session: Session, job_id: str) -> JobRow | None:
    """The row of a job, locked until the transaction ends (SQLite locks the whole database)."""
    return session.get(JobRow, job_id, with_for_update=True)


def of_tenant(session: Session, tenant_id: str, kind: str | None, limit: int) -> list[Job]:
    """Jobs of one tenant, newest first."""
    query = select(JobRow).where(JobRow.tenant_id == tenant_id)
    if kind is not None:
        query = query.where(JobRow.kind == kind)
    query = query.order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit)
    return [as_job(row) for row in session.scalars(query)]


def active(session: Session) -> list[JobRow]:
    """All jobs that hold a slot."""
    return list(session.scalars(select(JobRow).where(JobRow.status.in_(ACTIVE))))


def taken_slots(session: Session, queue: str, host: str) -> set[int]:
    """Slots of a queue in which a job is active: of one host, or of none (`""`)."""
    query = select(JobRow.slot).where(
        JobRow.queue == queue, JobRow.host == host, JobRow.status.in_(ACTIVE)
    )
    return {slot for slot in session.scalars(query) if slot is not None}


def next_queued(session: Session, queue: str, kinds: Iterable[str]) -> JobRow | None:
    """The oldest waiting job of a queue that one of the given handlers can run.

    On PostgreSQL the row is locked, and a worker that finds it locked waits and then finds
    nothing: passing over it would let a younger job win the slot.
    """
    query = (
        select(JobRow)
        .where(
            JobRow.status == JobStatus.QUEUED, JobRow.queue == queue, JobRow.kind.in_(list(kinds))
        )
        .order_by(JobRow.created_at, JobRow.id)
        .limit(1)
        .with_for_update()
    )
    return session.scalars(query).first()


def any_queued(session: Session, queue: str) -> bool:
    """Whether some job of the queue waits."""
    query = (
        select(JobRow.id).where(JobRow.status == JobStatus.QUEUED, JobRow.queue == queue).limit(1)
    )
    return session.scalars(query).first() is not None


def held_update(job_id: str, worker: str) -> Update:
    """An update that touches the row only while this worker holds it."""
    return update(JobRow).where(
        JobRow.id == job_id, JobRow.worker == worker, JobRow.status.in_(ACTIVE)
    )


def changed(session: Session, statement: Update) -> bool:
    """Run an update; whether it found its row."""
    result = cast("CursorResult[Any]", session.execute(statement))
    return result.rowcount > 0


def statuses(session: Session, worker: str, job_ids: Sequence[str]) -> dict[str, JobStatus]:
    """Status of those of the given jobs that this worker still holds."""
    query = select(JobRow.id, JobRow.status).where(
        JobRow.id.in_(job_ids), JobRow.worker == worker, JobRow.status.in_(ACTIVE)
    )
    return {job_id: JobStatus(status) for job_id, status in session.execute(query)}
