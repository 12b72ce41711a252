"""A rollout as people look at it: both arms with their intervals, what is waited for, what if."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.db import Database
from services.rollouts.alerts import outbox
from services.rollouts.driving import store as drives
from services.rollouts.driving.notebook import Drive, drive_of
from services.rollouts.driving.store import DriveRow, KeptVerdict
from services.rollouts.judging import Figure, figures
from services.rollouts.models import Rollout, RolloutState
from services.rollouts.policy import Policy, default_policy, read_policy
from services.rollouts.samples import store as samples
from services.rollouts.service import Rollouts
from services.tenants.models import Actor

_PER_PERCENT = 100


@dataclass(frozen=True)
class Compared:
    """Both arms over the present step, or over the last one that split.

    Attributes:
        figures: By metric, in the policy's order; 95 % intervals, each for itself.
    """

    since: datetime
    stable_n: int
    canary_n: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Moved:
    """Whom another share would move.

    Attributes:
        users: Different users that asked in the time that was looked at.
        to_candidate: How many of them would get the candidate instead; likewise back.
    """

    users: int
    to_candidate: int
    to_stable: int


@dataclass(frozen=True)
class Signed:
    """One signed step."""

    seq: int
    sha256: str
    envelope: dict[str, Any]


class Overview:
    """What pages and commands show of rollouts beyond their steps."""

    def __init__(self, db: Database, rollouts: Rollouts) -> None:
        self._db = db
        self._rollouts = rollouts

    def policy(self, rollout: Rollout) -> Policy:
        """By which it is judged; the default one where people move it."""
        plan = rollout.plan
        return default_policy() if plan is None else read_policy(plan.policy_source)

    def drive(self, actor: Actor, rollout_id: str) -> Drive | None:
        """What the driver knows; None where none has looked yet."""
        rollout = self._rollouts.get(actor, rollout_id)
        with self._db.read() as session:
            row = session.get(DriveRow, rollout.id)
            return None if row is None else drive_of(row)

    def compared(self, actor: Actor, rollout_id: str) -> Compared:
        """Both arms side by side."""
        rollout = self._rollouts.get(actor, rollout_id)
        since, until = _last_split(rollout)
        with self._db.read() as session:
            arms = samples.arms(session, rollout.id, since, until)
        found = figures(self.policy(rollout).bounds, arms)
        stable, canary = (one.requests for one in arms.values())
        return Compared(since, stable, canary, found)

    def moved(self, actor: Actor, rollout_id: str, percent: int, since: datetime) -> Moved:
        """Whom a share of `percent` would move, of those who asked since a time."""
        rollout = self._rollouts.get(actor, rollout_id)
        with self._db.read() as session:
            places = samples.places(session, rollout.id, since)
        now, then = rollout.percent * _PER_PERCENT, percent * _PER_PERCENT
        return Moved(
            users=len(places),
            to_candidate=sum(now <= place < then for place in places),
            to_stable=sum(then <= place < now for place in places),
        )

    def verdicts(self, actor: Actor, rollout_id: str) -> list[KeptVerdict]:
        """The newest looks, newest first."""
        rollout = self._rollouts.get(actor, rollout_id)
        with self._db.read() as session:
            return drives.verdicts(session, rollout.id)

    def signed(self, actor: Actor, rollout_id: str) -> list[Signed]:
        """The signed steps, oldest first."""
        rollout = self._rollouts.get(actor, rollout_id)
        with self._db.read() as session:
            return [Signed(*found) for found in drives.statements(session, rollout.id)]

    def alerts(self, actor: Actor, rollout_id: str) -> list[outbox.AlertState]:
        """What became of the alerts about it."""
        rollout = self._rollouts.get(actor, rollout_id)
        return outbox.states(self._db, rollout.id)


def _last_split(rollout: Rollout) -> tuple[datetime, datetime | None]:
    """When the present share began; of an ended rollout its last share, and when that ended."""
    splits = {RolloutState.STEPPING, RolloutState.PAUSED, RolloutState.PLANNED}
    if rollout.is_open:
        return rollout.steps[-1].at, None
    before = [step.at for step in rollout.steps if step.state in splits and step.percent]
    return (before[-1] if before else rollout.started_at), rollout.ended_at
