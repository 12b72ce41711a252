"""The tables of evaluations: all of them append-only."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ForeignKey, Index, Select, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base
from services.evaluation.models import Checks, Evaluation, Summary
from services.jobs.store import JobRow, as_job


class EvaluationRow(Base):
    """What was asked; where it stands is told by its job alone."""

    __tablename__ = "evaluations"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    adapter: Mapped[str]
    adapter_digest: Mapped[str]
    base_model: Mapped[str]
    base_digest: Mapped[str]
    dataset_id: Mapped[str]
    dataset_sha256: Mapped[str]
    prompts: Mapped[list[Any] | None]
    beta: Mapped[float]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    reference_answers: Mapped[list[Any] | None]
    checks: Mapped[dict[str, Any] | None]

    __table_args__ = (Index(None, "tenant_id", "created_at"), Index(None, "tenant_id", "adapter"))


class SummaryRow(Base):
    """What was found; there is none before the end, and only ever one."""

    __tablename__ = "evaluation_summaries"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    tenant_id: Mapped[str]
    verdict: Mapped[str]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class PairScoreRow(Base):
    """One held-out pair; sums of log-probabilities in nats."""

    __tablename__ = "evaluation_pairs"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    pair_id: Mapped[str] = mapped_column(primary_key=True)
    prompt_key: Mapped[str]
    base_chosen: Mapped[float]
    base_rejected: Mapped[float]
    adapter_chosen: Mapped[float]
    adapter_rejected: Mapped[float]
    chosen_tokens: Mapped[int]
    rejected_tokens: Mapped[int]


class AnswerRow(Base):
    """Both answers to one prompt."""

    __tablename__ = "evaluation_answers"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    prompt: Mapped[list[Any]]
    base: Mapped[str]
    adapter: Mapped[str]
    base_tokens: Mapped[int]
    adapter_tokens: Mapped[int]
    base_repetition: Mapped[float]
    adapter_repetition: Mapped[float]
    base_degenerate: Mapped[bool]
    adapter_degenerate: Mapped[bool]
    prompt_tokens: Mapped[int | None]
    reference: Mapped[str | None]
    base_seconds: Mapped[float | None]
    adapter_seconds: Mapped[float | None]


class TextScoreRow(Base):
    """Both models on one neutral text; sums of -log p in nats."""

    __tablename__ = "evaluation_texts"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    text_id: Mapped[str] = mapped_column(primary_key=True)
    language: Mapped[str]
    tokens: Mapped[int]
    base_nll: Mapped[float]
    adapter_nll: Mapped[float]


class TaskScoreRow(Base):
    """Both models on one document of one task."""

    __tablename__ = "evaluation_tasks"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    task: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[int] = mapped_column(primary_key=True)
    base_right: Mapped[bool]
    adapter_right: Mapped[bool]


class JudgeScoreRow(Base):
    """What the judge said of the answers to one prompt, shown in one order."""

    __tablename__ = "evaluation_judgments"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[str] = mapped_column(primary_key=True)
    preferred: Mapped[str | None]
    failure: Mapped[str]
    reason: Mapped[str]
    judge: Mapped[str]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]


class PolicyRow(Base):
    """What a tenant asks of a promotion; the highest version holds."""

    __tablename__ = "evaluation_policies"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[dict[str, Any]]
    actor_name: Mapped[str]
    created_at: Mapped[datetime]


def policy(session: Session, tenant_id: str) -> PolicyRow | None:
    """The policy that holds, if the tenant ever set one."""
    query = select(PolicyRow).where(PolicyRow.tenant_id == tenant_id)
    return session.scalars(query.order_by(PolicyRow.version.desc()).limit(1)).first()


def find(session: Session, evaluation_id: str) -> Evaluation | None:
    """One evaluation with its job, or None."""
    found = session.execute(_evaluations().where(EvaluationRow.id == evaluation_id)).first()
    return None if found is None else _as_evaluation(*found)


def of_tenant(
    session: Session, tenant_id: str, *, adapter: str | None, limit: int
) -> list[Evaluation]:
    """A tenant's evaluations, newest first."""
    query = _evaluations().where(EvaluationRow.tenant_id == tenant_id)
    if adapter is not None:
        query = query.where(EvaluationRow.adapter == adapter)
    query = query.order_by(EvaluationRow.created_at.desc(), EvaluationRow.id.desc()).limit(limit)
    return [_as_evaluation(*row) for row in session.execute(query)]


def is_finished(session: Session, evaluation_id: str) -> bool:
    """Whether the summary is there."""
    return session.get(SummaryRow, evaluation_id) is not None


def run_dir(runs_dir: Path, evaluation_id: str) -> Path:
    """The folder of an evaluation's scoring process."""
    return runs_dir / f"evaluation-{evaluation_id}"


def _evaluations() -> Select[EvaluationRow, JobRow, SummaryRow]:
    return (
        select(EvaluationRow, JobRow, SummaryRow)
        .join(JobRow, JobRow.id == EvaluationRow.job_id)
        .outerjoin(SummaryRow, SummaryRow.evaluation_id == EvaluationRow.id)
    )


def _as_evaluation(row: EvaluationRow, job: JobRow, summary: SummaryRow | None) -> Evaluation:
    prompts = None if row.prompts is None else tuple(tuple(prompt) for prompt in row.prompts)
    return Evaluation(
        id=row.id,
        tenant_id=row.tenant_id,
        adapter=row.adapter,
        adapter_digest=row.adapter_digest,
        base_model=row.base_model,
        base_digest=row.base_digest,
        dataset_id=row.dataset_id,
        dataset_sha256=row.dataset_sha256,
        prompts=prompts,
        beta=row.beta,
        job=as_job(job),
        summary=None if summary is None else Summary.from_json(summary.body),
        created_at=row.created_at,
        created_by=row.created_by,
        references=None if row.reference_answers is None else tuple(row.reference_answers),
        checks=Checks(False, False, False) if row.checks is None else Checks(**row.checks),
    )
