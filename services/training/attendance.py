"""One worker's care for one run's process, wherever it lives: from any state to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.errors import Unavailable
from services.jobs.children import GRACE_S, MAX_RESTARTS, POLL_S, ChildFailed, without_a_word
from services.jobs.worker import JobContext, JobPutBack, JobTaken
from services.training.backends import BackendState, BackendStatus, RunBackend
from services.training.folder import RunFolder

UNREACHED_S = 5.0
"""Pause before a backend that cannot be reached is asked again."""


class Attendance:
    """Submits a run and stays with it.

    Args:
        context: The job.
        backend: Where the process lives.
        run_dir: The run's folder.
        order: Gives what the process is told; raises where the run must not go on.
        show: Shows progress from the folder; the status says more while the process waits.
    """

    def __init__(
        self,
        context: JobContext,
        backend: RunBackend,
        run_dir: Path,
        *,
        order: Callable[[], Mapping[str, Any]],
        show: Callable[[BackendStatus], None],
    ) -> None:
        self._context = context
        self._backend = backend
        self._run_dir = run_dir
        self._order = order
        self._show = show
        self._submitted = 0
        self._told_at: float | None = None

    def result(self) -> dict[str, Any]:
        """Stay until `result.json` is there; return it.

        Raises:
            ChildFailed: Processes died without a result, several in a row, or for good.
            JobStopped: A person asked for a stop before one was submitted.
            JobPutBack: This worker is leaving, likewise, or lets the process run on elsewhere.
            JobTaken: Another worker holds the job; the process is left alone.
        """
        while True:
            try:
                if (found := self._look()) is not None:
                    return found
            except Unavailable as away:
                # What cannot be asked is not gone: the run waits, and a person may still stop it.
                self._context.progress(0.0, away.message)
                if self._context.wait(UNREACHED_S):
                    self._context.check()

    def _look(self) -> dict[str, Any] | None:
        status = self._backend.status(self._run_dir)
        if status.state in {BackendState.WAITING, BackendState.RUNNING}:
            self._stay(status)
            return None
        if status.state is BackendState.ENDED:
            result = RunFolder(self._run_dir).read("result.json")
            if result is not None:
                return result
        self._submit(status)
        return None

    def _submit(self, status: BackendStatus) -> None:
        self._context.check()
        if status.died and not status.retry:
            raise ChildFailed(status.died)
        if self._submitted > MAX_RESTARTS:
            known = status.died and not status.died.startswith(" (")
            raise ChildFailed(
                str(status.died) if known else without_a_word(self._submitted, status.died or "")
            )
        self._backend.submit(self._run_dir, self._order())
        self._submitted += 1
        self._told_at = None

    def _stay(self, status: BackendStatus) -> None:
        if self._context.is_taken:
            raise JobTaken
        if not self._context.should_leave:
            self._show(status)
            self._context.wait(POLL_S)
            return
        if self._backend.stays and not self._context.stop_requested:
            raise JobPutBack
        self._tell_to_stop()
        time.sleep(POLL_S)

    def _tell_to_stop(self) -> None:
        now = time.monotonic()
        if self._told_at is None or now - self._told_at <= GRACE_S:
            # Told again and again: a process that has just begun may not have heard it.
            self._told_at = self._told_at or now
            self._backend.stop(self._run_dir)
        else:
            self._backend.stop(self._run_dir, now=True)
