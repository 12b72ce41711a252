"""Runs on a cluster: submitted once, found again, stopped with their state saved, told truthfully."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from services.clusters.connection import Cluster
from services.clusters.kinds import JOB, TRAIN_JOB, TRAINING_RUNTIME
from services.clusters.refusals import ClusterForbids, ClusterRefused
from services.clusters.schema import Schema
from services.errors import InvalidInput, Unavailable
from services.training.backends import BackendState, BackendStatus, RunBackend
from services.training.cluster import ClusterRuns
from services.training.folder import RunFolder
from services.training.manifests import GRACE_S, Place, name_of, plain_job, train_job
from tests.fakes.kubernetes import Fault, SimulatedApiServer, SimulatedCluster, crds
from tests.fakes.kubernetes.deployed import permissions
from tests.fakes.kubernetes.trainer import pods_of

ENDED, RUNNING, WAITING = BackendState.ENDED, BackendState.RUNNING, BackendState.WAITING
IMAGE = "registry.example/param@sha256:0"
RUN_ID = "0192f0c1-2b3c-7def-8000-0123456789ab"


@dataclass
class Stage:
    """A run's folder on the shared volume, and the backend."""

    server: SimulatedApiServer
    connection: Cluster
    place: Place

    @property
    def backend(self) -> ClusterRuns:
        """A new one each time, as after a restart of the worker."""
        return ClusterRuns(self.connection, self.place)

    @property
    def run_dir(self) -> Path:
        return self.place.home / "runs" / RUN_ID

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.run_dir)

    @property
    def steps(self) -> int:
        return int((self.folder.read("steps.json") or {}).get("done", 0))

    def submit(self, mode: str, **more: Any) -> None:
        order = {
            "run_id": RUN_ID,
            "mode": mode,
            "base_path": str(self.place.home / "models" / "tiny"),
            "dataset_folder": str(self.place.home / "datasets" / "d"),
            "threads": 0,
            "device": "cuda:1",
            **more,
        }
        self.backend.submit(self.run_dir, order)

    def status(self) -> BackendStatus:
        return self.backend.status(self.run_dir)

    def until(self, fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not fact():
            assert time.monotonic() < deadline, (self.status(), self.folder.log_tail(2000))
            time.sleep(0.02)

    def until_state(self, state: BackendState) -> BackendStatus:
        self.until(lambda: self.status().state is state)
        return self.status()

    def jobs(self) -> list[dict[str, Any]]:
        known = self.server.cluster
        return [*known.all("trainjobs"), *known.all("jobs")]

    def pod(self) -> dict[str, Any]:
        [job] = self.jobs()
        return pods_of(self.server.cluster, job)[-1]


def stage_on(server: SimulatedApiServer, connection: Cluster, tmp_path: Path) -> Stage:
    home = tmp_path / "home"
    (home / "runs" / RUN_ID).mkdir(parents=True)
    image = ["tests.fakes.cluster_image", "pod"]
    server.cluster.kubelet.image["services.training.pod"] = image
    place = Place("training", IMAGE, "param-home", home, home, gpus=1, cpu="2")
    return Stage(server, connection, place)


@pytest.fixture(params=["trainjob", "job"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """With the Trainer's operator, and without it."""
    kinds = ("trainjobs",) if request.param == "trainjob" else ()
    with SimulatedApiServer(SimulatedCluster(custom=kinds)) as server:
        connection = Cluster(str(server.kubeconfig(tmp_path)))
        if kinds:
            connection.create(TRAINING_RUNTIME, "", _runtime())
        server.cluster.allowed = permissions("param-console", "param-console-training")
        yield stage_on(server, connection, tmp_path)


def _runtime() -> dict[str, Any]:
    return {
        "apiVersion": TRAINING_RUNTIME.api_version,
        "kind": TRAINING_RUNTIME.kind,
        "metadata": {"name": "torch-distributed"},
    }


def queue(stage: Stage, name: str = "training-queue") -> None:
    """Install Kueue with one queue, and let runs go through it."""
    stage.server.cluster.put(
        "kueue.x-k8s.io", "localqueues", {"metadata": {"name": name}}, "training"
    )
    stage.place = replace(stage.place, queue="training-queue")


def test_a_backend_is_what_the_protocol_asks_for(stage: Stage) -> None:
    backend: RunBackend = stage.backend
    assert (backend.name, backend.stays) == ("cluster", True)


def test_a_run_succeeds_and_leaves_nothing_on_the_cluster(stage: Stage) -> None:
    assert stage.status().state is BackendState.ABSENT
    stage.submit("work")
    ended = stage.until_state(ENDED)
    assert ended.died is None
    assert stage.folder.read("result.json") == {"outcome": "succeeded", "steps": 20}
    assert stage.jobs() == []
    assert stage.status() == ended
    stage.submit("work")
    assert stage.jobs() == []


def test_the_log_is_the_runs_own_and_outlives_the_pod(stage: Stage) -> None:
    stage.submit("work")
    stage.until_state(ENDED)
    log = stage.backend.logs(stage.run_dir, 65_536)
    assert log == stage.folder.log_tail()
    assert log.startswith("mode work, threads 2\n")
    assert log.endswith('{"step": 20}\n')


def test_a_pod_says_the_same_to_kubectl_logs(stage: Stage) -> None:
    stage.submit("wait")
    stage.until(lambda: stage.steps > 3)
    stage.folder.log.unlink()
    stage.until(lambda: '{"step": 2}\n' in stage.backend.logs(stage.run_dir, 65_536))
    stage.backend.stop(stage.run_dir)
    stage.until_state(ENDED)


def test_a_stopped_run_saves_its_state_and_goes_on_from_there(stage: Stage) -> None:
    stage.submit("wait")
    stage.until(lambda: stage.steps > 3)
    assert stage.status().state is RUNNING
    stage.backend.stop(stage.run_dir)
    stage.until_state(ENDED)
    assert stage.folder.read("result.json") == {"outcome": "stopped"}
    saved = stage.steps
    stage.folder.remove("result.json")
    assert stage.status().state is BackendState.ABSENT
    stage.submit("work")
    stage.until_state(ENDED)
    assert stage.folder.read("result.json") == {"outcome": "succeeded", "steps": max(saved, 20)}
    assert f'{{"step": {saved}}}' in stage.folder.log_tail()
    assert stage.folder.log_tail().count('{"step": 1}\n') == 1


def test_a_run_that_does_not_obey_is_ended(stage: Stage) -> None:
    stage.submit("deaf")
    stage.until(lambda: stage.steps > 1)
    stage.backend.stop(stage.run_dir)
    seen = stage.steps
    stage.until(lambda: stage.steps > seen)
    assert stage.status().state is RUNNING
    for pod in stage.server.cluster.all("pods"):
        stage.server.cluster.kubelet.kill(pod["metadata"]["uid"])
    stage.until_state(BackendState.ABSENT)


def test_stopping_at_once_takes_the_pods_away(stage: Stage) -> None:
    stage.submit("deaf")
    stage.until(lambda: stage.steps > 1)
    stage.backend.stop(stage.run_dir, now=True)
    stage.until_state(BackendState.ABSENT)
    assert stage.server.cluster.all("pods") == []


def test_a_run_that_waits_is_stopped_without_ever_starting(stage: Stage) -> None:
    stage.server.cluster.gpus = 0
    stage.submit("work")
    waiting = stage.status()
    assert waiting.state is WAITING
    assert "Insufficient nvidia.com/gpu" in waiting.message
    stage.backend.stop(stage.run_dir)
    assert stage.status().state is BackendState.ABSENT
    assert not stage.folder.log.exists()


def test_an_image_that_cannot_be_pulled_is_told_while_it_waits(stage: Stage) -> None:
    stage.server.cluster.images = {"another"}
    stage.submit("work")
    assert stage.status() == BackendStatus(
        WAITING, "waiting on the cluster: ImagePullBackOff: Back-off pulling image"
    )


def test_a_pod_that_was_killed_is_told_with_its_reason_and_the_run_goes_on(stage: Stage) -> None:
    stage.submit("die")
    died = _first_end(stage)
    assert died.died == "its process was killed; too little memory is the usual cause"
    assert stage.folder.read("result.json") is None
    stage.submit("die")
    stage.until_state(ENDED)
    assert stage.folder.read("result.json") == {"outcome": "succeeded", "steps": 20}


def _first_end(stage: Stage) -> BackendStatus:
    found: list[BackendStatus] = []

    def ended() -> bool:
        found.append(stage.status())
        return found[-1].state is ENDED

    stage.until(ended)
    return found[-1]


def test_a_failure_is_the_runs_own_word(stage: Stage) -> None:
    stage.submit("fail")
    assert _first_end(stage) == BackendStatus(ENDED)
    result = stage.folder.read("result.json")
    assert result == {"outcome": "failed", "error": "it did not work"}


def test_a_volume_that_is_not_ours_is_named(stage: Stage) -> None:
    elsewhere = stage.place.home.parent / "elsewhere" / "runs" / RUN_ID
    elsewhere.mkdir(parents=True)
    (elsewhere / "spec.json").write_text('{"mode": "work", "threads": 0}')
    stage.place = replace(stage.place, pod_home=stage.place.home.parent / "elsewhere")
    stage.submit("work")
    died = _first_end(stage)
    assert died.died is not None
    assert "is the volume param-home the one that PARAM_HOME lies on?" in died.died
    assert not died.retry


def test_paths_are_told_in_the_words_of_the_pod(stage: Stage) -> None:
    stage.server.cluster.gpus = 0
    stage.place = replace(stage.place, pod_home=Path("/home/param"))
    stage.submit("work")
    order = stage.folder.read("spec.json") or {}
    assert order["base_path"] == "/home/param/models/tiny"
    assert order["dataset_folder"] == "/home/param/datasets/d"
    assert (order["threads"], order["device"]) == (2, "")
    assert _container(stage)["command"][-1] == f"/home/param/runs/{RUN_ID}"
    assert _container(stage)["volumeMounts"] == [{"name": "home", "mountPath": "/home/param"}]


def _container(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.pod()["spec"]["containers"][0]
    return found


def test_what_no_pod_could_see_is_refused(stage: Stage) -> None:
    with pytest.raises(InvalidInput, match="expected everything below"):
        stage.submit("work", base_path="/srv/models/tiny")
    assert stage.jobs() == []


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("after", [True, False])
def test_a_submission_whose_answer_was_lost_is_made_once(
    stage: Stage, skip: int, after: bool
) -> None:
    stage.server.cluster.faults.append(Fault(0, "create", after=after, skip=skip))
    with pytest.raises(Unavailable):
        stage.submit("wait")
    stage.submit("wait")
    stage.submit("wait")
    assert len(stage.jobs()) == 1
    stage.until(lambda: stage.steps > 1)
    stage.backend.stop(stage.run_dir)
    stage.until_state(ENDED)


def test_a_stop_whose_answer_was_lost_is_told_again(stage: Stage) -> None:
    stage.submit("wait")
    stage.until(lambda: stage.steps > 1)
    stage.server.cluster.faults.append(Fault(503, "delete", after=True))
    with pytest.raises(Unavailable):
        stage.backend.stop(stage.run_dir)
    stage.backend.stop(stage.run_dir)
    stage.until_state(ENDED)
    assert stage.folder.read("result.json") == {"outcome": "stopped"}


def test_a_cluster_that_is_away_is_unavailable_not_gone(stage: Stage, tmp_path: Path) -> None:
    stage.submit("wait")
    for status in (503, 0, 0):
        stage.server.cluster.faults.append(Fault(status, "get"))
    with pytest.raises(Unavailable):
        stage.status()
    with pytest.raises(Unavailable):
        stage.status()
    stage.until(lambda: stage.steps > 1)
    stage.backend.stop(stage.run_dir)
    stage.until_state(ENDED)


def test_somebody_deleting_the_job_stops_the_run_in_order(stage: Stage) -> None:
    stage.submit("wait")
    stage.until(lambda: stage.steps > 1)
    [job] = stage.jobs()
    kind = JOB if job["kind"] == "Job" else TRAIN_JOB
    stage.connection.delete(kind, "training", job["metadata"]["name"])
    stage.until_state(ENDED)
    assert stage.folder.read("result.json") == {"outcome": "stopped"}


def test_kueue_decides_when_a_run_begins_and_its_words_are_shown(stage: Stage) -> None:
    queue(stage)
    stage.server.cluster.slots = 0
    stage.submit("work")
    [job] = stage.jobs()
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training-queue"
    waiting = stage.status()
    assert waiting.state is WAITING
    assert waiting.message.startswith("Kueue has not admitted it yet: couldn't assign flavors")
    stage.server.cluster.slots = 1
    stage.server.cluster.settle()
    stage.until_state(ENDED)
    assert stage.folder.read("result.json") == {"outcome": "succeeded", "steps": 20}


def test_a_queued_run_is_stopped_without_a_quarrel_with_kueue(stage: Stage) -> None:
    queue(stage)
    stage.submit("wait")
    stage.until(lambda: stage.steps > 1)
    stage.backend.stop(stage.run_dir)
    stage.until_state(ENDED)
    assert stage.folder.read("result.json") == {"outcome": "stopped"}
    assert stage.server.cluster.all("workloads") == []


def test_a_queue_that_is_not_there_is_refused_before_anything_waits_for_ever(stage: Stage) -> None:
    stage.place = replace(stage.place, queue="nobodys")
    with pytest.raises(ClusterRefused, match="there is no LocalQueue training/nobodys"):
        stage.submit("work")
    assert stage.jobs() == []


def test_without_the_permission_nothing_is_made_and_the_sentence_says_which(stage: Stage) -> None:
    plural = "trainjobs" if stage.connection.schema(TRAIN_JOB) else "jobs"
    stage.server.cluster.forbidden.add(("create", plural))
    with pytest.raises(ClusterForbids, match=f'cannot create resource "{plural}"'):
        stage.submit("work")


def test_a_runtime_that_is_not_there_is_named(tmp_path: Path) -> None:
    with SimulatedApiServer(SimulatedCluster(custom=("trainjobs",))) as server:
        connection = Cluster(str(server.kubeconfig(tmp_path)))
        found = stage_on(server, connection, tmp_path)
        with pytest.raises(ClusterRefused, match="no ClusterTrainingRuntime torch-distributed"):
            found.submit("work")


def test_an_older_trainer_would_drop_the_volume_and_is_refused(tmp_path: Path) -> None:
    older = crds.without(crds.load("trainjobs"), "spec.runtimePatches")
    state = SimulatedCluster(custom=("trainjobs",), definitions={"trainjobs": older})
    with SimulatedApiServer(state) as server:
        connection = Cluster(str(server.kubeconfig(tmp_path)))
        connection.create(TRAINING_RUNTIME, "", _runtime())
        found = stage_on(server, connection, tmp_path)
        with pytest.raises(ClusterRefused, match="Kubeflow Trainer 2.2 or later"):
            found.submit("work")


def schema() -> Schema:
    [version] = crds.load("trainjobs")["spec"]["versions"]
    return Schema(version["schema"]["openAPIV3Schema"])


@pytest.mark.parametrize("gpus", [0, 2])
@pytest.mark.parametrize("queue_name", ["", "training-queue"])
def test_a_train_job_is_valid_as_it_is_written(gpus: int, queue_name: str) -> None:
    place = Place("training", IMAGE, "v", Path("/h"), Path("/p"), queue_name, gpus=gpus)
    job = train_job(place, RUN_ID, Path("/h/runs") / RUN_ID, schema())
    assert schema().problems({"spec": job["spec"]}) == []
    assert job["spec"]["suspend"] is bool(queue_name)
    limits = job["spec"]["trainer"]["resourcesPerNode"]["limits"]
    assert limits.get("nvidia.com/gpu") == (str(gpus) if gpus else None)


def test_a_run_on_several_nodes_tells_each_its_number_and_where_the_first_one_is() -> None:
    place = Place("training", IMAGE, "v", Path("/h"), Path("/p"), gpus=4, nodes=2)
    job = train_job(place, RUN_ID, Path("/h/runs") / RUN_ID, schema())
    assert schema().problems({"spec": job["spec"]}) == []
    assert "'mountPath': '/dev/shm'" in str(job["spec"]["runtimePatches"])
    trainer = job["spec"]["trainer"]
    assert trainer["numNodes"] == 2
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "4"
    assert trainer["command"][3:] == [
        f"/p/runs/{RUN_ID}",
        *("--node", "$(PET_NODE_RANK)", "--meet", "$(PET_MASTER_ADDR):$(PET_MASTER_PORT)"),
    ]


@pytest.mark.parametrize("stage", ["job"], indirect=True)
def test_several_nodes_need_the_trainer(stage: Stage) -> None:
    stage.place = replace(stage.place, nodes=2)
    with pytest.raises(ClusterRefused, match="expected PARAM_CLUSTER_NODES 1, found 2"):
        stage.submit("work")
    assert stage.jobs() == []


@pytest.mark.parametrize("stage", ["job"], indirect=True)
def test_each_gpu_of_a_run_gets_a_process_and_its_share_of_the_threads(stage: Stage) -> None:
    stage.place = replace(stage.place, gpus=2)
    stage.submit("work")
    told = stage.folder.read("spec.json")
    assert told is not None
    assert (told["processes"], told["nodes"], told["threads"], told["device"]) == (2, 1, 1, "")
    stage.until_state(ENDED)


def test_the_grace_of_a_pod_is_asked_for_where_the_cluster_knows_it() -> None:
    place = Place("training", IMAGE, "v", Path("/h"), Path("/p"))
    plain = plain_job(place, RUN_ID, Path("/h/runs") / RUN_ID)
    assert plain["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == GRACE_S
    assert "terminationGracePeriodSeconds" not in str(
        train_job(place, RUN_ID, Path("/h/runs") / RUN_ID, schema())
    )


def test_names_fit_whatever_a_cluster_puts_behind_them() -> None:
    assert name_of(RUN_ID) == "run-0192f0c12b3c7def80000123456789ab"
    assert len(name_of("A" * 200)) + len("-node-0-0-abcde") <= 63


@pytest.mark.parametrize(("cpu", "threads"), [("4", 4), ("500m", 1), ("2500m", 2), ("1.5", 0)])
def test_threads_fit_the_request(cpu: str, threads: int) -> None:
    assert Place("n", IMAGE, "v", Path("/h"), Path("/p"), cpu=cpu).threads == threads
