"""Kubeflow Trainer, Job and Kueue: admission, and what becomes of a job's pod.

One node and one pod a job; the JobSet between them is left out, its labels are there.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from tests.fakes.kubernetes.refusals import denied, invalid

if TYPE_CHECKING:
    from tests.fakes.kubernetes.cluster import SimulatedCluster

QUEUE = "kueue.x-k8s.io/queue-name"
WEBHOOK = "validator.trainjob.trainer.kubeflow.org"
IMMUTABLE = ("runtimeRef", "trainer", "initializer", "activeDeadlineSeconds", "managedBy")
FINAL = ("Complete", "Failed")


def has_kueue(cluster: SimulatedCluster) -> bool:
    """Whether a local queue is there, by which the simulation tells that Kueue is."""
    return bool(cluster.all("localqueues"))


def defaulted(
    cluster: SimulatedCluster, old: dict[str, Any] | None, new: dict[str, Any]
) -> dict[str, Any]:
    """Kueue's mutating webhook suspends what is to be queued."""
    queued = QUEUE in new["metadata"].get("labels", {}) and has_kueue(cluster)
    if old is None and queued:
        return {**new, "spec": {**new["spec"], "suspend": True}}
    return new


def validate(
    cluster: SimulatedCluster, resource: Any, old: dict[str, Any] | None, new: dict[str, Any]
) -> None:
    """Rules of the schema's expressions, and of the validating webhook."""
    name = new["metadata"]["name"]
    if len(name) > 63:
        message = "metadata.name must be no more than 63 characters"
        raise invalid(resource, name, [("", "FieldValueInvalid", f"Invalid value: {message}")])
    for one in IMMUTABLE:
        if old is not None and old["spec"].get(one) != new["spec"].get(one):
            raise invalid(resource, name, [(f"spec.{one}", "FieldValueInvalid",
                f"spec.{one}: Invalid value: field is immutable")])  # fmt: skip
    runtime = new["spec"]["runtimeRef"]["name"]
    if cluster.find("clustertrainingruntimes", "", runtime) is None:
        raise denied(WEBHOOK, f'spec.runtimeRef: ClusterTrainingRuntime "{runtime}" not found')
    for container in _patched_containers(new):
        if container["name"] == "node" and "env" in container:
            raise denied(
                WEBHOOK, "runtimePatches: env of container node must be set in trainer.env"
            )


def _patched_containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    return list(_patched_pod(job).get("containers", []))


def _patched_pod(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = {}
    for patch in job["spec"].get("runtimePatches", []):
        template = patch.get("trainingRuntimeSpec", {}).get("template", {}).get("spec", {})
        for replicated in template.get("replicatedJobs", []):
            inner = replicated.get("template", {}).get("spec", {}).get("template", {})
            pod |= inner.get("spec", {})
    return pod


def reconcile(cluster: SimulatedCluster) -> None:
    _kueue(cluster)
    for job in [*cluster.all("trainjobs"), *cluster.all("jobs")]:
        if _final(job):
            continue
        if job["spec"].get("suspend"):
            _suspend(cluster, job)
        else:
            _run(cluster, job)


def on_delete(cluster: SimulatedCluster, thing: dict[str, Any]) -> None:
    """A job's pods and its workload go with it."""
    if thing["kind"] not in {"TrainJob", "Job"}:
        return
    for pod in pods_of(cluster, thing):
        end(cluster, pod)
    for workload in cluster.all("workloads"):
        if workload["metadata"]["name"] == _workload_name(thing):
            cluster.remove(workload)


def pods_of(cluster: SimulatedCluster, job: dict[str, Any]) -> list[dict[str, Any]]:
    uid = job["metadata"]["uid"]
    return [
        pod for pod in cluster.all("pods") if pod["metadata"]["ownerReferences"][0]["uid"] == uid
    ]


def end(cluster: SimulatedCluster, pod: dict[str, Any]) -> None:
    """Delete a pod as its owner does: it is gone once its process is."""
    uid = pod["metadata"]["uid"]
    if pod["status"]["phase"] == "Running":
        metadata = {**pod["metadata"], "deletionTimestamp": pod["metadata"]["creationTimestamp"]}
        cluster.change(pod, metadata=metadata)
        cluster.kubelet.stop(uid, pod["spec"].get("terminationGracePeriodSeconds", 30))
    else:
        cluster.remove(pod)


def _kueue(cluster: SimulatedCluster) -> None:
    """A workload for each queued job, and as many admitted as there are slots."""
    if not has_kueue(cluster):
        return
    jobs = [
        job
        for job in [*cluster.all("trainjobs"), *cluster.all("jobs")]
        if QUEUE in job["metadata"].get("labels", {}) and not _final(job)
    ]
    running = [job for job in jobs if not job["spec"].get("suspend")]
    for job in jobs:
        queue = job["metadata"]["labels"][QUEUE]
        name, namespace = _workload_name(job), job["metadata"]["namespace"]
        known = cluster.find("localqueues", namespace, queue) is not None
        if job in running or (known and len(running) < cluster.slots):
            words = ("Admitted", "True", "Admitted", "")
            if job not in running:
                running.append(job)
                cluster.change(job, spec={**job["spec"], "suspend": False})
        elif known:
            words = ("QuotaReserved", "False", "Pending",
                     "couldn't assign flavors to pod set node: insufficient unused quota for "
                     "nvidia.com/gpu in flavor default, 1 more needed")  # fmt: skip
        else:
            words = ("QuotaReserved", "False", "Inadmissible", f"LocalQueue {queue} doesn't exist")
        kind, is_true, reason, message = words
        condition = {"type": kind, "status": is_true, "reason": reason, "message": message}
        workload = {
            "metadata": {
                "name": name,
                "labels": {"kueue.x-k8s.io/job-uid": job["metadata"]["uid"]},
            },
            "spec": {"queueName": queue, "active": True},
            "status": {"conditions": [condition]},
        }
        cluster.put("kueue.x-k8s.io", "workloads", workload, namespace)


def _workload_name(job: dict[str, Any]) -> str:
    return f"{job['kind'].lower()}-{job['metadata']['name']}"


def _suspend(cluster: SimulatedCluster, job: dict[str, Any]) -> None:
    for pod in pods_of(cluster, job):
        if not pod["metadata"].get("deletionTimestamp"):
            end(cluster, pod)
    _conditions(cluster, job, "Suspended", "Suspended")


def _run(cluster: SimulatedCluster, job: dict[str, Any]) -> None:
    pods = pods_of(cluster, job)
    if not pods:
        _start(cluster, job)
        return
    phases = [pod["status"]["phase"] for pod in pods]
    if "Succeeded" in phases:
        _conditions(cluster, job, "Complete", "AllJobsCompleted")
    elif all(phase == "Failed" for phase in phases):
        if len(pods) > job["spec"].get("backoffLimit", 0):
            _conditions(cluster, job, "Failed", "BackoffLimitExceeded")
        else:
            _start(cluster, job)


def _start(cluster: SimulatedCluster, job: dict[str, Any]) -> None:
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    number = len(pods_of(cluster, job))
    spec = _pod_spec(job)
    labels = (
        {"jobset.sigs.k8s.io/jobset-name": name}
        if job["kind"] == "TrainJob"
        else {"batch.kubernetes.io/job-name": name}
    )
    waiting = _why_waiting(cluster, spec)
    status: dict[str, Any] = {"phase": "Pending" if waiting else "Running"}
    if waiting:
        status |= waiting
    else:
        status["containerStatuses"] = [{"name": "node", "state": {"running": {}}}]
    owner = {"kind": job["kind"], "name": name, "uid": job["metadata"]["uid"]}
    pod_name = f"{name}-node-0-0-{number:05d}"
    metadata = {"name": pod_name, "labels": labels, "ownerReferences": [owner]}
    pod = {"metadata": metadata, "spec": spec, "status": status}
    cluster.put("", "pods", pod, namespace)
    if not waiting:
        stored = cluster.find("pods", namespace, pod_name)
        assert stored is not None
        if _sees_its_folder(spec):
            cluster.kubelet.start(stored)
        else:
            ended = {"terminated": {"exitCode": 2, "reason": "Error", "message": "no such folder"}}
            statuses = [{"name": "node", "state": ended}]
            cluster.change(stored, status={"phase": "Failed", "containerStatuses": statuses})


def _pod_spec(job: dict[str, Any]) -> dict[str, Any]:
    if job["kind"] == "Job":
        return copy.deepcopy(job["spec"]["template"]["spec"])
    trainer, pod = job["spec"].get("trainer", {}), _patched_pod(job)
    container = {
        "name": "node",
        "image": trainer.get("image", ""),
        "command": trainer.get("command", []),
        "args": trainer.get("args", []),
        "env": trainer.get("env", []),
        "resources": trainer.get("resourcesPerNode", {}),
    }
    for patched in pod.get("containers", []):
        if patched["name"] == "node":
            container |= patched
    return {**copy.deepcopy(pod), "containers": [container]}


def _why_waiting(cluster: SimulatedCluster, spec: dict[str, Any]) -> dict[str, Any] | None:
    container = spec["containers"][0]
    wanted = int(container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", "0"))
    if wanted > cluster.gpus:
        message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        return {"conditions": [{"type": "PodScheduled", "status": "False",
                                "reason": "Unschedulable", "message": message}]}  # fmt: skip
    if cluster.images is not None and container.get("image") not in cluster.images:
        state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
        return {"containerStatuses": [{"name": "node", "state": state}]}
    return None


def _sees_its_folder(spec: dict[str, Any]) -> bool:
    """Whether each absolute path of the command lies in a volume of the pod."""
    container = spec["containers"][0]
    claims = {one["name"] for one in spec.get("volumes", []) if "persistentVolumeClaim" in one}
    mounts = [m["mountPath"] for m in container.get("volumeMounts", []) if m["name"] in claims]
    words = [*container.get("command", []), *container.get("args", [])]
    folders = [word for word in words if word.startswith("/")]
    return all(any(f"{word}/".startswith(f"{mount}/") for mount in mounts) for word in folders)


def _final(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(one["type"] in FINAL and one["status"] == "True" for one in conditions)


def _conditions(cluster: SimulatedCluster, job: dict[str, Any], kind: str, reason: str) -> None:
    condition = {
        "type": kind, "status": "True", "reason": reason, "message": "",
        "lastTransitionTime": job["metadata"]["creationTimestamp"],
    }  # fmt: skip
    cluster.change(job, status={**job.get("status", {}), "conditions": [condition]})
