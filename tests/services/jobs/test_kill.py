"""Real worker processes, killed for real."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.db import Database
from services.jobs.models import JobStatus
from services.jobs.service import Jobs
from tests.services.jobs.actors import ENGINEER

Worker = subprocess.Popen[bytes]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def start_worker(database: Database, tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    started: list[Worker] = []

    def start() -> Worker:
        url = database.url.render_as_string(hide_password=False)
        command = [sys.executable, "-m", "tests.services.jobs.worker_process", url, str(tmp_path)]
        started.append(subprocess.Popen(command, cwd=ROOT))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()
        worker.wait()


def ledger(home: Path) -> list[list[str]]:
    file = home / "ledger"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def until(fact: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def test_a_killed_workers_jobs_are_taken_over_once_and_end_once(
    database: Database, tmp_path: Path, start_worker: Callable[[], Worker]
) -> None:
    jobs = Jobs(database)
    first, second = (
        jobs.enqueue(ENGINEER, "acme", "count", {}, queue="training").id for _ in range(2)
    )
    victim = start_worker()
    until(lambda: len(ledger(tmp_path)) == 1)
    victim.kill()
    victim.wait()
    assert jobs.get(ENGINEER, first).status is JobStatus.RUNNING, "the dead tell nobody"
    heirs = [start_worker(), start_worker()]
    until(lambda: len(ledger(tmp_path)) == 2)
    (tmp_path / "go").touch()
    until(lambda: jobs.get(ENGINEER, second).status is JobStatus.SUCCEEDED)
    done = jobs.get(ENGINEER, first)
    assert (done.status, done.attempt, done.error) == (JobStatus.SUCCEEDED, 2, None)
    ends = [line[1] for line in ledger(tmp_path) if line[0] == "end"]
    assert ends == [first, second], "each once, one after the other"
    assert {line[2] for line in ledger(tmp_path)[1:]} <= {str(heir.pid) for heir in heirs}


def test_a_worker_that_is_told_to_end_puts_its_job_back_first(
    database: Database, tmp_path: Path, start_worker: Callable[[], Worker]
) -> None:
    jobs = Jobs(database)
    job = jobs.enqueue(ENGINEER, "acme", "count", {})
    worker = start_worker()
    until(lambda: len(ledger(tmp_path)) == 1)
    worker.terminate()
    assert worker.wait(30) == 0
    assert jobs.get(ENGINEER, job.id).status is JobStatus.QUEUED
    assert list((tmp_path / "workers").iterdir()) == [], "it leaves no lock file behind"
