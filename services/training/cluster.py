"""Runs on a Kubernetes cluster: a TrainJob, queued by Kueue where there is one, or a plain Job.

The home folder lies on a volume that both the worker and the pods see, so a run's folder stays the
whole interface (see `backends`): its curve, log, checkpoints and result are files, wherever it
trains. The cluster is asked only whether a pod lives, and why one waits or died.

A run has one name on the cluster, made from its id, so a submission whose answer was lost is found
again and never doubled. To stop, the file `stop` is written and the job deleted: its pod gets
SIGTERM, saves a checkpoint, and writes `result.json` before it is gone. Kueue's admission is
never overruled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.clusters.connection import Cluster
from services.clusters.kinds import JOB, LOCAL_QUEUE, TRAIN_JOB, TRAINING_RUNTIME, WORKLOAD, Kind
from services.clusters.refusals import ClusterForbids, ClusterRefused, ClusterUnavailable
from services.training.backends import BackendState, BackendStatus
from services.training.folder import STOP, RunFolder
from services.training.manifests import Place, name_of, plain_job, train_job
from services.training.pods import Pod, verdict

NAME = "cluster"
NOTE = "cluster.json"
"""In the run's folder: which kind of object the run became."""


class ClusterRuns:
    """A `RunBackend` on one namespace of one cluster.

    Args:
        cluster: The connection; nothing is asked of it before a method is called.
        place: Where and how runs live there.
    """

    name = NAME
    stays = True

    def __init__(self, cluster: Cluster, place: Place) -> None:
        self._cluster = cluster
        self._place = place

    def submit(self, run_dir: Path, spec: Mapping[str, Any]) -> None:
        """See `RunBackend`.

        Raises:
            ClusterRefused: The cluster takes no such job; says why.
            ClusterUnavailable: It does not answer, or a former pod of the run has not ended yet.
        """
        folder = RunFolder(run_dir)
        if folder.read("result.json") is not None:
            return
        status = self.status(run_dir)
        if status.state in {BackendState.WAITING, BackendState.RUNNING}:
            return
        kind = self._kind_of_cluster()
        self._check_queue()
        manifest = self._manifest(kind, run_dir)
        folder.remove(STOP)
        folder.write("spec.json", self._order(spec))
        folder.write(NOTE, {"kind": kind.kind, "name": manifest["metadata"]["name"]})
        try:
            self._cluster.create(kind, self._place.namespace, manifest, dry_run=True)
            self._cluster.create(kind, self._place.namespace, manifest)
        except ClusterRefused:
            # Another worker may have been quicker: the name is the run's, so the job is too.
            if self.status(run_dir).state not in {BackendState.WAITING, BackendState.RUNNING}:
                raise

    def status(self, run_dir: Path) -> BackendStatus:
        """See `RunBackend`; a job that has ended is cleared away, its files stay."""
        folder = RunFolder(run_dir)
        kind = self._kind_of(folder)
        if kind is None:
            has_ended = folder.read("result.json") is not None
            return BackendStatus(BackendState.ENDED if has_ended else BackendState.ABSENT)
        job = self._cluster.find(kind, self._place.namespace, name_of(run_dir.name))
        pods = self._pods(kind, run_dir)
        lively = [pod for pod in pods if pod.is_lively]
        if any(pod.is_running for pod in lively):
            return BackendStatus(BackendState.RUNNING)
        if job is None and not lively:
            has_ended = folder.read("result.json") is not None
            return BackendStatus(BackendState.ENDED if has_ended else BackendState.ABSENT)
        if job is not None and (final := _final(job)) is not None:
            return self._ended(folder, kind, final, pods)
        return BackendStatus(BackendState.WAITING, self._why_waiting(job, lively))

    def logs(self, run_dir: Path, max_bytes: int) -> str:
        """See `RunBackend`: the run's own log, or what its newest pod says while there is none."""
        folder = RunFolder(run_dir)
        if own := folder.log_tail(max_bytes):
            return own
        kind = self._kind_of(folder)
        pods = self._pods(kind, run_dir) if kind is not None else []
        if not pods:
            return ""
        try:
            return self._cluster.log_tail(self._place.namespace, pods[-1].name, max_bytes)
        except ClusterRefused:
            return ""  # its container has not started

    def stop(self, run_dir: Path, *, now: bool = False) -> None:
        """See `RunBackend`."""
        folder = RunFolder(run_dir)
        kind = self._kind_of(folder)
        if kind is None:
            return
        (run_dir / STOP).touch()
        self._cluster.delete(kind, self._place.namespace, name_of(run_dir.name))
        if now:
            for pod in self._pods(kind, run_dir):
                self._cluster.delete(POD, self._place.namespace, pod.name, grace_s=0)

    def _order(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """What the process is told, in the words of its own machine."""
        paths = {name: self._place.inside(str(spec[name])) for name in _PATHS if name in spec}
        place = self._place
        processes = max(place.gpus, 1)
        threads = -(-place.threads // processes)
        told = {"processes": processes, "nodes": place.nodes, "threads": threads, "device": ""}
        return {**spec, **paths, **told}

    def _manifest(self, kind: Kind, run_dir: Path) -> dict[str, Any]:
        if kind is JOB:
            if self._place.nodes > 1:
                raise ClusterRefused(
                    f"plain Job: expected PARAM_CLUSTER_NODES 1, found {self._place.nodes}; "
                    "several nodes need Kubeflow Trainer, which this cluster does not have"
                )
            return plain_job(self._place, run_dir.name, run_dir)
        schema = self._cluster.schema(TRAIN_JOB)
        assert schema is not None, "the kind was chosen because its schema is there"
        if not schema.takes_anything("spec") and not schema.knows("spec.runtimePatches"):
            raise ClusterRefused(
                "TrainJob: expected spec.runtimePatches (Kubeflow Trainer 2.2 or later), found an "
                "older version, which would drop the run's volume without a word"
            )
        manifest = train_job(self._place, run_dir.name, run_dir, schema)
        if problems := schema.problems({"spec": manifest["spec"]}):
            raise ClusterRefused(f"TrainJob: {problems[0]}")
        return manifest

    def _kind_of_cluster(self) -> Kind:
        """A TrainJob where the operator and the runtime are there, or else a plain Job."""
        if self._cluster.schema(TRAIN_JOB) is None:
            return JOB
        try:
            found = self._cluster.find(TRAINING_RUNTIME, "", self._place.runtime)
        except ClusterForbids:
            return TRAIN_JOB  # the operator's own webhook will tell
        if found is None:
            raise ClusterRefused(
                f"TrainJob: there is no ClusterTrainingRuntime {self._place.runtime} on this "
                "cluster; set PARAM_CLUSTER_RUNTIME to one that is there"
            )
        return TRAIN_JOB

    def _check_queue(self) -> None:
        """Refuse a queue that is not there: Kueue would let the job wait for ever."""
        if not self._place.queue:
            return
        queue, namespace = self._place.queue, self._place.namespace
        try:
            found = self._cluster.find(LOCAL_QUEUE, namespace, queue)
        except ClusterForbids:
            return
        if found is None:
            raise ClusterRefused(
                f"Kueue: there is no LocalQueue {namespace}/{queue} (v1beta1) on this cluster"
            )

    def _kind_of(self, folder: RunFolder) -> Kind | None:
        """What the run became when it was last submitted."""
        note = folder.read(NOTE)
        if note is None:
            return None
        return JOB if note["kind"] == JOB.kind else TRAIN_JOB

    def _pods(self, kind: Kind, run_dir: Path) -> list[Pod]:
        name = name_of(run_dir.name)
        label = (
            "jobset.sigs.k8s.io/jobset-name"
            if kind is TRAIN_JOB
            else "batch.kubernetes.io/job-name"
        )
        found = self._cluster.pods(self._place.namespace, {label: name})
        return [Pod(one) for one in found]

    def _ended(
        self, folder: RunFolder, kind: Kind, final: tuple[str, str], pods: list[Pod]
    ) -> BackendStatus:
        """A job that is through: what came of it, and the object cleared away."""
        died: str | None = None
        retry = True
        if folder.read("result.json") is None:
            died, retry = verdict(final, pods, self._place.volume)
        self._cluster.delete(kind, self._place.namespace, name_of(folder.path.name))
        return BackendStatus(BackendState.ENDED, died=died, retry=retry)

    def _why_waiting(self, job: Mapping[str, Any] | None, pods: list[Pod]) -> str:
        if job is None:
            return "waiting until a former pod of the run has ended"
        if job["spec"].get("suspend"):
            return self._why_suspended(job)
        reasons = [pod.why_waiting for pod in pods if pod.why_waiting]
        if reasons:
            return f"waiting on the cluster: {reasons[-1]}"
        return "waiting until the cluster has started its pod"

    def _why_suspended(self, job: Mapping[str, Any]) -> str:
        """Kueue's own words, where it has any."""
        if not self._place.queue:
            return "suspended on the cluster by somebody"
        labels = {"kueue.x-k8s.io/job-uid": job["metadata"]["uid"]}
        try:
            workloads = self._cluster.list(WORKLOAD, self._place.namespace, labels=labels)
        except ClusterUnavailable:
            workloads = []
        for workload in workloads:
            for condition in workload.get("status", {}).get("conditions", []):
                if condition.get("status") == "False" and condition.get("message"):
                    return f"Kueue has not admitted it yet: {condition['message']}"
        return f"waiting in Kueue's queue {self._place.queue}"


POD = Kind("", "v1", "pods", "Pod")
_PATHS = ("base_path", "dataset_folder")


def _final(job: Mapping[str, Any]) -> tuple[str, str] | None:
    """The condition that ended a job: its type, and its reason with the message."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition.get("type") in {"Complete", "Failed"} and condition.get("status") == "True":
            words = f"{condition.get('reason', '')} {condition.get('message', '')}".strip()
            return str(condition["type"]), words
    return None
