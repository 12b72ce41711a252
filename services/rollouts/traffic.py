"""How the traffic of a rollout really split, from the usage rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import sqrt
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.metering.store import UsageRow
from services.rollouts.models import Arm, ArmTraffic, Rollout, Traffic

Z_95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""

LAG = timedelta(seconds=2)
"""Gateways follow a change within a second; requests of that second still belong to the rollout."""


def measure(session: Session, rollout: Rollout) -> Traffic:
    """Counts of both arms since the start, and the observed share since the latest step.

    Requests that named an adapter themselves were not split and are not counted.
    """
    arms = _arms(session, rollout, rollout.started_at)
    recent = _arms(session, rollout, rollout.steps[-1].at) if rollout.is_open else arms
    canary, stable = recent[Arm.CANARY].requests, recent[Arm.STABLE].requests
    share = interval(canary, canary + stable)
    observed = None if share is None else 100 * canary / (canary + stable)
    return Traffic(
        rollout_id=rollout.id,
        asked_percent=rollout.percent,
        stable=arms[Arm.STABLE],
        canary=arms[Arm.CANARY],
        observed_percent=observed,
        low_percent=None if share is None else 100 * share[0],
        high_percent=None if share is None else 100 * share[1],
        elsewhere=arms[Arm.FALLBACK].requests,
    )


def interval(hits: int, n: int) -> tuple[float, float] | None:
    """The 95 % score interval of a share.

    Args:
        hits: Successes, 0 to `n`.
        n: Trials.

    Returns:
        Lower and upper bound, 0 to 1; None without trials.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if n == 0:
        return None
    share, z2 = hits / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _arms(session: Session, rollout: Rollout, since: datetime) -> dict[Arm, ArmTraffic]:
    row = UsageRow
    statement = (
        select(
            row.arm,
            row.status,
            func.count(),
            func.sum(row.prompt_tokens),
            func.sum(row.completion_tokens),
            func.sum(row.cost_micro),
            func.sum(row.latency_ms),
        )
        .where(row.tenant_id == rollout.tenant_id, row.alias == rollout.alias, row.at >= since)
        .group_by(row.arm, row.status)
    )
    if rollout.ended_at is not None:
        statement = statement.where(row.at < rollout.ended_at + LAG)
    found = session.execute(statement).all()
    return {arm: _sum(arm, [counts[1:] for counts in found if counts[0] == arm]) for arm in Arm}


def _sum(arm: Arm, rows: Sequence[Sequence[Any]]) -> ArmTraffic:
    by_status = {row[0]: int(row[1]) for row in rows}
    requests = sum(by_status.values())
    latency = sum(int(row[5]) for row in rows)
    return ArmTraffic(
        arm=arm,
        requests=requests,
        errors=by_status.get("error", 0),
        partial=by_status.get("partial", 0),
        prompt_tokens=sum(int(row[2]) for row in rows),
        completion_tokens=sum(int(row[3]) for row in rows),
        cost_micro=sum(int(row[4]) for row in rows),
        mean_latency_ms=round(latency / requests) if requests else None,
    )
