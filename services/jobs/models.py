"""What a job is, and which states it goes through.

queued ──▶ running ──▶ succeeded
  ▲  │        │  ╲───▶ failed
  │  │        ▼
  │  │     stopping ──▶ stopped
  │  ╰────────────────▶ stopped ──╮
  ╰───────────────────────────────╯ resume (failed jobs too)

A worker that dies changes no state: the next one adopts the job as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens unless somebody resumes the job."""
        return self in {JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED}


ACTIVE = (JobStatus.RUNNING, JobStatus.STOPPING)
"""States in which a job holds a slot of its queue."""


@dataclass(frozen=True)
class QueueRule:
    """How the jobs of one queue run.

    Attributes:
        slots: Jobs that run at once in the whole installation, all workers together; with
            `by_host`, on each host unless it says otherwise.
        by_host: Whether the slots are those of a host: one for each of its devices.
        moves: Whether a job of a worker that fell silent may go on in another home folder, where
            nobody can see if a process of that worker still lives. Never for training: its runs
            continue only where their run folder and their lock are.
        lives_on: Whether a job's process may live while no worker holds the job. A stop is then
            always a worker's to carry out, never only written down.
    """

    slots: int
    moves: bool
    by_host: bool = False
    lives_on: bool = False


QUEUES: Mapping[str, QueueRule] = {
    "training": QueueRule(slots=1, moves=False, by_host=True),
    # What waits for another machine's work: any number of workers may look after it.
    "cluster": QueueRule(slots=32, moves=True, lives_on=True),
    "default": QueueRule(slots=2, moves=True),
}


@dataclass(frozen=True)
class Job:
    """One piece of long work.

    Attributes:
        kind: Names the handler, such as `training.dpo`.
        queue: A key of `QUEUES`.
        payload: What the handler is given; ids, never prompts or secrets.
        progress: Done part, 0 to 1.
        message: What is being done, one short sentence.
        error: Why it failed, one sentence; None unless it failed.
        attempt: How many times a worker has begun it, 0 while it never ran.
        worker: Id of the worker that holds it, None where nobody does.
        heartbeat_at: Last sign of life of that worker.
        host: Whose slot it holds, empty where the slot is the whole installation's.
        slot: Number of that slot, None while it holds none.
        created_by: Name of the actor who asked for it.
    """

    id: str
    tenant_id: str
    kind: str
    queue: str
    payload: dict[str, Any]
    status: JobStatus
    progress: float
    message: str
    error: str | None
    attempt: int
    worker: str | None
    heartbeat_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    created_by: str
    host: str = ""
    slot: int | None = None
