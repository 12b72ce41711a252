from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.db import Database
from services.jobs.children import Child, ChildFailed
from services.jobs.models import JobStatus
from services.jobs.worker import JobContext, JobPutBack, JobStopped, run_worker
from services.training.folder import RunFolder
from tests.services.jobs.actors import ENGINEER, Parts, parts


@pytest.fixture
def services(_sqlite_template: Path, tmp_path: Path) -> Iterator[Parts]:
    path = tmp_path / "param.db"
    path.write_bytes(_sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    yield parts(database, tmp_path)
    database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    found = RunFolder(tmp_path / "run")
    found.path.mkdir()
    yield found
    for pid in starts(found):
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def starts(folder: RunFolder) -> list[int]:
    path = folder.path / "starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def handler(
    folder: RunFolder, mode: str, results: list[dict[str, Any]]
) -> Callable[[JobContext], None]:
    def handle(context: JobContext) -> None:
        def show() -> None:
            stage = folder.read("stage.json") or {}
            context.progress(stage.get("fraction", 0.0), stage.get("stage", ""), now=True)

        child = Child(
            context,
            folder,
            "tests.fakes.child",
            prepare=lambda: folder.write("spec.json", {"mode": mode}),
            show=show,
        )
        result = child.result()
        results.append(result)
        if result["outcome"] == "failed":
            raise ChildFailed(result["error"])
        if result["outcome"] == "stopped":
            folder.remove("result.json")
            raise JobStopped if context.stop_requested else JobPutBack

    return handle


@contextmanager
def working(services: Parts, handle: Callable[[JobContext], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker, args=(services, {"fake": handle}, stop), kwargs={"poll_s": 0.02}
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def test_a_child_is_started_once_shown_and_its_result_taken_over(
    services: Parts, folder: RunFolder
) -> None:
    job = services.jobs.enqueue(ENGINEER, "acme", "fake", {})
    results: list[dict[str, Any]] = []
    with working(services, handler(folder, "work", results)):
        until(lambda: services.jobs.get(ENGINEER, job.id).status.is_final)
    found = services.jobs.get(ENGINEER, job.id)
    assert (found.status, found.error) == (JobStatus.SUCCEEDED, None)
    assert found.message.startswith("step")
    assert results == [{"outcome": "succeeded", "steps": 20}]
    assert len(starts(folder)) == 1


def test_a_result_that_is_there_is_taken_over_without_a_child(
    services: Parts, folder: RunFolder
) -> None:
    folder.write("result.json", {"outcome": "succeeded"})
    job = services.jobs.enqueue(ENGINEER, "acme", "fake", {})
    results: list[dict[str, Any]] = []
    with working(services, handler(folder, "work", results)):
        until(lambda: services.jobs.get(ENGINEER, job.id).status.is_final)
    assert results == [{"outcome": "succeeded"}]
    assert starts(folder) == []


def test_a_failure_is_told_in_the_childs_own_words(services: Parts, folder: RunFolder) -> None:
    job = services.jobs.enqueue(ENGINEER, "acme", "fake", {})
    with working(services, handler(folder, "fail", [])):
        until(lambda: services.jobs.get(ENGINEER, job.id).status.is_final)
    found = services.jobs.get(ENGINEER, job.id)
    assert (found.status, found.error) == (JobStatus.FAILED, "it did not work")


def test_a_child_that_dies_without_a_word_is_started_thrice_at_most(
    services: Parts, folder: RunFolder
) -> None:
    job = services.jobs.enqueue(ENGINEER, "acme", "fake", {})
    with working(services, handler(folder, "die", [])):
        until(lambda: services.jobs.get(ENGINEER, job.id).status.is_final)
    found = services.jobs.get(ENGINEER, job.id)
    assert found.status is JobStatus.FAILED
    assert found.error is not None
    assert "ended 3 times without a word (signal 9)" in found.error
    assert len(starts(folder)) == 3


def test_a_stop_reaches_the_child_which_ends_in_order(services: Parts, folder: RunFolder) -> None:
    job = services.jobs.enqueue(ENGINEER, "acme", "fake", {})
    with working(services, handler(folder, "wait", [])):
        until(lambda: len(starts(folder)) == 1)
        services.jobs.request_stop(ENGINEER, job.id)
        until(lambda: services.jobs.get(ENGINEER, job.id).status.is_final)
    assert services.jobs.get(ENGINEER, job.id).status is JobStatus.STOPPED
    assert not psutil.pid_exists(starts(folder)[0])


def test_a_worker_that_leaves_puts_its_job_back_and_the_next_goes_on(
    services: Parts, folder: RunFolder
) -> None:
    job = services.jobs.enqueue(ENGINEER, "acme", "fake", {})
    with working(services, handler(folder, "wait", [])):
        until(lambda: len(starts(folder)) == 1)
    assert services.jobs.get(ENGINEER, job.id).status is JobStatus.QUEUED
    with working(services, handler(folder, "work", [])):
        until(lambda: services.jobs.get(ENGINEER, job.id).status.is_final)
    assert services.jobs.get(ENGINEER, job.id).status is JobStatus.SUCCEEDED
    assert len(starts(folder)) == 2


def test_a_living_child_of_a_dead_worker_is_found_and_not_doubled(
    services: Parts, folder: RunFolder
) -> None:
    import subprocess
    import sys

    folder.write("spec.json", {"mode": "work"})
    lock = folder.lock()
    assert lock is not None
    orphan = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.child", str(folder.path), "--lock-fd", str(lock.fileno())],
        pass_fds=[lock.fileno()],
    )  # fmt: skip
    lock.close()
    job = services.jobs.enqueue(ENGINEER, "acme", "fake", {})
    results: list[dict[str, Any]] = []
    with working(services, handler(folder, "work", results)):
        until(lambda: services.jobs.get(ENGINEER, job.id).status.is_final)
    orphan.wait()
    assert starts(folder) == [orphan.pid]
    assert results == [{"outcome": "succeeded", "steps": 20}]
