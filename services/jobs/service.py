"""What people and other domains do with jobs: ask for, look at, stop, resume."""

from __future__ import annotations

import builtins
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, InvalidInput, NotFound
from services.jobs import store
from services.jobs.models import QUEUES, Job, JobStatus
from services.jobs.store import JobRow
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

LOST_AFTER = timedelta(minutes=10)
"""A running job whose worker gave no sign for so long is stopped by the one who asks, at once."""
NOBODY = "nobody"
"""Holds a job that is to be stopped and whose process lives on without a worker."""


class Jobs:
    """The durable queue, seen from outside the worker.

    Args:
        db: Where the rows live.
        clock: Gives the present time.
    """

    def __init__(self, db: Database, *, clock: Clock = utcnow) -> None:
        self.db = db
        self._clock = clock

    def enqueue(
        self,
        actor: Actor,
        tenant_id: str,
        kind: str,
        payload: dict[str, Any],
        *,
        queue: str = "default",
    ) -> Job:
        """Queue one job in a transaction of its own; see `enqueue_in_session`."""
        with self.db.write() as session:
            return self.enqueue_in_session(session, actor, tenant_id, kind, payload, queue=queue)

    def enqueue_in_session(
        self,
        session: Session,
        actor: Actor,
        tenant_id: str,
        kind: str,
        payload: dict[str, Any],
        *,
        queue: str = "default",
        permission: Permission = Permission.TRAIN,
    ) -> Job:
        """Queue one job in the caller's transaction: the job exists exactly if that commits.

        Args:
            session: The transaction that also writes what the job works on.
            kind: Names the handler, such as `training.dpo`.
            payload: JSON for the handler: ids, never prompts or secrets.
            queue: `training` (one job a device), `cluster` or `default` (two jobs).
            permission: What the actor must hold in the tenant.

        Raises:
            NotPermitted: The actor may not start such work there.
            InvalidInput: There is no such queue.
        """
        scope(actor, tenant_id, permission)
        if queue not in QUEUES:
            raise InvalidInput(f"expected a queue of {', '.join(QUEUES)}, found {queue!r}")
        row = JobRow(
            id=new_id(),
            tenant_id=tenant_id,
            kind=kind,
            queue=queue,
            payload=payload,
            status=JobStatus.QUEUED,
            progress=0.0,
            message="waiting for a worker",
            attempt=0,
            crashes=0,
            created_at=self._clock(),
            created_by_id=actor.id,
            created_by=actor.name,
        )
        session.add(row)
        session.flush()
        self._record(session, actor, "job.queued", row, {"kind": kind, "queue": queue})
        return store.as_job(row)

    def list(
        self, actor: Actor, tenant_id: str, kind: str | None = None, *, limit: int = 200
    ) -> builtins.list[Job]:
        """The tenant's jobs, newest first."""
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            return store.of_tenant(session, tenant, kind, limit)

    def get(self, actor: Actor, job_id: str) -> Job:
        """One job.

        Raises:
            NotFound: No job of this id exists in a tenant that the actor may read.
        """
        with self.db.read() as session:
            return store.as_job(
                self._visible(actor, job_id, store.find(session, job_id), Permission.READ_MODELS)
            )

    def request_stop(self, actor: Actor, job_id: str) -> Job:
        """Ask for an orderly stop: what was reached is kept and can be resumed.

        A waiting job stops at once; a running one when its handler has saved its state, within
        seconds. Asking twice changes nothing. Where the worker has been silent for `LOST_AFTER`
        the job counts as stopped at once: whoever asks takes it that the worker's machine is gone.

        Raises:
            Conflict: The job has already ended.
        """
        with self.db.write() as session:
            row = self._visible(actor, job_id, store.locked(session, job_id), Permission.TRAIN)
            status = JobStatus(row.status)
            if status.is_final:
                raise Conflict(
                    f"job {job_id}: expected a waiting or running job, found {status}"
                ).because("job_ended")
            lives_on = QUEUES[row.queue].lives_on and row.attempt > 0
            if not lives_on and (status is JobStatus.QUEUED or self._is_lost(row)):
                release(row, JobStatus.STOPPED, "stopped before it ran on")
                row.ended_at = self._clock()
            elif status is JobStatus.STOPPING:
                return store.as_job(row)
            else:
                row.status, row.message = JobStatus.STOPPING, "saving what was reached"
                if row.worker is None:  # the next worker takes it over, and tells its process
                    row.worker, row.lease_until = NOBODY, self._clock()
            self._record(session, actor, "job.stop_requested", row, {"kind": row.kind})
            return store.as_job(row)

    def resume(self, actor: Actor, job_id: str) -> Job:
        """Queue a stopped or failed job again; it goes on from its last saved state.

        Raises:
            Conflict: The job is waiting, running, or has succeeded.
        """
        with self.db.write() as session:
            row = self._visible(actor, job_id, store.locked(session, job_id), Permission.TRAIN)
            if row.status not in {JobStatus.STOPPED, JobStatus.FAILED}:
                raise Conflict(
                    f"job {job_id}: expected a stopped or failed job, found {row.status}"
                ).because("job_not_ended")
            release(row, JobStatus.QUEUED, "waiting for a worker")
            row.error, row.ended_at, row.crashes = None, None, 0
            self._record(session, actor, "job.resumed", row, {"kind": row.kind})
            return store.as_job(row)

    def _visible(
        self, actor: Actor, job_id: str, row: JobRow | None, permission: Permission
    ) -> JobRow:
        # A job of another tenant and one that does not exist answer alike.
        if row is None or not actor.may(Permission.READ_MODELS, row.tenant_id):
            raise NotFound(f"job {job_id!r} was not found")
        scope(actor, row.tenant_id, permission)
        return row

    def _is_lost(self, row: JobRow) -> bool:
        return row.heartbeat_at is not None and row.heartbeat_at + LOST_AFTER < self._clock()

    def _record(
        self, session: Session, actor: Actor, action: str, row: JobRow, details: dict[str, Any]
    ) -> None:
        record(
            session,
            actor,
            action,
            f"job:{row.id}",
            tenant_id=row.tenant_id,
            details=details,
            at=self._clock(),
        )


def release(row: JobRow, status: JobStatus, message: str) -> None:
    """Give the row's slot and worker back and set its new state."""
    row.status, row.message = status, message
    row.host = ""
    row.slot = row.worker = row.lease_until = row.heartbeat_at = None
