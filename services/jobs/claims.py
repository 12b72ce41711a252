"""One worker's hold on jobs: claim, keep, adopt from the dead, give back.

A worker is alive exactly while it holds the lock on its file in the `workers` folder: the kernel
drops the lock with the process, however it ends, and no process id can be mistaken for another
(an exact test that costs microseconds). Only where that file cannot be seen, because the other
worker has another home folder, does the lease in the row decide, and only for queues whose jobs
may move.

Several hosts share one home over a network file system, and the lock tells of workers on all of
them. A worker's death is no host's death, though: its processes may live on, and its host starts
a worker again within seconds. So what holds a host's slot is left to that host until the lease
has run out too, and only then taken over by another, into a free slot of its own.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, utcnow
from services.jobs import store
from services.jobs.models import QUEUES, Job, JobStatus
from services.jobs.service import release
from services.jobs.store import JobRow
from services.tenants.models import Actor

LEASE = timedelta(seconds=60)
"""Silence after which a worker of another host counts as dead, if its lock is free or not seen."""
MAX_CRASHES = 5
"""Workers that may die in a row, without any progress between, before the job is failed."""

WORKER = Actor.system("worker")


class Claims:
    """What one worker process holds.

    Args:
        db: Where the rows live.
        locks: Folder of the workers' lock files, shared by all workers of one home.
        host: Name of this machine, unique among those that share the database.
        slots: Slots of this host, for queues whose slots are a host's; else the queue's own.
        lease: How long other hosts wait for a sign of life.
        clock: Gives the present time.

    Attributes:
        worker: Id of this worker; a fresh one for each process.
    """

    def __init__(
        self,
        db: Database,
        locks: Path,
        *,
        host: str = "",
        slots: Mapping[str, int] | None = None,
        lease: timedelta = LEASE,
        clock: Clock = utcnow,
    ) -> None:
        self._db = db
        self._locks = locks
        self._clock = clock
        self._slots = dict(slots or {})
        self._lease = lease
        self.host = host or socket.gethostname()
        self.worker = f"{self.host}-{os.getpid()}-{secrets.token_hex(4)}"
        locks.mkdir(parents=True, exist_ok=True)
        self._file = self._lock_file(self.worker).open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Let go of the lock; from now on others may adopt what is still held."""
        self._lock_file(self.worker).unlink(missing_ok=True)
        self._file.close()

    def claim(self, queue: str, kinds: Collection[str]) -> Job | None:
        """Take the oldest waiting job of a queue, if one waits and a slot is free."""
        with self._db.read() as session:
            if not store.any_queued(session, queue):
                return None  # an idle worker takes no write lock
        try:
            with self._db.write() as session:
                slot = self._free_slot(session, queue)
                row = store.next_queued(session, queue, kinds) if slot is not None else None
                if row is None:
                    return None
                row.slot, row.host = slot, self._place(queue)
                row.status, row.message = JobStatus.RUNNING, "starting"
                row.started_at = row.started_at or self._clock()
                self._hold(row)
                session.flush()
                self._record(session, row, "job.started", {"attempt": row.attempt})
                return store.as_job(row)
        except IntegrityError:
            # Another worker took the slot between our look and our write.
            return None

    def _place(self, queue: str) -> str:
        return self.host if QUEUES[queue].by_host else ""

    def _free_slot(self, session: Session, queue: str) -> int | None:
        rule = QUEUES[queue]
        slots = self._slots.get(queue, rule.slots) if rule.by_host else rule.slots
        free = set(range(slots)) - store.taken_slots(session, queue, self._place(queue))
        return min(free, default=None)

    def adopt(self, kinds: Collection[str]) -> list[Job]:
        """Take over the jobs of dead workers; each goes to one adopter only."""
        with self._db.read() as session:
            dead = [
                (row.id, row.worker)
                for row in store.active(session)
                if row.kind in kinds and row.worker and self._is_dead(row)
            ]
        adopted = [self._adopt(job_id, worker) for job_id, worker in dead]
        with self._db.read() as session:
            held = {row.worker for row in store.active(session)}
        for worker in {worker for _, worker in dead} - held:
            self._lock_file(worker).unlink(missing_ok=True)
        return [job for job in adopted if job is not None]

    def _adopt(self, job_id: str, worker: str) -> Job | None:
        with self._db.write() as session:
            row = store.locked(session, job_id)
            if row is None or row.worker != worker or JobStatus(row.status).is_final:
                return None
            row.crashes += 1
            if row.crashes > MAX_CRASHES:
                self._end(
                    session,
                    row,
                    JobStatus.FAILED,
                    "failed",
                    f"the worker ended {row.crashes} times in a row while this job ran; "
                    "too little memory is the usual cause",
                )
                return None
            if row.host != self._place(row.queue):
                slot = self._free_slot(session, row.queue)
                if slot is None:
                    release(row, JobStatus.QUEUED, "its host is gone, waits for a place on another")
                    self._record(session, row, "job.put_back", {"attempt": row.attempt})
                    return None
                row.slot, row.host = slot, self._place(row.queue)
            self._hold(row)
            details = {"attempt": row.attempt, "from_worker": worker}
            self._record(session, row, "job.taken_over", details)
            return store.as_job(row)

    def beat(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        """Give a sign of life.

        Returns:
            Status by id of those of the jobs that are still ours; the others were taken away.
        """
        now = self._clock()
        with self._db.write() as session:
            for job_id in job_ids:
                session.execute(
                    store.held_update(job_id, self.worker).values(
                        heartbeat_at=now, lease_until=now + self._lease
                    )
                )
            return store.statuses(session, self.worker, job_ids)

    def held(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        """Status by id of those of the jobs that are still ours, without a sign of life."""
        with self._db.read() as session:
            return store.statuses(session, self.worker, job_ids)

    def progress(self, job_id: str, fraction: float, message: str) -> bool:
        """Show how far a job is; not audited. False where the job is no longer ours."""
        values = {"progress": min(max(fraction, 0.0), 1.0), "message": message, "crashes": 0}
        with self._db.write() as session:
            return store.changed(session, store.held_update(job_id, self.worker).values(**values))

    def end(self, job_id: str, status: JobStatus, message: str, error: str | None = None) -> bool:
        """Record how a job ended, once. False where the job is no longer ours."""
        with self._db.write() as session:
            row = self._ours(session, job_id)
            if row is not None:
                self._end(session, row, status, message, error)
            return row is not None

    def put_back(self, job_id: str) -> bool:
        """Queue a job again because this worker is leaving; stopped if a stop was asked for."""
        with self._db.write() as session:
            row = self._ours(session, job_id)
            if row is None:
                return False
            if row.status == JobStatus.STOPPING:
                self._end(session, row, JobStatus.STOPPED, "stopped", None)
                return True
            release(row, JobStatus.QUEUED, "waiting for a worker, goes on where it was")
            self._record(session, row, "job.put_back", {"attempt": row.attempt})
            return True

    def _ours(self, session: Session, job_id: str) -> JobRow | None:
        row = store.locked(session, job_id)
        if row is None or row.worker != self.worker or JobStatus(row.status).is_final:
            return None
        return row

    def _hold(self, row: JobRow) -> None:
        now = self._clock()
        row.worker, row.attempt = self.worker, row.attempt + 1
        row.heartbeat_at, row.lease_until = now, now + self._lease

    def _end(
        self, session: Session, row: JobRow, status: JobStatus, message: str, error: str | None
    ) -> None:
        release(row, status, message)
        row.error, row.ended_at = error, self._clock()
        if status is JobStatus.SUCCEEDED:
            row.progress = 1.0
        self._record(session, row, f"job.{status}", {"attempt": row.attempt})

    def _is_dead(self, row: JobRow) -> bool:
        assert row.worker is not None
        if row.worker == self.worker:
            return False
        lapsed = row.lease_until is not None and row.lease_until < self._clock()
        try:
            with self._lock_file(row.worker).open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            return lapsed and QUEUES[row.queue].moves
        return lapsed or row.host in {"", self.host}

    def _lock_file(self, worker: str) -> Path:
        return self._locks / f"{worker}.lock"

    def _record(self, session: Session, row: JobRow, action: str, details: dict[str, Any]) -> None:
        record(
            session,
            WORKER,
            action,
            f"job:{row.id}",
            tenant_id=row.tenant_id,
            details={**details, "kind": row.kind, "worker": self.worker},
            at=self._clock(),
        )
