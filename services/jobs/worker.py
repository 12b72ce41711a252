"""The worker loop: claims jobs, runs their handlers, keeps them alive, ends them in order.

A handler is a function of one `JobContext`. It returns when the job is done, raises what went
wrong, or calls `context.check()` often, which raises `JobStopped` (a person asked for a stop),
`JobPutBack` (this worker was told to end: the job is queued again and the next worker goes on) or
`JobTaken` (the job is no longer ours: leave without a trace). It must be safe to call again for
the same job: a worker may die at any line.

On SIGKILL nothing is told to anybody: child processes of a handler live on, and the next worker
of the same home adopts the job within seconds; its handler finds and re-attaches to the child.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from services.errors import ConsoleError
from services.jobs.claims import LEASE, Claims
from services.jobs.devices import devices
from services.jobs.models import QUEUES, Job, JobStatus
from services.jobs.service import Jobs
from services.settings import Settings

TRAINING = "training"
"""The queue whose slots are a host's devices."""
BEAT_S = 5.0
POLL_S = 0.5
PROGRESS_EVERY_S = 1.0
SHUTDOWN_GRACE_S = 90.0
"""How long handlers get to save their state when the worker is told to end."""

log = logging.getLogger("param.worker")


class JobStopped(Exception):  # noqa: N818 - it names what happened, not an error
    """A person asked for a stop, and the state is saved."""


class JobPutBack(Exception):  # noqa: N818
    """The worker is leaving, and the state is saved."""


class JobTaken(Exception):  # noqa: N818
    """Another worker holds the job now."""


class WorkerServices(Protocol):
    """What the loop itself needs of the assembled services; handlers may use all of them."""

    @property
    def settings(self) -> Settings:
        """The configuration of this process."""
        ...

    @property
    def jobs(self) -> Jobs:
        """The queue."""
        ...


class JobContext:
    """One run of one handler.

    Attributes:
        job: The job as it was when this worker took it.
        services: Everything that bootstrap assembled.
        log_file: Where the traceback goes if the handler raises; a handler may append to it.
        device: What the job's slot stands for, `cpu` or `cuda:N`; empty if for nothing.
    """

    def __init__(
        self, job: Job, services: Any, claims: Claims, log_file: Path, *, device: str = ""
    ) -> None:
        self.job = job
        self.device = device
        self.services = services
        self.log_file = log_file
        self.message = job.message
        self._claims = claims
        self._shown_at = 0.0
        self._stop = threading.Event()
        self._leave = threading.Event()
        self._taken = threading.Event()
        self._wake = threading.Event()
        if job.status is JobStatus.STOPPING:
            self._note(self._stop)

    @property
    def stop_requested(self) -> bool:
        """Whether a person asked for a stop."""
        return self._stop.is_set()

    @property
    def shutting_down(self) -> bool:
        """Whether this worker was told to end."""
        return self._leave.is_set()

    @property
    def is_taken(self) -> bool:
        """Whether the job is no longer ours."""
        return self._taken.is_set()

    @property
    def should_leave(self) -> bool:
        """Whether the handler should save its state and return soon, for any reason."""
        return self._wake.is_set()

    def check(self) -> None:
        """Leave the handler if it should.

        Raises:
            JobTaken: The job is no longer ours.
            JobStopped: A person asked for a stop.
            JobPutBack: This worker was told to end.
        """
        if self.is_taken:
            raise JobTaken
        if self.stop_requested:
            raise JobStopped
        if self.shutting_down:
            raise JobPutBack

    def wait(self, seconds: float) -> bool:
        """Sleep, but wake at once when the handler should leave; whether it should."""
        return self._wake.wait(seconds)

    def progress(self, fraction: float, message: str, *, now: bool = False) -> None:
        """Show how far the job is; written at most once a second unless `now`.

        Args:
            fraction: Done part, 0 to 1.
            message: One short sentence.
            now: Write even if something was written just before.
        """
        self.message = message
        moment = time.monotonic()
        if not now and moment - self._shown_at < PROGRESS_EVERY_S:
            return
        self._shown_at = moment
        if not self._claims.progress(self.job.id, fraction, message):
            self._note(self._taken)

    def _note(self, event: threading.Event) -> None:
        event.set()
        self._wake.set()

    def learn(self, status: JobStatus | None, *, leaving: bool) -> None:
        """What the loop found out: the row's status (None: taken away), and whether to leave."""
        if status is None:
            self._note(self._taken)
        elif status is JobStatus.STOPPING:
            self._note(self._stop)
        if leaving:
            self._note(self._leave)


Handler = Callable[[JobContext], None]


def run_worker(
    services: WorkerServices,
    handlers: Mapping[str, Handler],
    stop_event: threading.Event,
    *,
    poll_s: float = POLL_S,
    lease: timedelta = LEASE,
) -> None:
    """Run jobs until told to stop, then give them back in order.

    Args:
        services: The assembled services.
        handlers: What runs each kind of job; kinds without a handler are left alone.
        stop_event: Set by the caller's SIGTERM and SIGINT handlers.
        poll_s: Pause between two looks at the queue, seconds.
        lease: Silence after which other hosts take over what this one holds.

    Raises:
        WrongConfiguration: The devices of this host are not named as they should be.
    """
    home = services.settings.home
    here = devices(services.settings.training_devices)
    claims = Claims(
        services.jobs.db, home / "workers", host=services.settings.worker_host,
        slots={TRAINING: len(here)}, lease=lease,
    )  # fmt: skip
    loop = _Loop(services, handlers, claims, home / "logs" / "jobs", here)
    log.info("worker %s runs %s", claims.worker, ", ".join(sorted(handlers)))
    try:
        while not stop_event.is_set():
            loop.tick()
            stop_event.wait(poll_s)
        loop.leave()
    finally:
        claims.close()


class _Loop:
    """The jobs in hand and their threads."""

    def __init__(
        self,
        services: Any,
        handlers: Mapping[str, Handler],
        claims: Claims,
        logs: Path,
        devices_here: Sequence[str],
    ) -> None:
        self._devices = devices_here
        self._services = services
        self._handlers = handlers
        self._claims = claims
        self._logs = logs
        self._running: dict[str, tuple[JobContext, threading.Thread]] = {}
        self._beaten_at = 0.0

    def tick(self) -> None:
        """One look at the database; it may be away for a while without harm."""
        try:
            self._keep(leaving=False)
            for job in self._claims.adopt(self._handlers):
                self._start(job)
            for queue in QUEUES:
                while (waiting := self._claims.claim(queue, self._handlers)) is not None:
                    self._start(waiting)
        except (ConsoleError, SQLAlchemyError) as error:
            log.warning("the job queue cannot be read, trying again: %s", error)

    def leave(self) -> None:
        """Ask every handler to save and return; wait for them, but not for ever."""
        deadline = time.monotonic() + SHUTDOWN_GRACE_S
        for context, _ in self._running.values():
            context.learn(context.job.status, leaving=True)
        while self._running and time.monotonic() < deadline:
            for _, thread in list(self._running.values()):
                thread.join(0.2)
            self._reap()
            try:
                self._keep(leaving=True)
            except (ConsoleError, SQLAlchemyError) as error:
                log.warning("the job queue cannot be written, trying again: %s", error)

    def _keep(self, *, leaving: bool) -> None:
        self._reap()
        if not self._running:
            return
        ids = list(self._running)
        due = time.monotonic() - self._beaten_at >= BEAT_S
        found = self._claims.beat(ids) if due else self._claims.held(ids)
        if due:
            self._beaten_at = time.monotonic()
        for job_id in ids:
            self._running[job_id][0].learn(found.get(job_id), leaving=leaving)

    def _reap(self) -> None:
        for job_id, (_, thread) in list(self._running.items()):
            if not thread.is_alive():
                del self._running[job_id]

    def _start(self, job: Job) -> None:
        log.info("job %s (%s) attempt %d", job.id, job.kind, job.attempt)
        device = ""
        if job.queue == TRAINING and job.slot is not None:
            device = self._devices[job.slot % len(self._devices)]
        context = JobContext(
            job, self._services, self._claims, self._logs / f"{job.id}.log", device=device
        )
        # A daemon: a handler that ignores the order to leave must not keep the process alive.
        thread = threading.Thread(
            target=_run, args=(self._handlers[job.kind], context, self._claims),
            name=f"job-{job.id}", daemon=True,
        )  # fmt: skip
        self._running[job.id] = (context, thread)
        thread.start()


def _run(handler: Handler, context: JobContext, claims: Claims) -> None:
    """Run one handler and record how it ended."""
    job_id = context.job.id
    try:
        handler(context)
    except JobTaken:
        log.warning("job %s is held by another worker now", job_id)
    except JobPutBack:
        _insist(lambda: claims.put_back(job_id))
    except JobStopped:
        _insist(lambda: claims.end(job_id, JobStatus.STOPPED, "stopped, can be resumed"))
    except Exception as error:
        # The one place where a handler's bug ends: told to the person, kept in the log.
        sentence = explain(error, context.log_file)
        log.error("job %s failed: %s", job_id, sentence)
        _insist(lambda: claims.end(job_id, JobStatus.FAILED, "failed", sentence))
    else:
        _insist(lambda: claims.end(job_id, JobStatus.SUCCEEDED, context.message))


def _insist(write: Callable[[], bool]) -> None:
    """Write an outcome; a database that is away or full is waited for, the outcome is not lost."""
    while True:
        try:
            write()
            return
        except (ConsoleError, SQLAlchemyError) as error:
            log.warning("an outcome waits for the database: %s", error)
            time.sleep(2.0)


def explain(error: Exception, log_file: Path) -> str:
    """One sentence for the person; the traceback goes to the log file."""
    sentence = _sentence(error, log_file)
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError as full:
        log.error("the traceback could not be kept (%s): %s", full, error, exc_info=error)
    return sentence


def _sentence(error: Exception, log_file: Path) -> str:
    if isinstance(error, ConsoleError):
        return error.message
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk is full; free some space, then resume the job"
    if isinstance(error, MemoryError):
        return "the memory did not suffice"
    # The text of an unforeseen error may hold anything, a prompt too: it stays in the log.
    return f"unexpected {type(error).__name__}; the traceback is in logs/jobs/{log_file.name}"
