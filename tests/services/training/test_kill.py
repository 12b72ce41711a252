"""Real workers and real training processes, killed in mid-training. MLflow is away all along.

Five points: who launched and watches (the console), the worker, the training process, the
connections to the database, the whole host of the worker. However often a run was interrupted,
its losses are those of the same run without an interruption, to 5 digits.
"""

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
from sqlalchemy import select, text

from services.audit.outbox import OutboxRow
from services.db import Database
from services.inference.models import BaseModel
from services.jobs.models import JobStatus
from services.training.folder import RunFolder
from services.training.models import Run
from tests.services.training.world import CLI, TENANT, World, build_world

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
STEPS = 240
PATIENCE_S = 240.0
WATCH = """
import sys, time
from pathlib import Path
from services.db import Database
from tests.services.training.world import CLI, build_world
training = build_world(Database(sys.argv[1]), Path(sys.argv[2]), real_base=True).training
while not training.metrics(CLI, sys.argv[3]):
    time.sleep(0.1)
print("a step was seen", flush=True)
while True:
    training.get(CLI, sys.argv[3]), training.log_tail(CLI, sys.argv[3])
"""
"""What the page does, in a process of its own."""


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

    def start_worker(self, host: str = "") -> subprocess.Popen[bytes]:
        url = self.database.url.render_as_string(hide_password=False)
        module = "tests.services.training.worker_process"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.workers.append(
            subprocess.Popen(
                [sys.executable, "-m", module, url, str(self.home), *([host] if host else [])],
                cwd=ROOT,
                env=environment,
            )  # fmt: skip
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
        found: list[int] = []

        def trains() -> bool:
            found[:] = self.children()
            return self.steps > beyond and bool(found)

        self.until(trains)
        return found[0]

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
        actions = self.actions()
        assert actions.count("adapter.registered") == 1
        assert actions.count("job.succeeded") == 1

    def actions(self) -> list[str]:
        """What the audit was told, in no order."""
        with self.database.read() as session:
            return list(session.scalars(select(OutboxRow.action)))

    def check_losses(self) -> None:
        """The curve is that of the same order, trained again without an interruption."""
        whole = RunFolder(self.home / "uninterrupted")
        whole.path.mkdir()
        told = self.folder.read("spec.json")
        assert told is not None
        whole.write("spec.json", told)
        command = [sys.executable, "-m", "services.training.dpo", str(whole.path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = [point.loss for point in self.folder.points()]
        assert found == pytest.approx([point.loss for point in whole.points()], abs=1e-5)


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
    stage.check_losses()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_training_process_is_killed_twice_and_the_same_worker_starts_it_again(
    stage: Stage,
) -> None:
    stage.start_worker()
    for _ in range(2):
        child = stage.in_training(beyond=stage.steps + 3)
        os.kill(child, signal.SIGKILL)
        stage.until(lambda gone=child: gone not in stage.children())  # type: ignore[misc]
    stage.check_success()
    stage.check_losses()
    assert stage.run.job.attempt == 1, "the worker kept it all along"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_whoever_launched_and_watches_a_run_may_be_killed(stage: Stage) -> None:
    url = stage.database.url.render_as_string(hide_password=False)
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCH, url, str(stage.home), stage.run_id], cwd=ROOT,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    stage.start_worker()
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == b"a step was seen\n"
    watcher.kill()
    watcher.communicate()
    stage.check_success()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_connections_to_the_database_are_cut_again_and_again(stage: Stage) -> None:
    stage.start_worker()
    stage.in_training(beyond=0)
    cuts = 0
    while cuts < 5 and not stage.run.job.status.is_final:
        with stage.database.engine.connect() as connection:
            cut = connection.execute(
                text(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                    "where datname = current_database() and pid <> pg_backend_pid()"
                )
            ).scalar_one()
        cuts += cut > 0
        stage.database.engine.dispose()
        reached = stage.steps
        stage.until(
            lambda reached=reached: stage.steps > reached or stage.run.job.status.is_final  # type: ignore[misc]
        )
    assert cuts > 0
    stage.check_success()
    assert stage.run.job.attempt == 1, "the worker kept it all along"


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_whole_host_dies_and_another_host_goes_on_from_the_last_checkpoint(stage: Stage) -> None:
    victim = stage.start_worker("one")
    child = stage.in_training(beyond=STEPS // 8 + 5)
    os.kill(child, signal.SIGSTOP)  # so that it has not ended when the other host is at work
    second = stage.world.training.launch_dpo(CLI, TENANT, stage.run.spec)
    stage.start_worker("two")
    stage.until(lambda: stage.world.training.get(CLI, second.id).job.host == "two")
    assert stage.run.job.host == "one", "each host trains one run"
    victim.kill()
    os.kill(child, signal.SIGKILL)
    victim.wait()
    checkpoint = stage.folder.last_checkpoint()
    assert checkpoint is not None
    stage.until(lambda: stage.run.job.status.is_final)
    stage.until(lambda: stage.world.training.get(CLI, second.id).job.status.is_final)
    run, other = stage.run, stage.world.training.get(CLI, second.id)
    assert (run.job.status, other.job.status) == (JobStatus.SUCCEEDED, JobStatus.SUCCEEDED)
    assert "job.put_back" in stage.actions() or run.job.attempt == 2
    mine = [point.loss for point in stage.folder.points()]
    theirs = [point.loss for point in stage.world.training.folder(other).points()]
    assert mine == pytest.approx(theirs, abs=1e-5)


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
