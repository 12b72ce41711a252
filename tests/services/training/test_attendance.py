"""What becomes of a run when its backend waits, cannot be reached, or loses the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.errors import Unavailable
from services.jobs.children import ChildFailed
from services.jobs.worker import JobPutBack, JobStopped
from services.training.attendance import Attendance
from services.training.backends import BackendState, BackendStatus, LocalProcess
from services.training.folder import RunFolder

WAITING = BackendStatus(BackendState.WAITING, "no quota for a GPU yet")
RUNNING = BackendStatus(BackendState.RUNNING)
ABSENT = BackendStatus(BackendState.ABSENT)
ENDED = BackendStatus(BackendState.ENDED)


@dataclass
class Scripted:
    """A backend that answers what it was told to, one answer a question, the last for ever."""

    answers: list[BackendStatus | Exception]
    folder: RunFolder
    stays: bool = True
    name: str = "scripted"
    submitted: int = 0
    stops: list[bool] = field(default_factory=list)

    def submit(self, run_dir: Path, spec: Mapping[str, Any]) -> None:
        self.submitted += 1

    def status(self, run_dir: Path) -> BackendStatus:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        if found is ENDED:
            self.folder.write("result.json", {"outcome": "succeeded"})
        return found

    def logs(self, run_dir: Path, max_bytes: int) -> str:
        return ""

    def stop(self, run_dir: Path, *, now: bool = False) -> None:
        self.stops.append(now)
        self.answers = [ENDED]


@dataclass
class Context:
    """A job that is asked to stop, or whose worker leaves, after so many looks."""

    stop_after: int = 10**6
    leave_after: int = 10**6
    looks: int = 0
    said: list[str] = field(default_factory=list)
    is_taken: bool = False

    @property
    def stop_requested(self) -> bool:
        return self.looks >= self.stop_after

    @property
    def should_leave(self) -> bool:
        return self.stop_requested or self.looks >= self.leave_after

    def check(self) -> None:
        if self.stop_requested:
            raise JobStopped
        if self.should_leave:
            raise JobPutBack

    def wait(self, seconds: float) -> bool:
        self.looks += 1
        return self.should_leave

    def progress(self, fraction: float, message: str, *, now: bool = False) -> None:
        self.said.append(message)


def attended(
    tmp_path: Path, context: Context, *answers: BackendStatus | Exception, stays: bool = True
) -> tuple[Scripted, Attendance]:
    backend = Scripted(list(answers), RunFolder(tmp_path), stays)
    attendance = Attendance(
        context, backend, tmp_path, order=dict,  # type: ignore[arg-type]  # what it needs of one
        show=lambda status: context.said.append(status.message),
    )  # fmt: skip
    return backend, attendance


def test_a_run_is_submitted_once_waited_for_and_its_result_returned(tmp_path: Path) -> None:
    context = Context()
    backend, attendance = attended(tmp_path, context, ABSENT, WAITING, RUNNING, ENDED)
    assert attendance.result() == {"outcome": "succeeded"}
    assert (backend.submitted, context.said) == (1, ["no quota for a GPU yet", ""])


def test_a_backend_that_cannot_be_reached_is_asked_again_and_the_page_says_so(
    tmp_path: Path,
) -> None:
    context = Context()
    away = Unavailable("cluster: expected an answer at https://k8s, found none")
    backend, attendance = attended(tmp_path, context, RUNNING, away, away, RUNNING, ENDED)
    assert attendance.result() == {"outcome": "succeeded"}
    assert context.said.count(away.message) == 2
    assert backend.submitted == 0, "what cannot be asked is not gone"


def test_a_process_that_keeps_dying_fails_the_run_with_its_own_sentence(tmp_path: Path) -> None:
    died = BackendStatus(BackendState.ENDED, died="the pod was evicted: disk pressure")
    backend, attendance = attended(tmp_path, Context(), died)
    with pytest.raises(ChildFailed, match="the pod was evicted: disk pressure"):
        attendance.result()
    assert backend.submitted == 3


def test_what_only_a_person_can_mend_is_not_tried_again(tmp_path: Path) -> None:
    died = BackendStatus(BackendState.ENDED, died="image not found", retry=False)
    backend, attendance = attended(tmp_path, Context(), died)
    with pytest.raises(ChildFailed, match="image not found"):
        attendance.result()
    assert backend.submitted == 0


def test_a_stop_reaches_the_process_and_what_it_reports_is_returned(tmp_path: Path) -> None:
    backend, attendance = attended(tmp_path, Context(stop_after=2), RUNNING)
    assert attendance.result() == {"outcome": "succeeded"}
    assert backend.stops == [False]


@pytest.mark.parametrize(("stays", "stops"), [(True, 0), (False, 1)])
def test_a_worker_that_leaves_stops_its_own_children_and_lets_a_cluster_go_on(
    tmp_path: Path, stays: bool, stops: int
) -> None:
    backend, attendance = attended(tmp_path, Context(leave_after=1), RUNNING, stays=stays)
    if stays:
        with pytest.raises(JobPutBack):
            attendance.result()
    else:
        attendance.result()
    assert len(backend.stops) == stops


def test_a_child_on_another_host_is_stopped_by_a_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    lock = folder.lock()
    assert lock is not None
    with lock:
        folder.write("child.json", {"pid": 1, "host": "elsewhere"})
        here = LocalProcess("here")
        assert here.status(tmp_path).state is BackendState.RUNNING
        here.stop(tmp_path)
        assert (tmp_path / "stop").exists()
    assert here.status(tmp_path) == BackendStatus(BackendState.ENDED, died="")
