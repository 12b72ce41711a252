"""The `training_runs` table."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ForeignKey, Index, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base
from services.jobs.models import JobStatus
from services.jobs.store import JobRow, as_job
from services.training.models import DpoSpec, Run, RunLine


class RunRow(Base):
    """One training run; where it stands is told by its job alone."""

    __tablename__ = "training_runs"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    alias: Mapped[str]
    spec: Mapped[dict[str, Any]]
    spec_sha256: Mapped[str]
    dataset_id: Mapped[str]
    dataset_sha256: Mapped[str]
    base_digest: Mapped[str]
    adapter: Mapped[str | None]
    mlflow_run_id: Mapped[str | None]
    result: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    backend: Mapped[str] = mapped_column(default="local", server_default="local")
    parent_id: Mapped[str | None]

    __table_args__ = (Index(None, "tenant_id", "created_at"),)


def find(session: Session, run_id: str) -> Run | None:
    """One run with its job, or None."""
    found = session.execute(
        select(RunRow, JobRow).join(JobRow, JobRow.id == RunRow.job_id).where(RunRow.id == run_id)
    ).first()
    return None if found is None else _as_run(*found)


def of_tenant(session: Session, tenant_id: str, limit: int) -> list[Run]:
    """A tenant's runs with their jobs, newest first."""
    query = (
        select(RunRow, JobRow)
        .join(JobRow, JobRow.id == RunRow.job_id)
        .where(RunRow.tenant_id == tenant_id)
        .order_by(RunRow.created_at.desc(), RunRow.id.desc())
        .limit(limit)
    )
    return [_as_run(run, job) for run, job in session.execute(query)]


def lines_of_tenant(session: Session, tenant_id: str, limit: int) -> list[RunLine]:
    """A tenant's runs as a list shows them, newest first; nothing else is read of them."""
    query = (
        select(
            RunRow.id,
            JobRow.status,
            JobRow.progress,
            RunRow.alias,
            RunRow.spec["preset"].as_string().label("preset"),
            RunRow.adapter,
            RunRow.created_at,
            RunRow.created_by,
        )
        .join(JobRow, JobRow.id == RunRow.job_id)
        .where(RunRow.tenant_id == tenant_id)
        .order_by(RunRow.created_at.desc(), RunRow.id.desc())
        .limit(limit)
    )
    return [
        RunLine(
            id=row.id,
            status=JobStatus(row.status),
            progress=row.progress,
            alias=row.alias,
            preset=row.preset,
            adapter=row.adapter,
            created_at=row.created_at,
            created_by=row.created_by,
        )
        for row in session.execute(query)
    ]


def standing(session: Session, tenant_id: str) -> tuple[bool, bool]:
    """Whether a tenant has runs, and whether one of them waits or trains."""
    own = select(RunRow.id).where(RunRow.tenant_id == tenant_id)
    moving = own.join(JobRow, JobRow.id == RunRow.job_id).where(
        JobRow.status.in_([status for status in JobStatus if not status.is_final])
    )
    return (
        session.scalar(own.limit(1)) is not None,
        session.scalar(moving.limit(1)) is not None,
    )


def results_on(
    session: Session, tenant_id: str, base_digest: str, limit: int
) -> list[dict[str, Any]]:
    """What the newest succeeded runs on a base model reported at their end."""
    query = (
        select(RunRow.result)
        .where(
            RunRow.tenant_id == tenant_id,
            RunRow.base_digest == base_digest,
            RunRow.adapter.is_not(None),
        )
        .order_by(RunRow.created_at.desc())
        .limit(limit)
    )
    found: list[dict[str, Any]] = list(session.scalars(query))
    return found


def run_dir(runs_dir: Path, run_id: str) -> Path:
    """The folder of a run."""
    return runs_dir / run_id


def _as_run(row: RunRow, job: JobRow) -> Run:
    return Run(
        id=row.id,
        tenant_id=row.tenant_id,
        job=as_job(job),
        spec=DpoSpec(**row.spec),
        dataset_sha256=row.dataset_sha256,
        base_digest=row.base_digest,
        adapter=row.adapter,
        mlflow_run_id=row.mlflow_run_id,
        result=dict(row.result),
        created_at=row.created_at,
        created_by=row.created_by,
        backend=row.backend,
        parent_id=row.parent_id,
    )
