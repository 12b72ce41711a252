"""Real workers and real training processes, killed in mid-training. MLflow is away all along.

Five points: who launched and watches (the console), the worker, the training process, the
connections to the database, the whole host of the worker. However often a run was interrupted,
its losses are those of the same run without an interruption, to 5 digits.

The training process holds itself still at certain steps (`held_child`) until what the test does
has been done, so that neither a slow machine nor a quick one passes a point by.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import select, text

from services.audit.outbox import OutboxRow
from services.db import Database
from services.db.revise import declared_tables
from services.inference.models import BaseModel
from services.jobs.models import JobStatus
from services.training.folder import RunFolder
from services.training.models import Run
from tests.services.training.held_child import HOLD
from tests.services.training.world import CLI, TENANT, World, build_world

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    # peft 0.21 asks transformers 5.23 by a name that the next major version drops.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

ROOT = Path(__file__).parents[3]
STEPS = 48
CHECKPOINT = STEPS // 8
"""Steps from one checkpoint to the next."""
PATIENCE_S = 600.0
_EXPECTED = (None, 0, -signal.SIGKILL)
"""Exit statuses of workers, as these tests mean them."""
SETTINGS = {"max_steps": STEPS, "learning_rate": 1e-4}
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
    uninterrupted: list[float]
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
            broken = [worker.args for worker in self.workers if worker.poll() not in _EXPECTED]
            assert not broken, "a worker broke down"
            time.sleep(0.02)

    def in_training(self, beyond: int = 3) -> int:
        """Wait until steps beyond a number are done and the child holds still; its process id."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = [pid for pid in self.children() if is_still(pid)]
            if found and self.steps <= beyond:
                os.kill(found[0], signal.SIGCONT)
                return False
            return bool(found)

        self.until(is_there)
        return found[0]

    def let_go(self, child: int) -> None:
        """Let the child train on to its end."""
        (self.folder.path / HOLD).unlink()
        os.kill(child, signal.SIGCONT)

    def replace_worker(self, victim: subprocess.Popen[bytes], child: int) -> None:
        """Kill the worker; the child, held still until now, trains on, and the next attends it."""
        victim.kill()
        victim.wait()
        assert self.in_training(beyond=self.steps) == child, "it trains on, alone"
        self.start_worker()
        seen = f"step {self.steps} of {STEPS}"  # the dead worker has not come to say this
        self.until(lambda: self.run.job.attempt == 2 and self.run.job.message.startswith(seen))
        assert self.children() == [child], "nobody started a second one"
        self.let_go(child)

    def check_success(self) -> None:
        """The run succeeded as if nothing had happened: every step once, one adapter."""
        self.until(lambda: self.run.job.status.is_final)
        run = self.run
        assert (run.job.status, run.job.error) == (JobStatus.SUCCEEDED, None)
        assert [point.step for point in self.folder.points()] == list(range(1, STEPS + 1))
        self.check_losses(run)
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

    def check_losses(self, run: Run) -> None:
        """The curve is that of the same order, trained without an interruption."""
        found = [point.loss for point in self.world.training.folder(run).points()]
        assert found == pytest.approx(self.uninterrupted, abs=1e-5)


def is_still(pid: int) -> bool:
    """Whether a process holds still."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def is_told(pid: int) -> bool:
    """Whether SIGTERM waits for a process that is held still."""
    found = re.search(r"^ShdPnd:\s+([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.fixture(scope="module")
def uninterrupted(tiny_model: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of the same order, trained at one go in this process."""
    from services.training.group import Switch
    from services.training.recipe import train

    home = tmp_path_factory.mktemp("uninterrupted")
    database = Database(f"sqlite:///{home / 'param.db'}")
    declared_tables().create_all(database.engine)
    world = build_world(database, home, real_base=True)
    spec = world.spec(base_model=str(tiny_model.path), **SETTINGS)
    folder = RunFolder(home / "run")
    folder.path.mkdir()
    order = {
        "spec": spec.as_json(), "base_model": "tiny", "base_path": str(tiny_model.path),
        "base_digest": tiny_model.digest, "threads": 1,
        "dataset_folder": str(world.preferences.dataset(CLI, TENANT, spec.dataset_id).folder),
    }  # fmt: skip
    folder.write("spec.json", order)
    switch: Switch = SimpleNamespace(asked=False, in_training=False)
    assert train(folder, switch)["outcome"] == "succeeded"
    database.close()
    return [point.loss for point in folder.points()]


@pytest.fixture
def stage(
    database: Database, tmp_path: Path, tiny_model: BaseModel, uninterrupted: list[float]
) -> Iterator[Stage]:
    world = build_world(database, tmp_path, real_base=True)
    spec = world.spec(base_model=str(tiny_model.path), **SETTINGS)
    run = world.training.launch_dpo(CLI, TENANT, spec)
    found = Stage(database, world, tmp_path, run.id, uninterrupted)
    found.folder.path.mkdir(parents=True)
    (found.folder.path / HOLD).touch()
    yield found
    for worker in found.workers:
        worker.kill()
        worker.wait()
    for pid in found.children():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_child_outlives_whoever_launched_and_watches_it_and_its_worker(stage: Stage) -> None:
    url = stage.database.url.render_as_string(hide_password=False)
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCH, url, str(stage.home), stage.run_id], cwd=ROOT,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    victim = stage.start_worker()
    child = stage.in_training()
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == b"a step was seen\n"
    watcher.kill()
    watcher.communicate()
    stage.replace_worker(victim, child)
    stage.check_success()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_child_outlives_cut_connections_to_the_database_and_its_worker(stage: Stage) -> None:
    victim = stage.start_worker()
    child = stage.in_training(beyond=0)
    cuts = 0
    while cuts < 5:
        with stage.database.engine.connect() as connection:
            cut: int = connection.execute(
                text(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                    "where datname = current_database() and pid <> pg_backend_pid()"
                )
            ).scalar_one()
        cuts += cut > 0
        stage.database.engine.dispose()
        assert stage.in_training(beyond=stage.steps) == child
    assert stage.run.job.attempt == 1, "the worker kept it all along"
    stage.replace_worker(victim, child)
    stage.check_success()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_training_process_is_killed_twice_and_then_the_worker_with_it(stage: Stage) -> None:
    victim = stage.start_worker()
    for _ in range(2):
        child = stage.in_training(beyond=stage.steps)
        os.kill(child, signal.SIGKILL)
        stage.until(lambda gone=child: gone not in stage.children())  # type: ignore[misc]
    child = stage.in_training(beyond=CHECKPOINT)
    assert stage.run.job.attempt == 1, "the same worker started it again"
    victim.kill()
    victim.wait()
    os.kill(child, signal.SIGKILL)
    checkpoint = stage.folder.last_checkpoint()
    assert checkpoint is not None
    stage.start_worker()
    next_child = stage.in_training(beyond=int(checkpoint.name.rpartition("-")[2]))
    assert next_child != child
    stage.let_go(next_child)
    stage.check_success()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_whole_host_dies_and_another_host_goes_on_from_the_last_checkpoint(stage: Stage) -> None:
    victim = stage.start_worker("one")
    child = stage.in_training(beyond=CHECKPOINT)
    second = stage.world.training.launch_dpo(CLI, TENANT, stage.run.spec)
    stage.start_worker("two")
    stage.until(lambda: stage.world.training.get(CLI, second.id).job.host == "two")
    assert stage.run.job.host == "one", "each host trains one run"
    victim.kill()
    os.kill(child, signal.SIGKILL)
    victim.wait()
    (stage.folder.path / HOLD).unlink()
    assert stage.folder.last_checkpoint() is not None
    stage.until(lambda: stage.world.training.get(CLI, second.id).job.status.is_final)
    other = stage.world.training.get(CLI, second.id)
    assert other.job.status is JobStatus.SUCCEEDED
    stage.check_losses(other)
    stage.until(lambda: stage.run.job.status.is_final)
    run = stage.run
    assert run.job.status is JobStatus.SUCCEEDED
    assert "job.put_back" in stage.actions() or run.job.attempt == 2
    stage.check_losses(run)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_run_is_stopped_resumed_handed_over_and_ends_as_one_run(stage: Stage) -> None:
    first = stage.start_worker()
    child, reached = stage.in_training(), stage.steps
    stage.world.training.stop(CLI, stage.run_id)
    stage.until(lambda: is_told(child))
    os.kill(child, signal.SIGCONT)
    stage.until(lambda: stage.run.job.status is JobStatus.STOPPED)
    assert stage.steps <= reached + 1, "it ended with the step that it was at"
    assert stage.children() == []
    reached = stage.steps
    stage.world.training.resume(CLI, stage.run_id)
    child = stage.in_training(beyond=reached)
    first.terminate()
    stage.until(lambda: is_told(child))
    stage.let_go(child)
    assert first.wait(PATIENCE_S) == 0
    assert stage.run.job.status is JobStatus.QUEUED, "a worker that leaves puts the run back"
    assert stage.children() == [], "and takes its child along, after a checkpoint"
    stage.start_worker()
    stage.check_success()
