"""Tables and queries of rollouts: a rollout row never changes, its steps are only added to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

from sqlalchemy import ForeignKey, Index, Select, exists, func, select
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from services.db import Base
from services.rollouts.models import Planned, Rollout, RolloutState, Step

_AT_WORK = [
    state.value
    for state in (
        RolloutState.PRELOADING,
        RolloutState.STEPPING,
        RolloutState.DRILLING,
        RolloutState.PROMOTED,
    )
]
_ENDED = [state.value for state in RolloutState if not state.is_open]


class RolloutRow(Base):
    """What a rollout is; fixed at its start."""

    __tablename__ = "rollouts"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    alias: Mapped[str]
    stable: Mapped[str | None]
    candidate: Mapped[str]
    salt: Mapped[str]
    started_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "alias", "started_at"),)


class StepRow(Base):
    """One step; the latest one is the state."""

    __tablename__ = "rollout_steps"

    rollout_id: Mapped[str] = mapped_column(ForeignKey(RolloutRow.id), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str]
    percent: Mapped[int]
    reason: Mapped[str]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    at: Mapped[datetime]


class PlanRow(Base):
    """How a rollout drives itself."""

    __tablename__ = "rollout_plans"

    rollout_id: Mapped[str] = mapped_column(ForeignKey(RolloutRow.id), primary_key=True)
    policy_source: Mapped[str]
    backend: Mapped[str]
    target: Mapped[dict[str, Any]]


def lock_alias(session: Session, tenant_id: str, alias: str) -> None:
    """Let one transaction at a time change the rollouts of one alias.

    SQLite admits one writer anyway; PostgreSQL takes an advisory lock until the transaction ends.
    """
    if session.get_bind().dialect.name == "postgresql":
        digest = sha256(f"rollout\0{tenant_id}\0{alias}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        session.execute(select(func.pg_advisory_xact_lock(key)))


def add(session: Session, rollout: Rollout) -> None:
    """Write a new, open rollout with its first steps."""
    session.add(
        RolloutRow(
            id=rollout.id,
            tenant_id=rollout.tenant_id,
            alias=rollout.alias,
            stable=rollout.stable,
            candidate=rollout.candidate,
            salt=rollout.salt,
            started_at=rollout.started_at,
        )
    )
    session.flush()
    for step in rollout.steps:
        add_step(session, rollout.id, step)
    if rollout.plan is not None:
        add_plan(session, rollout.id, rollout.plan)


def add_step(session: Session, rollout_id: str, step: Step) -> None:
    """Append one step."""
    session.add(
        StepRow(
            rollout_id=rollout_id,
            seq=step.seq,
            state=step.state.value,
            percent=step.percent,
            reason=step.reason,
            actor_id=step.actor_id,
            actor_name=step.actor_name,
            at=step.at,
        )
    )
    session.flush()


def plans(session: Session, rollout_ids: Sequence[str]) -> dict[str, Planned]:
    """The plans of some rollouts, by id."""
    found = session.scalars(select(PlanRow).where(PlanRow.rollout_id.in_(rollout_ids)))
    return {
        row.rollout_id: Planned(row.policy_source, row.backend, dict(row.target)) for row in found
    }


def add_plan(session: Session, rollout_id: str, plan: Planned) -> None:
    """Keep how a rollout drives itself."""
    session.add(
        PlanRow(
            rollout_id=rollout_id,
            policy_source=plan.policy_source,
            backend=plan.backend,
            target=dict(plan.target),
        )
    )


def get(session: Session, rollout_id: str) -> Rollout | None:
    """One rollout with its steps."""
    row = session.get(RolloutRow, rollout_id)
    return None if row is None else _assemble(session, [row])[0]


def open_for(session: Session, tenant_id: str, alias: str) -> Rollout | None:
    """The open rollout of an alias."""
    row = session.scalar(
        _open().where(RolloutRow.tenant_id == tenant_id, RolloutRow.alias == alias)
    )
    return None if row is None else _assemble(session, [row])[0]


def all_open(session: Session) -> list[Rollout]:
    """The open rollouts of the whole installation."""
    return _assemble(session, session.scalars(_open()).all())


@cache
def _open() -> Select[RolloutRow]:
    ended = exists().where(StepRow.rollout_id == RolloutRow.id, StepRow.state.in_(_ENDED))
    return select(RolloutRow).where(~ended)


def split_outside(session: Session, gateway: str) -> set[tuple[str, str]]:
    """The aliases, with their tenants, that a cluster splits or has split last.

    From the moment at which something is to be changed there, and past the end: what the cluster
    serves the alias as afterwards, only the cluster knows.

    Args:
        gateway: Name of the backend that is no cluster.
    """
    found = session.execute(_split_outside(gateway))
    return {(tenant_id, alias) for tenant_id, alias in found}


@cache  # Asked for twice a second by each gateway; building it took longer than answering it.
def _split_outside(gateway: str) -> Select[str, str]:
    later = aliased(RolloutRow)
    is_superseded = exists().where(
        later.tenant_id == RolloutRow.tenant_id,
        later.alias == RolloutRow.alias,
        later.id > RolloutRow.id,
    )
    has_begun = exists().where(StepRow.rollout_id == RolloutRow.id, StepRow.state.in_(_AT_WORK))
    return (
        select(RolloutRow.tenant_id, RolloutRow.alias)
        .join(PlanRow, PlanRow.rollout_id == RolloutRow.id)
        .where(PlanRow.backend != gateway, ~is_superseded, has_begun)
    )


def of_tenant(session: Session, tenant_id: str) -> list[Rollout]:
    """All rollouts of a tenant, newest first."""
    rows = session.scalars(
        select(RolloutRow)
        .where(RolloutRow.tenant_id == tenant_id)
        .order_by(RolloutRow.started_at.desc(), RolloutRow.id.desc())
    ).all()
    return _assemble(session, rows)


def _assemble(session: Session, rows: Sequence[RolloutRow]) -> list[Rollout]:
    if not rows:
        return []
    steps: dict[str, list[Step]] = {row.id: [] for row in rows}
    found = session.scalars(
        select(StepRow).where(StepRow.rollout_id.in_(steps)).order_by(StepRow.seq)
    )
    for step in found:
        steps[step.rollout_id].append(_step(step))
    planned = plans(session, list(steps))
    return [_rollout(row, steps[row.id], planned.get(row.id)) for row in rows]


def _step(row: StepRow) -> Step:
    return Step(
        seq=row.seq,
        state=RolloutState(row.state),
        percent=row.percent,
        reason=row.reason,
        actor_id=row.actor_id,
        actor_name=row.actor_name,
        at=row.at,
    )


def _rollout(row: RolloutRow, steps: Iterable[Step], plan: Planned | None) -> Rollout:
    return Rollout(
        id=row.id,
        tenant_id=row.tenant_id,
        alias=row.alias,
        stable=row.stable,
        candidate=row.candidate,
        salt=row.salt,
        started_at=row.started_at,
        steps=tuple(steps),
        plan=plan,
    )
