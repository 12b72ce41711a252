"""Real workers and real training processes, killed in mid-training. MLflow is away all along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.inference.models import BaseModel
from services.jobs.models import JobStatus
from services.training.folder import RunFolder
from services.training.models import Run
from tests.services.training.world import CLI, TENANT, World, build_world

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
STEPS = 400
PATIENCE_S = 240.0


@dataclass
class Stage:
    """One home with one queued run, and workers to kill."""

    database: Database
    world: World
    home: Path
    run_id: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def run(self) -> Run:
        return self.world.training.get(CLI, self.run_id)

    @property
    def folder(self) -> RunFolder:
        return self.world.training.folder(self.run)

    @property
    def steps(self) -> int:
        point = self.folder.last_point()
        return point.step if point else 0

    def start_worker(self) -> subprocess.Popen[bytes]:
        url = self.database.url.render_as_string(hide_password=False)
        module = "tests.services.training.worker_process"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.workers.append(
            subprocess.Popen(
                [sys.executable, "-m", module, url, str(self.home)], cwd=ROOT, env=environment
            )
        )
        return self.workers[-1]

    def children(self) -> list[int]:
        """Every living process that trains this run."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            line = process.info["cmdline"] or []
            if str(self.folder.path) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        return found

    def until(self, fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not fact():
            assert time.monotonic() < deadline, f"{self.run.job}\n{self.folder.log_tail(3000)}"
            assert len(self.children()) <= 1, "two processes train one run"
            time.sleep(0.1)

    def in_training(self, beyond: int = 3) -> int:
        """Wait until steps beyond a number are done; the child's process id."""
        self.until(lambda: self.steps > beyond and bool(self.children()))
        return self.children()[0]

    def check_success(self) -> None:
        """The run succeeded: every step once in the curve, one adapter, registered once."""
        self.until(lambda: self.run.job.status.is_final)
        run = self.run
        assert (run.job.status, run.job.error) == (JobStatus.SUCCEEDED, None)
        assert [point.step for point in self.folder.points()] == list(range(1, STEPS + 1))
        adapters = self.world.registry.list(CLI, TENANT)
        assert [adapter.name for adapter in adapters] == [run.adapter]
        assert adapters[0].run_id == run.id
        assert run.result["mlflow"].startswith("MLflow: expected a server at 127.0.0.1:9")
        with self.database.read() as session:
            actions = list(session.scalars(select(OutboxRow.action)))
        assert actions.count("adapter.registered") == 1
        assert actions.count("job.succeeded") == 1


@pytest.fixture
def stage(database: Database, tmp_path: Path, tiny_model: BaseModel) -> Iterator[Stage]:
    world = build_world(database, tmp_path, real_base=True)
    spec = world.spec(base_model=str(tiny_model.path), max_steps=STEPS, learning_rate=1e-4)
    run = world.training.launch_dpo(CLI, TENANT, spec)
    found = Stage(database, world, tmp_path, run.id)
    yield found
    for worker in found.workers:
        worker.kill()
        worker.wait()
    for pid in found.children():
        os.kill(pid, signal.SIGKILL)


def test_a_child_outlives_its_killed_worker_and_the_next_worker_attends_it(stage: Stage) -> None:
    victim = stage.start_worker()
    child = stage.in_training()
    victim.kill()
    victim.wait()
    stage.in_training(beyond=stage.steps + 3)
    assert stage.children() == [child], "it trains on, alone"
    os.kill(child, signal.SIGSTOP)  # so that it is still at it when the next worker comes
    stage.start_worker()
    stage.until(lambda: stage.run.job.attempt == 2)
    time.sleep(2)
    assert stage.children() == [child], "nobody started a second one"
    os.kill(child, signal.SIGCONT)
    stage.check_success()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_worker_and_child_killed_the_next_worker_resumes_from_the_last_whole_checkpoint(
    stage: Stage,
) -> None:
    victim = stage.start_worker()
    child = stage.in_training(beyond=STEPS // 8 + 5)
    victim.kill()
    victim.wait()
    os.kill(child, signal.SIGKILL)
    checkpoint = stage.folder.last_checkpoint()
    assert checkpoint is not None
    stage.start_worker()
    assert stage.in_training(beyond=int(checkpoint.name.rpartition("-")[2])) != child
    stage.check_success()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_run_is_stopped_resumed_handed_over_and_ends_as_one_run(stage: Stage) -> None:
    first = stage.start_worker()
    stage.in_training()
    asked = time.monotonic()
    stage.world.training.stop(CLI, stage.run_id)
    stage.until(lambda: stage.run.job.status is JobStatus.STOPPED)
    assert time.monotonic() - asked < 30
    assert stage.children() == []
    reached = stage.steps
    stage.world.training.resume(CLI, stage.run_id)
    stage.in_training(beyond=reached)
    first.terminate()
    assert first.wait(120) == 0
    assert stage.run.job.status is JobStatus.QUEUED, "a worker that leaves puts the run back"
    assert stage.children() == [], "and takes its child along, after a checkpoint"
    stage.start_worker()
    stage.check_success()
