"""What the worker makes of what it finds in a run's folder; no child process trains here."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select, update

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import InvalidInput
from services.jobs.claims import Claims
from services.jobs.models import JobStatus
from services.jobs.worker import run_worker
from services.training.dpo import explain
from services.training.folder import ALREADY_RUNNING, RunFolder
from services.training.models import Run
from services.training.store import RunRow
from services.training.worker import dpo_handler
from tests.services.registry.adapters import write_adapter
from tests.services.training.world import CLI, TENANT, World, build_world

DONE = {"outcome": "succeeded", "final": {"loss": 0.25}, "seconds": 1.0, "peak_rss_mb": 900}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return build_world(database, tmp_path)


@pytest.fixture
def orphan(world: World, database: Database, tmp_path: Path) -> Run:
    """A run whose worker was killed; its folder is there, nothing is in it."""
    run = world.training.launch_dpo(CLI, TENANT, world.spec())
    dead = Claims(database, tmp_path / "workers")
    assert dead.claim("training", ["training.dpo"]) is not None
    dead._file.close()  # what the kernel does when a process is killed
    world.training.folder(run).path.mkdir(parents=True)
    return run


def work(world: World, run: Run, *, seconds: float = 30) -> Run:
    """Let a worker run until the job has ended."""
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker,
        args=(world, {"training.dpo": dpo_handler}, stop),
        kwargs={"poll_s": 0.05},
    )
    thread.start()
    deadline = time.monotonic() + seconds
    while not world.training.get(CLI, run.id).job.status.is_final and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join()
    return world.training.get(CLI, run.id)


@pytest.mark.parametrize("killed", ["before registering", "after registering"])
def test_a_worker_killed_between_training_and_its_last_word_leaves_one_adapter(
    world: World, database: Database, orphan: Run, killed: str
) -> None:
    folder = world.training.folder(orphan)
    write_adapter(folder.adapter)
    folder.write("result.json", DONE)
    (folder.path / "checkpoint-6").mkdir()
    if killed == "after registering":
        world.registry.register(
            CLI, TENANT, alias="sums", folder=folder.adapter, base_model="tiny",
            base_digest="b" * 64, run_id=orphan.id, dataset_sha256=orphan.dataset_sha256,
            metrics={},
        )  # fmt: skip
    done = work(world, orphan)
    assert (done.job.status, done.job.error, done.job.attempt) == (JobStatus.SUCCEEDED, None, 2)
    assert [adapter.name for adapter in world.registry.list(CLI, TENANT)] == [done.adapter]
    assert done.result["seconds"] == 1.0
    assert done.result["mlflow"] == "MLflow: expected a server at 127.0.0.1:9, found none"
    assert not (folder.path / "checkpoint-6").exists(), "checkpoints go when the adapter is safe"
    with database.read() as session:
        actions = list(session.scalars(select(OutboxRow.action)))
    assert actions.count("adapter.registered") == 1


def test_a_failure_that_no_worker_saw_is_told_once_and_the_run_can_be_resumed(
    world: World, orphan: Run
) -> None:
    folder = world.training.folder(orphan)
    folder.write("result.json", {"outcome": "failed", "error": "the memory did not suffice"})
    failed = work(world, orphan)
    assert (failed.job.status, failed.job.error) == (
        JobStatus.FAILED,
        "the memory did not suffice",
    )
    assert folder.read("result.json") is None, "the next attempt must not find it"
    assert world.training.resume(CLI, orphan.id).job.status is JobStatus.QUEUED


def test_a_stop_that_was_asked_of_a_dead_worker_is_carried_out_by_the_next(
    world: World, orphan: Run
) -> None:
    assert world.training.stop(CLI, orphan.id).job.status is JobStatus.STOPPING
    assert work(world, orphan).job.status is JobStatus.STOPPED
    assert world.registry.list(CLI, TENANT) == []


@pytest.mark.parametrize("what", ["base model", "dataset", "train.jsonl"])
def test_a_run_never_trains_on_other_bytes_than_it_was_launched_with(
    world: World, database: Database, orphan: Run, what: str
) -> None:
    data = world.training.dataset(CLI, TENANT, orphan.spec.dataset_id).folder
    if what == "base model":
        with database.write() as session:
            session.execute(update(RunRow).values(base_digest="c" * 64))
    else:
        file = data / ("manifest.json" if what == "dataset" else what)
        file.chmod(0o600)
        file.write_bytes(file.read_bytes() + b"\n")
    failed = work(world, orphan)
    assert failed.job.status is JobStatus.FAILED
    assert failed.job.error is not None
    assert failed.job.error.startswith(f"run {orphan.id}: expected {what} ")
    assert world.training.folder(orphan).read("child.json") is None, "no process was started"


def test_a_second_process_for_one_run_leaves_at_once(tmp_path: Path) -> None:
    lock = RunFolder(tmp_path).lock()
    assert lock is not None
    command = [sys.executable, "-m", "services.training.dpo", str(tmp_path)]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    lock.close()
    assert second.returncode == ALREADY_RUNNING
    assert second.stderr == "another process trains this run\n"
    assert {path.name for path in tmp_path.iterdir()} == {"run.lock"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidInput("expected a pair, found none"), "expected a pair, found none"),
        (OSError(28, "No space"), "the disk is full; free some space, then resume the run"),
        (
            RuntimeError("PytorchStreamWriter failed: No space left on device"),
            "the disk is full; free some space, then resume the run",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "the memory did not suffice; lower batch_size or max_length",
        ),
        (KeyError("a prompt"), "unexpected KeyError; the traceback is in the run's log"),
    ],
)
def test_what_ends_a_run_is_told_in_one_sentence_without_a_line_of_data(
    error: Exception, sentence: str
) -> None:
    assert explain(error) == sentence
