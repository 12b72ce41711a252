"""A real DPO run on a simulated cluster, through the same worker and the same page's service."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.clusters.connection import Cluster
from services.db import Database
from services.inference.models import BaseModel
from services.jobs.models import JobStatus
from services.jobs.worker import run_worker
from services.training.backends import LocalProcess
from services.training.cluster import ClusterRuns
from services.training.manifests import Place
from services.training.models import Run
from services.training.service import Training
from services.training.worker import dpo_handler
from tests.fakes.kubernetes import SimulatedApiServer, SimulatedCluster
from tests.services.training.world import CLI, TENANT, World, build_world

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(600)]
STEPS = 60


@pytest.fixture
def server() -> Iterator[SimulatedApiServer]:
    with SimulatedApiServer(SimulatedCluster(custom=(), gpus=0)) as found:
        found.cluster.put(
            "kueue.x-k8s.io", "localqueues", {"metadata": {"name": "training-queue"}}, "training"
        )
        yield found


@pytest.fixture
def world(
    server: SimulatedApiServer, _sqlite_template: Path, tmp_path: Path, tiny_model: BaseModel
) -> Iterator[World]:
    home = tmp_path / "home"
    shutil.copytree(tiny_model.path, home / "models" / "tiny")
    shutil.copyfile(_sqlite_template, tmp_path / "param.db")
    database = Database(f"sqlite:///{tmp_path / 'param.db'}")
    found = build_world(database, home, real_base=True)
    place = Place("training", "image", "home", home, home, "training-queue", cpu="1")
    runs = ClusterRuns(Cluster(str(server.kubeconfig(tmp_path))), place)
    training = Training(
        database, found.jobs, found.preferences,
        runs_dir=found.settings.runs_dir, models_dir=found.settings.models_dir,
        backends={one.name: one for one in (LocalProcess(), runs)},
    )  # fmt: skip
    yield replace(found, training=training)
    database.close()


def work(world: World, run: Run, *, until: Callable[[Run], bool]) -> Run:
    """Let a worker run until something holds, then send it away."""
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker,
        args=(world, {"training.dpo": dpo_handler}, stop),
        kwargs={"poll_s": 0.05},
    )
    thread.start()
    deadline = time.monotonic() + 240
    try:
        while not until(found := world.training.get(CLI, run.id)):
            assert time.monotonic() < deadline, (found.job, world.training.log_tail(CLI, run.id))
            time.sleep(0.1)
    finally:
        stop.set()
        thread.join()
    return world.training.get(CLI, run.id)


def has_ended(run: Run) -> bool:
    return run.job.status.is_final


def test_a_run_on_a_cluster_waits_trains_stops_and_goes_on_like_any_other(
    world: World, server: SimulatedApiServer
) -> None:
    spec = world.spec(
        base_model=str(world.settings.models_dir / "tiny"), max_steps=STEPS, learning_rate=1e-4
    )
    alone = world.training.launch_dpo(CLI, TENANT, spec)
    alone = work(world, alone, until=has_ended)
    assert alone.job.status is JobStatus.SUCCEEDED, alone.job.error

    server.cluster.slots = 0
    run = world.training.launch_dpo(CLI, TENANT, spec, backend="cluster")
    run = work(world, run, until=lambda found: "Kueue has not admitted it" in found.job.message)
    assert run.job.status is not JobStatus.FAILED

    server.cluster.slots = 1
    server.cluster.settle()
    folder = world.training.folder(run)

    def is_on_its_way(_: Run) -> bool:
        point = folder.last_point()
        return point is not None and point.step > 3

    run = work(world, run, until=is_on_its_way)
    assert server.cluster.all("jobs"), "a worker that leaves lets a cluster's run go on"

    world.training.stop(CLI, run.id)
    run = work(world, run, until=has_ended)
    assert run.job.status is JobStatus.STOPPED
    assert server.cluster.all("jobs") == []
    assert folder.last_checkpoint() is not None

    world.training.resume(CLI, run.id)
    run = work(world, run, until=has_ended)
    assert run.job.status is JobStatus.SUCCEEDED, run.job.error
    assert run.adapter == alone.adapter, "equal bytes: the adapter's name is its digest"
    losses = [[point.loss for point in world.training.metrics(CLI, one.id)] for one in (alone, run)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(losses[1]) == STEPS
    assert world.training.log_tail(CLI, run.id)
