"""Tables of AI feedback, and the statements on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, case, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base
from services.jobs.store import JobRow, as_job
from services.metering.models import Price
from services.rlaif.models import Call, CallState, Counts, JudgePrice, Outcome, Run, Spec


class RunRow(Base):
    """One run; where it stands is told by its job. Money is in micro-USD."""

    __tablename__ = "rlaif_runs"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    spec: Mapped[dict[str, Any]]
    judge: Mapped[str]
    revision: Mapped[str]
    price: Mapped[dict[str, Any]]
    cap_micro: Mapped[int] = mapped_column(BigInteger)
    spent_micro: Mapped[int] = mapped_column(BigInteger, default=0)
    reserved_micro: Mapped[int] = mapped_column(BigInteger, default=0)
    is_planned: Mapped[bool] = mapped_column(default=False)
    outcome: Mapped[str | None]
    created_at: Mapped[datetime]
    created_by_id: Mapped[str]
    created_by: Mapped[str]

    __table_args__ = (Index(None, "tenant_id", "created_at"),)


class PromptRow(Base):
    """One prompt of a run that generates; fewer than two different answers make no pair."""

    __tablename__ = "rlaif_prompts"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("rlaif_runs.id"))
    tenant_id: Mapped[str]
    number: Mapped[int]
    turns: Mapped[list[Any]]

    __table_args__ = (UniqueConstraint("run_id", "number"),)


class CandidateRow(Base):
    """One answer that the own engine wrote."""

    __tablename__ = "rlaif_candidates"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("rlaif_runs.id"), index=True)
    tenant_id: Mapped[str]
    prompt_id: Mapped[str] = mapped_column(ForeignKey("rlaif_prompts.id"))
    slot: Mapped[int]
    temperature: Mapped[float]
    text: Mapped[str]
    finish_reason: Mapped[str]
    served: Mapped[str]
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micro: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("prompt_id", "slot"),)


class ItemRow(Base):
    """Two answers that a run has judged: candidates of its own, or responses of a pair.

    `key` is the same for the same prompt and the same two texts, in any run of the tenant;
    `low_id` names the answer whose text has the lower digest. `pair_id` is the pair that came of
    it, or that it was.
    """

    __tablename__ = "rlaif_items"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("rlaif_runs.id"))
    tenant_id: Mapped[str]
    number: Mapped[int]
    key: Mapped[str]
    prompt_id: Mapped[str | None] = mapped_column(ForeignKey("rlaif_prompts.id"))
    low_id: Mapped[str]
    high_id: Mapped[str]
    pair_id: Mapped[str | None] = mapped_column(index=True)
    is_consistent: Mapped[bool | None]
    published_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("run_id", "number"), UniqueConstraint("run_id", "key"))


class BatchRow(Base):
    """One message batch. Without a `remote_id` it may have been sent, or not."""

    __tablename__ = "rlaif_batches"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("rlaif_runs.id"), index=True)
    tenant_id: Mapped[str]
    remote_id: Mapped[str | None] = mapped_column(unique=True)
    size: Mapped[int]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class CallRow(Base):
    """One question to the judge. It is written before it is sent, so none is sent unknown."""

    __tablename__ = "rlaif_calls"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    run_id: Mapped[str] = mapped_column(ForeignKey("rlaif_runs.id"))
    custom_id: Mapped[str]
    question: Mapped[str]
    repetition: Mapped[int]
    batch_id: Mapped[str | None] = mapped_column(ForeignKey("rlaif_batches.id"), index=True)
    state: Mapped[str]
    reserved_micro: Mapped[int] = mapped_column(BigInteger)
    cost_micro: Mapped[int] = mapped_column(BigInteger, default=0)
    prompt_bytes: Mapped[int]
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    verdict: Mapped[dict[str, Any] | None]
    note: Mapped[str] = mapped_column(default="")
    sent_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        # The database itself refuses to know one question twice.
        UniqueConstraint("tenant_id", "custom_id"),
        Index(None, "tenant_id", "question"),
        Index(None, "run_id", "state"),
    )


def find(session: Session, run_id: str) -> Run | None:
    """One run with its job and counts, or None."""
    wanted = select(RunRow, JobRow).join(JobRow, JobRow.id == RunRow.job_id)
    found = session.execute(wanted.where(RunRow.id == run_id)).first()
    return None if found is None else _as_run(found[0], found[1], counts(session, [run_id])[run_id])


def of_tenant(session: Session, tenant_id: str, limit: int) -> list[Run]:
    """A tenant's runs, newest first."""
    wanted = (
        select(RunRow, JobRow)
        .join(JobRow, JobRow.id == RunRow.job_id)
        .where(RunRow.tenant_id == tenant_id)
        .order_by(RunRow.created_at.desc(), RunRow.id.desc())
        .limit(limit)
    )
    rows = session.execute(wanted).all()
    counted = counts(session, [run.id for run, _ in rows])
    return [_as_run(run, job, counted[run.id]) for run, job in rows]


def locked(session: Session, run_id: str) -> RunRow | None:
    """The row of a run, which nobody else can change until the transaction ends."""
    return session.get(RunRow, run_id, with_for_update=True, populate_existing=True)


def held(session: Session, tenant_id: str) -> int:
    """Micro-USD that all runs of a tenant hold for calls on their way."""
    total = select(func.sum(RunRow.reserved_micro)).where(RunRow.tenant_id == tenant_id)
    return int(session.scalar(total) or 0)


def counts(session: Session, run_ids: Sequence[str]) -> Mapping[str, Counts]:
    """How far some runs are, by id."""
    numbers: dict[str, dict[str, int]] = {run_id: {} for run_id in run_ids}
    for name, column in (("prompts", PromptRow.run_id), ("candidates", CandidateRow.run_id)):
        counted = select(column, func.count()).where(column.in_(run_ids)).group_by(column)
        for run_id, number in session.execute(counted):
            numbers[run_id][name] = number
    items = select(
        ItemRow.run_id,
        func.count(),
        func.count(ItemRow.published_at),
        func.sum(case((ItemRow.is_consistent.is_(True), 1), else_=0)),
        func.sum(case((ItemRow.is_consistent.is_(False), 1), else_=0)),
    ).where(ItemRow.run_id.in_(run_ids))
    names = ("pairs", "published", "consistent", "inconsistent")
    for row in session.execute(items.group_by(ItemRow.run_id)):
        summed = zip(names, row[1:], strict=True)
        numbers[row[0]] |= {name: int(one) for name, one in summed}
    calls: dict[str, dict[CallState, int]] = {run_id: {} for run_id in run_ids}
    stated = select(CallRow.run_id, CallRow.state, func.count()).where(CallRow.run_id.in_(run_ids))
    for run_id, state, number in session.execute(stated.group_by(CallRow.run_id, CallRow.state)):
        calls[run_id][CallState(state)] = number
    return {run_id: Counts(**numbers[run_id], calls=calls[run_id]) for run_id in run_ids}


def calls_of(session: Session, run_id: str, limit: int, *, only_failed: bool) -> list[Call]:
    """Calls of a run, newest first."""
    wanted = select(CallRow).where(CallRow.run_id == run_id)
    if only_failed:
        wanted = wanted.where(CallRow.state.not_in([CallState.DONE, CallState.SENT]))
    newest = wanted.order_by(CallRow.sent_at.desc(), CallRow.id.desc()).limit(limit)
    return [
        Call(
            row.custom_id, CallState(row.state), row.batch_id is not None, row.prompt_tokens,
            row.completion_tokens, row.cost_micro, row.note, row.sent_at, row.ended_at,
        )
        for row in session.scalars(newest)
    ]  # fmt: skip


def measured(session: Session, tenant_id: str, revision: str) -> tuple[int, float, float]:
    """What the verdicts of a judge were like.

    Returns:
        How many there are, prompt tokens a byte of the request, and completion tokens of one.
    """
    sums = select(
        func.count(), func.sum(CallRow.prompt_bytes), func.sum(CallRow.prompt_tokens),
        func.sum(CallRow.completion_tokens),
    )  # fmt: skip
    known = sums.where(
        CallRow.tenant_id == tenant_id,
        CallRow.state == CallState.DONE,
        CallRow.custom_id.contains(f"-{revision}-", autoescape=True),
    )
    number, size, read, written = session.execute(known).one()
    if not number or not size:
        return 0, 0.0, 0.0
    return int(number), int(read) / int(size), int(written) / int(number)


def as_price(stored: Mapping[str, Any]) -> JudgePrice:
    """A price as its column keeps it."""
    return JudgePrice(Price(int(stored["prompt"]), int(stored["completion"])), stored["version"])


def price_json(price: JudgePrice) -> dict[str, Any]:
    """What `as_price` reads."""
    return {
        "prompt": price.price.prompt_micro_per_mtok,
        "completion": price.price.completion_micro_per_mtok,
        "version": price.version,
    }


def _as_run(row: RunRow, job: JobRow, counted: Counts) -> Run:
    return Run(
        id=row.id,
        tenant_id=row.tenant_id,
        job=as_job(job),
        spec=Spec.from_json(row.spec),
        judge=row.judge,
        revision=row.revision,
        price=as_price(row.price),
        cap_micro=row.cap_micro,
        spent_micro=row.spent_micro,
        reserved_micro=row.reserved_micro,
        outcome=None if row.outcome is None else Outcome(row.outcome),
        counts=counted,
        created_at=row.created_at,
        created_by=row.created_by,
    )
