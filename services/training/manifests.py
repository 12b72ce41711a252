"""The objects that a run becomes on a cluster: a TrainJob, or a plain Job without the operator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.clusters.kinds import JOB, TRAIN_JOB
from services.clusters.schema import Schema
from services.errors import InvalidInput
from services.settings import Settings

CONTAINER = "node"
"""Name of the trainer's container in the Trainer's own runtimes."""
GRACE_S = 120
"""What a pod gets to save its checkpoint, seconds."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
RUN_LABEL = "param-console/run"
PATCHER = "param-console/runs"
MODULE = "services.training.pod"
_MEETING = ["--node", "$(PET_NODE_RANK)", "--meet", "$(PET_MASTER_ADDR):$(PET_MASTER_PORT)"]
"""Kubernetes fills in what the Trainer's torch runtime sets for each node."""
_POD_PATCH = (
    "spec.runtimePatches.trainingRuntimeSpec.template.spec.replicatedJobs.template.spec.template"
)


@dataclass(frozen=True)
class Place:
    """Where and how runs live on the cluster.

    Attributes:
        namespace: Of the jobs.
        image: Container image with this program and what trains.
        volume: Name of the PersistentVolumeClaim that holds the home folder, writable by many.
        home: The home folder as the worker sees it.
        pod_home: The same folder as pods see it: where the volume is mounted.
        queue: Kueue's LocalQueue; empty where Kueue does not decide.
        runtime: ClusterTrainingRuntime that a TrainJob begins from.
        gpus: GPUs of a run on each of its nodes, a process each; 0 for none.
        nodes: Over how many nodes a run is spread; several need Kubeflow Trainer.
        cpu: CPU request of a run, as Kubernetes writes quantities.
        memory: Likewise; also its limit, so that a run is ended before its neighbours are.
    """

    namespace: str
    image: str
    volume: str
    home: Path
    pod_home: Path
    queue: str = ""
    runtime: str = "torch-distributed"
    gpus: int = 0
    nodes: int = 1
    cpu: str = "4"
    memory: str = "16Gi"

    def inside(self, path: str | Path) -> str:
        """A path of the home folder, as pods see it.

        Raises:
            InvalidInput: It lies elsewhere, where no pod could see it.
        """
        try:
            return str(self.pod_home / Path(path).relative_to(self.home))
        except ValueError as error:
            raise InvalidInput(
                f"run on a cluster: expected everything below {self.home}, which the pods see as "
                f"{self.pod_home}, found {path}; pull the base model by name"
            ) from error

    @property
    def threads(self) -> int:
        """CPU threads that fit the request: a container sees all the cores of its node."""
        found = re.fullmatch(r"(\d+)(m?)", self.cpu)
        if found is None:
            return 0
        number = int(found[1])
        return max(number // 1000 if found[2] else number, 1)


def place_of(settings: Settings) -> Place:
    """The place that the configuration names."""
    return Place(
        namespace=settings.cluster_namespace,
        image=settings.cluster_image,
        volume=settings.cluster_volume,
        home=settings.home,
        pod_home=Path(settings.cluster_home or settings.home),
        queue=settings.cluster_queue,
        runtime=settings.cluster_runtime,
        gpus=settings.cluster_gpus,
        nodes=settings.cluster_nodes,
        cpu=settings.cluster_cpu,
        memory=settings.cluster_memory,
    )


def name_of(run_id: str) -> str:
    """The job's name; pods add some twenty characters, and labels end at 63."""
    plain = re.sub(r"[^a-z0-9]", "", run_id.lower())
    return f"run-{plain[:36]}"


def train_job(place: Place, run_id: str, run_dir: Path, schema: Schema) -> dict[str, Any]:
    """A TrainJob of Kubeflow Trainer 2.2 or later.

    Args:
        schema: Of TrainJob on this cluster: versions differ in what a patch may say about pods.
    """
    pod: dict[str, Any] = {
        "volumes": _volumes(place),
        "containers": [{"name": CONTAINER, "volumeMounts": _mounts(place)}],
    }
    if schema.knows(f"{_POD_PATCH}.spec.terminationGracePeriodSeconds"):
        pod["terminationGracePeriodSeconds"] = GRACE_S
    jobs = [{"name": CONTAINER, "template": {"spec": {"template": {"spec": pod}}}}]
    return {
        "apiVersion": TRAIN_JOB.api_version,
        "kind": TRAIN_JOB.kind,
        "metadata": {"name": name_of(run_id), "labels": _labels(place, run_id)},
        "spec": {
            "suspend": bool(place.queue),
            "runtimeRef": {
                "apiGroup": TRAIN_JOB.group,
                "kind": "ClusterTrainingRuntime",
                "name": place.runtime,
            },
            "trainer": {
                "image": place.image,
                "command": [*_command(place, run_dir), *(_MEETING if place.nodes > 1 else [])],
                "numNodes": place.nodes,
                "resourcesPerNode": _resources(place),
            },
            "runtimePatches": [
                {
                    "manager": PATCHER,
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}},
                }
            ],
        },
    }


def plain_job(place: Place, run_id: str, run_dir: Path) -> dict[str, Any]:
    """A Job with one pod; a drained or preempted one is started again and not counted."""
    container = {
        "name": CONTAINER,
        "image": place.image,
        "command": _command(place, run_dir),
        "resources": _resources(place),
        "volumeMounts": _mounts(place),
    }
    labels = _labels(place, run_id)
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {"name": name_of(run_id), "labels": labels},
        "spec": {
            "suspend": bool(place.queue),
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    }
                ]
            },
            "template": {
                "metadata": {"labels": {RUN_LABEL: run_id}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": GRACE_S,
                    "automountServiceAccountToken": False,
                    "volumes": _volumes(place),
                    "containers": [container],
                },
            },
        },
    }


def _labels(place: Place, run_id: str) -> dict[str, str]:
    labels = {"app.kubernetes.io/managed-by": "param-console", RUN_LABEL: run_id}
    return labels | ({QUEUE_LABEL: place.queue} if place.queue else {})


def _command(place: Place, run_dir: Path) -> list[str]:
    return ["python", "-m", MODULE, place.inside(run_dir)]


def _resources(place: Place) -> dict[str, Any]:
    requests = {"cpu": place.cpu, "memory": place.memory}
    limits = {"memory": place.memory}
    return {
        "requests": requests,
        "limits": limits | ({"nvidia.com/gpu": str(place.gpus)} if place.gpus else {}),
    }


def _volumes(place: Place) -> list[dict[str, Any]]:
    home = {"name": "home", "persistentVolumeClaim": {"claimName": place.volume}}
    # NCCL's processes meet in shared memory, of which a container has 64 MiB unless it says more.
    shared = {"name": "shm", "emptyDir": {"medium": "Memory"}}
    return [home, shared] if place.gpus > 1 else [home]


def _mounts(place: Place) -> list[dict[str, Any]]:
    home = {"name": "home", "mountPath": str(place.pod_home)}
    shared = {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - not a file of ours
    return [home, shared] if place.gpus > 1 else [home]
