from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.db import Database
from services.errors import InvalidInput
from services.jobs.models import Job, JobStatus
from services.jobs.worker import Handler, JobContext, run_worker
from tests.services.jobs.actors import ENGINEER, Parts, parts


@pytest.fixture
def services(database: Database, tmp_path: Path) -> Parts:
    return parts(database, tmp_path)


@contextmanager
def working(services: Parts, handlers: Mapping[str, Handler]) -> Iterator[Callable[[], None]]:
    """A worker in a thread; the yielded function tells it to leave and waits."""
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker, args=(services, handlers, stop), kwargs={"poll_s": 0.02}
    )

    def leave() -> None:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()

    thread.start()
    try:
        yield leave
    finally:
        leave()


def until(services: Parts, job_id: str, *statuses: JobStatus) -> Job:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        job = services.jobs.get(ENGINEER, job_id)
        if job.status in statuses:
            return job
        time.sleep(0.02)
    raise AssertionError(f"expected {statuses}, found {job}")


def wait_to_leave(context: JobContext) -> None:
    context.progress(0.25, "a quarter", now=True)
    context.wait(10)
    context.check()


def test_a_job_runs_to_success_and_shows_its_progress(services: Parts) -> None:
    seen = []

    def count(context: JobContext) -> None:
        context.progress(0.5, "half", now=True)
        seen.append(context.services.jobs.get(ENGINEER, context.job.id).progress)
        context.progress(1.0, "counted", now=True)

    job = services.jobs.enqueue(ENGINEER, "acme", "count", {})
    with working(services, {"count": count}):
        done = until(services, job.id, JobStatus.SUCCEEDED)
    assert seen == [0.5]
    assert (done.message, done.progress, done.attempt) == ("counted", 1.0, 1)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidInput("expected a prompt, found none"), "expected a prompt, found none"),
        (
            OSError(errno.ENOSPC, "No space left"),
            "the disk is full; free some space, then resume the job",
        ),
        (MemoryError(), "the memory did not suffice"),
        (ValueError("my secret prompt"), "unexpected ValueError; the traceback is in logs/jobs/"),
    ],
)
def test_a_handler_that_raises_fails_its_job_with_one_sentence_and_keeps_the_traceback(
    services: Parts, tmp_path: Path, error: Exception, sentence: str
) -> None:
    def fail(context: JobContext) -> None:
        raise error

    job = services.jobs.enqueue(ENGINEER, "acme", "fail", {})
    with working(services, {"fail": fail}):
        failed = until(services, job.id, JobStatus.FAILED)
    assert failed.error is not None
    assert failed.error.startswith(sentence)
    assert "secret" not in failed.error
    log = (tmp_path / "logs" / "jobs" / f"{job.id}.log").read_text()
    assert "Traceback" in log
    assert type(error).__name__ in log


def test_a_failed_job_can_be_resumed(services: Parts) -> None:
    def fail_once(context: JobContext) -> None:
        if context.job.attempt == 1:
            raise InvalidInput("not yet")

    job = services.jobs.enqueue(ENGINEER, "acme", "fail", {})
    with working(services, {"fail": fail_once}):
        until(services, job.id, JobStatus.FAILED)
        services.jobs.resume(ENGINEER, job.id)
        done = until(services, job.id, JobStatus.SUCCEEDED)
    assert (done.error, done.attempt) == (None, 2)


def test_a_stop_reaches_the_handler_within_a_second(services: Parts) -> None:
    job = services.jobs.enqueue(ENGINEER, "acme", "wait", {})
    with working(services, {"wait": wait_to_leave}):
        until(services, job.id, JobStatus.RUNNING)
        asked = time.monotonic()
        services.jobs.request_stop(ENGINEER, job.id)
        stopped = until(services, job.id, JobStatus.STOPPED)
        assert time.monotonic() - asked < 1.0
    assert stopped.message == "stopped, can be resumed"


def test_a_worker_that_leaves_puts_its_jobs_back_and_the_next_one_goes_on(
    services: Parts,
) -> None:
    job = services.jobs.enqueue(ENGINEER, "acme", "wait", {}, queue="training")
    with working(services, {"wait": wait_to_leave}) as leave:
        until(services, job.id, JobStatus.RUNNING)
        leave()
        back = services.jobs.get(ENGINEER, job.id)
        assert (back.status, back.progress, back.worker) == (JobStatus.QUEUED, 0.25, None)
    with working(services, {"wait": lambda context: None}):
        assert until(services, job.id, JobStatus.SUCCEEDED).attempt == 2


def test_one_training_job_runs_while_the_others_wait_and_all_get_their_turn(
    services: Parts,
) -> None:
    lock, inside, most, order = threading.Lock(), [0], [0], []

    def train(context: JobContext) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            order.append(context.job.id)
        time.sleep(0.05)
        with lock:
            inside[0] -= 1

    ids = [
        services.jobs.enqueue(ENGINEER, "acme", "train", {}, queue="training").id for _ in range(3)
    ]
    with working(services, {"train": train}), working(services, {"train": train}):
        for job_id in ids:
            until(services, job_id, JobStatus.SUCCEEDED)
    assert order == ids
    assert most == [1]


def test_a_handler_learns_that_its_job_was_taken_away_and_leaves_no_trace(
    services: Parts, database: Database
) -> None:
    job = services.jobs.enqueue(ENGINEER, "acme", "wait", {})
    started = threading.Event()

    def hold(context: JobContext) -> None:
        started.set()
        wait_to_leave(context)

    with working(services, {"wait": hold}):
        assert started.wait(10)
        until(services, job.id, JobStatus.RUNNING)
        with database.write() as session:
            from services.jobs.store import JobRow

            row = session.get(JobRow, job.id)
            assert row is not None
            row.worker = "somebody-else"
        time.sleep(0.2)
    left = services.jobs.get(ENGINEER, job.id)
    assert (left.status, left.worker) == (JobStatus.RUNNING, "somebody-else")
