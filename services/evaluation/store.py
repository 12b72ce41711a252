"""The tables of evaluations: all of them append-only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ForeignKey, Index, Select, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base
from services.evaluation.models import AnswerPair, Evaluation, PairScore, Summary
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


def add_results(
    session: Session,
    evaluation: Evaluation,
    summary: Summary,
    scores: Sequence[PairScore],
    answers: Sequence[AnswerPair],
    *,
    at: datetime,
) -> None:
    """Write everything that an evaluation found."""
    session.add(
        SummaryRow(
            evaluation_id=evaluation.id,
            tenant_id=evaluation.tenant_id,
            verdict=summary.verdict.value,
            body=summary.as_json(),
            created_at=at,
        )
    )
    session.add_all(PairScoreRow(evaluation_id=evaluation.id, **asdict(s)) for s in scores)
    session.add_all(
        AnswerRow(
            evaluation_id=evaluation.id,
            **{**asdict(answer), "prompt": [dict(turn) for turn in answer.prompt]},
        )
        for answer in answers
    )
    session.flush()


def pair_scores(session: Session, evaluation_id: str) -> list[PairScore]:
    """The scores of an evaluation, by pair."""
    query = (
        select(PairScoreRow)
        .where(PairScoreRow.evaluation_id == evaluation_id)
        .order_by(PairScoreRow.pair_id)
    )
    return [
        PairScore(
            pair_id=row.pair_id,
            prompt_key=row.prompt_key,
            base_chosen=row.base_chosen,
            base_rejected=row.base_rejected,
            adapter_chosen=row.adapter_chosen,
            adapter_rejected=row.adapter_rejected,
            chosen_tokens=row.chosen_tokens,
            rejected_tokens=row.rejected_tokens,
        )
        for row in session.scalars(query)
    ]


def answers(session: Session, evaluation_id: str) -> list[AnswerPair]:
    """The answers of an evaluation, in order."""
    query = (
        select(AnswerRow)
        .where(AnswerRow.evaluation_id == evaluation_id)
        .order_by(AnswerRow.position)
    )
    return [
        AnswerPair(
            position=row.position,
            prompt=tuple(row.prompt),
            base=row.base,
            adapter=row.adapter,
            base_tokens=row.base_tokens,
            adapter_tokens=row.adapter_tokens,
            base_repetition=row.base_repetition,
            adapter_repetition=row.adapter_repetition,
            base_degenerate=row.base_degenerate,
            adapter_degenerate=row.adapter_degenerate,
        )
        for row in session.scalars(query)
    ]


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
    )
