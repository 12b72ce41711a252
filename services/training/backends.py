"""Where a run's process lives: behind one protocol, a child of the worker or a cluster's job.

A backend starts the process that `services.training.dpo` is, finds it again, and stops it. The
run's folder is the whole interface between that process and everybody else, wherever it runs: it
reads `spec.json`, appends `metrics.jsonl`, saves `checkpoint-N`, obeys the file `stop`, and writes
`result.json` last. So a run's page is the same for every backend, and a run that was stopped or
killed goes on by being submitted again: the process finds its last whole checkpoint itself.

`attendance` turns a backend into a run from beginning to end; a backend decides nothing
about retries, results or the database.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from services.jobs.children import ChildProcess
from services.training.folder import STOP, RunFolder

LOCAL = "local"
"""Name of the backend that starts the process beside the worker."""
CHILD = "services.training.dpo"


class BackendState(StrEnum):
    """What a backend knows about a run's process."""

    ABSENT = "absent"
    """There is none, and nothing tells how one ended: submit it (again)."""
    WAITING = "waiting"
    """It was submitted and has not begun: a queue, an image, a node is waited for."""
    RUNNING = "running"
    """It lives. Also while it is stopping."""
    ENDED = "ended"
    """It is gone for good; `result.json` tells how, unless `BackendStatus.died` does."""


@dataclass(frozen=True)
class BackendStatus:
    """Where a run's process stands.

    Attributes:
        message: One short sentence for the page while it waits ("Kueue has not admitted it yet:
            insufficient quota for nvidia.com/gpu"); empty where there is nothing to add.
        died: ENDED without a result: why, one sentence (out of memory, evicted, image not found),
            or empty where nobody knows. The supervisor submits again a few times, then fails the
            run with this sentence.
        retry: Whether submitting again can help; False for what only a person can mend.
    """

    state: BackendState
    message: str = ""
    died: str | None = None
    retry: bool = True


class RunBackend(Protocol):
    """Starts, finds and stops the process of a run. Every call may be made again at any time.

    `run_dir` names the run: its last part is the run's id. Calls come from a thread of the worker
    and may block for seconds, not minutes. What cannot be reached for now raises
    `services.errors.Unavailable`: the supervisor shows the sentence and tries again; what can
    never work raises any other `ConsoleError`, and the run fails with that sentence.
    """

    @property
    def name(self) -> str:
        """What the run's row calls it: `local`, `trainjob`, `job`."""
        ...

    @property
    def stays(self) -> bool:
        """Whether a worker that leaves lets the process run on: its host is not the worker's."""
        ...

    def submit(self, run_dir: Path, spec: Mapping[str, Any]) -> None:
        """Start the process, unless one lives or has ended already (then do nothing).

        Args:
            run_dir: The run's folder; it exists.
            spec: What the process is told: the content of `spec.json`, which this call writes.
                Its keys: `run_id`, `spec` (the fields of `DpoSpec`), `base_model`, `base_path`,
                `base_digest`, `dataset_folder`, `dataset_sha256`, `threads`, `device` (a slot
                such as `cpu`, `cuda:0`, `cuda:0+cuda:1`, or empty for what is found there),
                `processes` (how many train together, 1 unless it is said). A backend whose
                process sees the folders under other names rewrites the paths.
        """
        ...

    def status(self, run_dir: Path) -> BackendStatus:
        """Where the process stands; found out anew, so that it holds after any restart."""
        ...

    def logs(self, run_dir: Path, max_bytes: int) -> str:
        """The end of what the process printed, at most so many bytes."""
        ...

    def stop(self, run_dir: Path, *, now: bool = False) -> None:
        """Ask the process to save a checkpoint and end; no error where none lives.

        Args:
            now: End it at once, without a checkpoint: it did not obey in time.
        """
        ...


class LocalProcess:
    """A child of the worker, which outlives it: found again by the lock on the run's folder.

    Whoever starts a child holds the lock already and hands the open file on, so there is no
    moment in which two children could start.

    Args:
        host: Name of this machine; several share one home over a network file system.
    """

    name = LOCAL
    stays = False

    def __init__(self, host: str = "") -> None:
        self._host = host
        self._started: dict[Path, ChildProcess] = {}

    def submit(self, run_dir: Path, spec: Mapping[str, Any]) -> None:
        """Start the child, unless one lives or has ended already."""
        folder = RunFolder(run_dir)
        lock = folder.lock()
        if lock is None:
            return
        with lock:
            if folder.read("result.json") is not None:
                return
            folder.remove(STOP)
            folder.write("spec.json", dict(spec))
            self._child(run_dir).start(lock, device=str(spec.get("device", "")))

    def status(self, run_dir: Path) -> BackendStatus:
        """Where the child stands; the lock knows."""
        folder, child = RunFolder(run_dir), self._child(run_dir)
        if not run_dir.is_dir():
            return BackendStatus(BackendState.ABSENT)
        if child.lives():
            return BackendStatus(BackendState.RUNNING)
        child.wait()
        if folder.read("result.json") is not None:
            self._started.pop(run_dir, None)
            return BackendStatus(BackendState.ENDED)
        if folder.read("child.json") is None:
            return BackendStatus(BackendState.ABSENT)
        return BackendStatus(BackendState.ENDED, died=child.last_exit)

    def logs(self, run_dir: Path, max_bytes: int) -> str:
        """The end of the child's log."""
        return RunFolder(run_dir).log_tail(max_bytes)

    def stop(self, run_dir: Path, *, now: bool = False) -> None:
        """Tell the child: by signal here, by a file wherever it lives."""
        child = self._child(run_dir)
        if now:
            child.tell(signal.SIGKILL)
        elif not child.tell(signal.SIGTERM) and child.lives():
            (run_dir / STOP).touch()

    def _child(self, run_dir: Path) -> ChildProcess:
        return self._started.setdefault(
            run_dir, ChildProcess(RunFolder(run_dir), CHILD, host=self._host)
        )
