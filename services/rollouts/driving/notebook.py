"""What a driver holds and remembers of one rollout, kept so that the next driver can go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select

from services.db import Clock, Database
from services.errors import Conflict
from services.rollouts import store
from services.rollouts.backends import Previous
from services.rollouts.deciding import Progress
from services.rollouts.driving.store import DriveRow
from services.rollouts.judging import Outcome
from services.rollouts.models import Rollout, RolloutState
from services.rollouts.store import PlanRow, StepRow

LEASE = timedelta(seconds=15)
"""A driver that has not said anything for so long is taken for dead; the next one goes on."""


@dataclass(frozen=True)
class Drive:
    """The notebook's page on one rollout.

    Attributes:
        previous: What a rollback restores; None until it was captured.
        applied_seq: The last step that is in effect; 0 before the first.
        applied_at: Since when it is.
        looked_at: When the arms were last compared over an interval.
        routed_percent: The share that was last read back; None where it is not known.
        note: What is waited for, in one sentence.
    """

    rollout_id: str
    previous: Previous | None
    applied_seq: int
    applied_at: datetime | None
    looked_at: datetime | None
    progress: Progress
    routed_percent: int | None
    note: str


class Notebook:
    """Leases and progress of all rollouts, as one driver sees them.

    Args:
        holder: Id of this driver.
    """

    def __init__(self, db: Database, holder: str, *, clock: Clock) -> None:
        self._db = db
        self._holder = holder
        self._clock = clock

    def due(self) -> list[str]:
        """Rollouts that want driving: open ones with a plan, drills, ends not yet in effect."""
        with self._db.read() as session:
            last = (
                select(StepRow.rollout_id, func.max(StepRow.seq).label("seq"))
                .join(PlanRow, PlanRow.rollout_id == StepRow.rollout_id)
                .group_by(StepRow.rollout_id)
                .subquery()
            )
            unfinished = (
                select(last.c.rollout_id)
                .outerjoin(DriveRow, DriveRow.rollout_id == last.c.rollout_id)
                # Somebody may have ended it before any driver looked at it.
                .where(func.coalesce(DriveRow.applied_seq, 0) < last.c.seq)
            )
            opened = [
                one.id
                for one in store.all_open(session)
                if one.plan is not None or one.state is RolloutState.DRILLING
            ]
            return list(dict.fromkeys([*opened, *session.scalars(unfinished)]))

    def take(self, rollout: Rollout) -> Drive | None:
        """Hold a rollout for a while; None where another driver does."""
        if (held := self._held(rollout)) is not None:
            return held
        now = self._clock()
        with self._db.write() as session:
            store.lock_alias(session, rollout.tenant_id, rollout.alias)
            row = session.get(DriveRow, rollout.id)
            if row is None:
                row = DriveRow(rollout_id=rollout.id, applied_seq=0, note="")
                session.add(row)
            elif row.holder != self._holder and row.held_until > now:
                return None
            row.holder, row.held_until = self._holder, now + LEASE
            session.flush()
            return drive_of(row)

    def _held(self, rollout: Rollout) -> Drive | None:
        """The page, where it is held for long enough and need not be written."""
        with self._db.read() as session:
            row = session.get(DriveRow, rollout.id)
            if row is None or row.held_until - self._clock() < LEASE / 2:
                return None
            return drive_of(row) if row.holder == self._holder else None

    def keep(self, drive: Drive) -> Drive:
        """Write the page, and hold on.

        Raises:
            Conflict: Another driver has taken the rollout meanwhile.
        """
        return self._write(drive.rollout_id, lambda row: _fill(row, drive))

    def release(self, rollout_ids: Sequence[str]) -> None:
        """Let go, so that the next driver need not wait."""
        with self._db.write() as session:
            for rollout_id in rollout_ids:
                row = session.get(DriveRow, rollout_id)
                if row is not None and row.holder == self._holder:
                    row.held_until = self._clock()

    def _write(self, rollout_id: str, fill: Callable[[DriveRow], None]) -> Drive:
        now = self._clock()
        with self._db.write() as session:
            row = session.get(DriveRow, rollout_id, with_for_update=True)
            if row is None or row.holder != self._holder:
                raise Conflict(f"rollout {rollout_id}: another driver holds it now")
            row.held_until = now + LEASE
            fill(row)
            session.flush()
            return drive_of(row)


def drive_of(row: DriveRow) -> Drive:
    """A row as the driver knows it."""
    found = row.progress
    progress = Progress()
    if found is not None:
        last = found["last"]
        progress = replace(
            Progress(**{**found, "last": None}), last=None if last is None else Outcome(last)
        )
    previous = None
    if row.previous is not None:
        previous = Previous(row.previous["backend"], row.previous["state"])
    return Drive(
        rollout_id=row.rollout_id,
        previous=previous,
        applied_seq=row.applied_seq,
        applied_at=row.applied_at,
        looked_at=row.looked_at,
        progress=progress,
        routed_percent=row.routed_percent,
        note=row.note,
    )


def _fill(row: DriveRow, drive: Drive) -> None:
    if drive.previous is not None:
        row.previous = {"backend": drive.previous.backend, "state": dict(drive.previous.state)}
    row.applied_seq, row.applied_at = drive.applied_seq, drive.applied_at
    row.looked_at = drive.looked_at
    row.progress = asdict(drive.progress)
    row.routed_percent = drive.routed_percent
    row.note = drive.note[:500]
