"""Tables of samples and feedback; rows are only added."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, Index, Select, and_, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base, insert_rows
from services.rollouts.judging import Samples
from services.rollouts.models import Arm
from services.rollouts.samples.models import Sample, Standing, Thumb


class SampleRow(Base):
    """One request of an open rollout's alias."""

    __tablename__ = "rollout_samples"

    request_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    rollout_id: Mapped[str]
    arm: Mapped[str]
    place: Mapped[int | None]
    standing: Mapped[str]
    is_refused: Mapped[bool]
    is_flagged: Mapped[bool]
    latency_ms: Mapped[int] = mapped_column(BigInteger)
    ttft_ms: Mapped[int | None] = mapped_column(BigInteger)
    cost_micro: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]

    __table_args__ = (Index(None, "rollout_id", "at"),)


class FeedbackRow(Base):
    """What somebody thought of an answer; the latest row of a request counts."""

    __tablename__ = "feedback"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    request_id: Mapped[str]
    actor_id: Mapped[str]
    thumb: Mapped[str]
    at: Mapped[datetime]

    __table_args__ = (Index(None, "request_id"), Index(None, "tenant_id", "at"))


def add(session: Session, samples: Sequence[Sample]) -> None:
    """Write samples."""
    names = Sample.__dataclass_fields__
    rows = [{name: getattr(one, name) for name in names} for one in samples]
    for row in rows:
        row["arm"], row["standing"] = row["arm"].value, row["standing"].value
    insert_rows(session, SampleRow, rows)


def counts(session: Session, rollout_id: str, since: datetime) -> dict[Arm, int]:
    """Requests of each arm that count, since a time."""
    row = SampleRow
    found = session.execute(
        select(row.arm, func.count())
        .where(*_counted(rollout_id), row.at >= since)
        .group_by(row.arm)
    )
    seen = {Arm(arm): int(n) for arm, n in found}
    return {arm: seen.get(arm, 0) for arm in (Arm.STABLE, Arm.CANARY)}


def arms(
    session: Session, rollout_id: str, since: datetime, until: datetime | None = None
) -> dict[Arm, Samples]:
    """What both arms answered in a window.

    Args:
        until: End of it, not included; open without.
    """
    row = SampleRow
    latest = _latest_thumbs().subquery()
    statement = (
        select(
            row.arm, row.standing, row.is_refused, row.is_flagged, row.latency_ms, row.ttft_ms,
            row.cost_micro, latest.c.thumb,
        )
        .outerjoin(latest, latest.c.request_id == row.request_id)
        .where(*_counted(rollout_id), row.at >= since)
    )  # fmt: skip
    if until is not None:
        statement = statement.where(row.at < until)
    found = session.execute(statement).all()
    return {
        arm: _samples([tuple(one) for one in found if one[0] == arm.value])
        for arm in (Arm.STABLE, Arm.CANARY)
    }


def places(session: Session, rollout_id: str, since: datetime) -> list[int]:
    """The places in the split from which somebody asked since a time, each once."""
    row = SampleRow
    return list(
        session.scalars(
            select(row.place)
            .where(row.rollout_id == rollout_id, row.at >= since, row.place.is_not(None))
            .distinct()
        )
    )


def _counted(rollout_id: str) -> tuple[ColumnElement[bool], ...]:
    row = SampleRow
    arms_ = [Arm.STABLE.value, Arm.CANARY.value]
    return (
        row.rollout_id == rollout_id,
        row.arm.in_(arms_),
        row.standing != Standing.EXCUSED.value,
    )


def _latest_thumbs() -> Select[str, str]:
    newest = (
        select(FeedbackRow.request_id, func.max(FeedbackRow.id).label("id"))
        .group_by(FeedbackRow.request_id)
        .subquery()
    )
    return (
        select(FeedbackRow.request_id, FeedbackRow.thumb)
        .join(newest, and_(newest.c.id == FeedbackRow.id))
        .where(FeedbackRow.thumb != Thumb.NONE.value)
    )


def _samples(rows: Sequence[tuple[object, ...]]) -> Samples:
    answers = [row for row in rows if row[1] == Standing.OK.value]
    thumbs = [row[7] for row in answers if row[7] is not None]
    return Samples(
        requests=len(rows),
        errors=len(rows) - len(answers),
        refusals=sum(bool(row[2]) for row in answers),
        flagged=sum(bool(row[3]) for row in answers),
        thumbs=len(thumbs),
        thumbs_down=thumbs.count(Thumb.DOWN.value),
        latencies_ms=[float(str(row[4])) for row in answers],
        ttfts_ms=[float(str(row[5])) for row in answers if row[5] is not None],
        costs_micro=[float(str(row[6])) for row in answers],
    )
