"""KServe: the rules of its webhook for `spec.canary`, and what its controllers write.

Rules and words after `pkg/apis/serving/v1beta1/inference_service_validation.go` (Apache-2.0).
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from tests.fakes.kubernetes.refusals import denied

if TYPE_CHECKING:
    from tests.fakes.kubernetes.cluster import SimulatedCluster

MODE = "serving.kserve.io/deploymentMode"
LEGACY = {"RawDeployment": "Standard", "Serverless": "Knative"}
WEBHOOK = "inferenceservice.kserve-webhook-server.validator"
FIXED_REPLICAS = ("workerSpec", "maxReplicas", "scaleTarget", "scaleMetric", "autoScaling")
SPEC = ("spec", "predictor")


def mode_of(service: dict[str, Any]) -> str:
    found = service["metadata"].get("annotations", {}).get(MODE, "")
    return LEGACY.get(found, found)


def defaulted(service: dict[str, Any]) -> dict[str, Any]:
    """What the mutating webhook makes of a service."""
    if mode_of(service):
        annotations = {**service["metadata"]["annotations"], MODE: mode_of(service)}
        return {**service, "metadata": {**service["metadata"], "annotations": annotations}}
    return service


def validate(old: dict[str, Any] | None, new: dict[str, Any]) -> None:
    """Refuse what the validating webhook refuses."""
    spec = new["spec"]
    predictor, canaries = spec.get("predictor", {}), spec.get("canary", [])
    if canaries:
        if mode_of(new) != "Standard":
            raise denied(WEBHOOK, "canary is only supported in Standard deployment mode")
        _canaries(predictor, canaries)
    if old is None:
        return
    before = old["spec"].get("predictor", {})
    renamed = before.get("name") and predictor.get("name") != before.get("name")
    if renamed and _storage(before) == _storage(predictor):
        raise denied(WEBHOOK, "predictor.name change requires a model change (e.g. storageUri)")


def _canaries(predictor: dict[str, Any], canaries: list[dict[str, Any]]) -> None:
    names: set[str] = set()
    total = 0
    for number, canary in enumerate(canaries):
        at, one = f"canary[{number}]", canary["predictor"]
        name = one.get("name", "")
        if not name:
            raise denied(WEBHOOK, f"{at}.predictor.name is required")
        if name in names:
            raise denied(WEBHOOK, f"{at}.predictor.name {name!r} is not unique")
        if name == predictor.get("name"):
            raise denied(WEBHOOK, f"{at}.predictor.name must differ from predictor.name")
        names.add(name)
        total += canary["trafficPercent"]
        if "model" not in one and not one.get("containers"):
            raise denied(WEBHOOK, f"{at}.predictor: exactly one implementation must be specified")
        if wrong := [field for field in FIXED_REPLICAS if field in one]:
            raise denied(WEBHOOK, f"{at}.predictor.{wrong[0]} is not supported on a canary")
        if one.get("minReplicas", 0) > predictor.get("minReplicas", 1):
            raise denied(
                WEBHOOK, f"{at}.predictor.minReplicas must be at most predictor.minReplicas"
            )
    if total > 100:
        raise denied(WEBHOOK, f"sum of canary trafficPercent must be at most 100, got {total}")


def _storage(predictor: dict[str, Any]) -> Any:
    return predictor.get("model", {}).get("storageUri")


def reconcile(cluster: SimulatedCluster) -> None:
    for service in cluster.all("inferenceservices"):
        if (mode_of(service) or cluster.default_mode) == "Standard":
            _standard(cluster, service)
        else:
            _knative(cluster, service)


def _standard(cluster: SimulatedCluster, service: dict[str, Any]) -> None:
    """Deployments, a route with the weights of those that are ready, and the status."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    spec = service["spec"]
    canaries = spec.get("canary", [])
    stable = spec["predictor"].get("name", "")
    _deploy(cluster, service, stable, spec["predictor"])
    statuses, weights = [], []
    for canary in canaries:
        one = canary["predictor"]
        is_ready = one["name"] not in cluster.unready
        _deploy(cluster, service, one["name"], one)
        percent = canary["trafficPercent"]
        statuses.append({"name": one["name"], "ready": is_ready, "trafficPercent": percent})
        if is_ready and percent:
            weights.append((f"{name}-{one['name']}-predictor", percent))
    ready = all(status["ready"] for status in statuses)
    conditions = [_condition("Ready", stable not in cluster.unready, "")]
    if canaries:
        reason = "AllCanariesReady" if ready else "CanariesNotReady"
        conditions.append(_condition("CanaryPredictorReady", ready, reason))
    cluster.change(
        service,
        status={
            "deploymentMode": "Standard",
            "observedGeneration": service["metadata"]["generation"],
            "conditions": conditions,
            "url": f"http://{name}-{namespace}.example.com",
            **({"canaryStatuses": statuses} if canaries else {}),
        },
    )
    if cluster.routes_canary:
        rest = 100 - sum(weight for _, weight in weights)
        stable_name = f"{name}-{stable}-predictor" if stable else f"{name}-predictor"
        _route(cluster, service, [(stable_name, rest), *weights])
    _prune(cluster, service, {stable, *(canary["predictor"]["name"] for canary in canaries)})


def _deploy(
    cluster: SimulatedCluster, service: dict[str, Any], name: str, predictor: dict[str, Any]
) -> None:
    of, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    full = f"{of}-{name}-predictor" if name else f"{of}-predictor"
    old = cluster.find("deployments", namespace, full)
    least = service["spec"]["predictor"].get("minReplicas", 1)
    share = next(
        (
            c["trafficPercent"]
            for c in service["spec"].get("canary", [])
            if c["predictor"] is predictor
        ),
        100,
    )
    replicas = predictor.get("minReplicas", max(math.ceil(least * share / 100), 1))
    spec = {"replicas": replicas, "model": copy.deepcopy(predictor.get("model", {}))}
    metadata = {"name": full, "labels": {"serving.kserve.io/inferenceservice": of}}
    if old is None:
        cluster.put("apps", "deployments", {"metadata": metadata, "spec": spec}, namespace)
    else:
        cluster.change(old, spec=spec)


def _prune(cluster: SimulatedCluster, service: dict[str, Any], names: set[str]) -> None:
    of = service["metadata"]["name"]
    kept = {f"{of}-{name}-predictor" if name else f"{of}-predictor" for name in names}
    for deployment in cluster.all("deployments"):
        labels = deployment["metadata"].get("labels", {})
        ours = labels.get("serving.kserve.io/inferenceservice") == of
        if ours and deployment["metadata"]["name"] not in kept:
            cluster.remove(deployment)


def _route(
    cluster: SimulatedCluster, service: dict[str, Any], weights: list[tuple[str, int]]
) -> None:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    backends = [{"kind": "Service", "name": to, "port": 80, "weight": of} for to, of in weights]
    metadata = {
        "name": name,
        "ownerReferences": [
            {"kind": "InferenceService", "name": name, "uid": service["metadata"]["uid"]}
        ],
    }
    route = {"metadata": metadata, "spec": {"rules": [{"backendRefs": backends}]}}
    old = cluster.find("httproutes", namespace, name)
    if old is None:
        cluster.put("gateway.networking.k8s.io", "httproutes", route, namespace)
    else:
        cluster.change(old, spec=route["spec"])


def _knative(cluster: SimulatedCluster, service: dict[str, Any]) -> None:
    """Revisions and traffic, as `createKnativeService` and `PropagateStatus` have them."""
    name = service["metadata"]["name"]
    predictor = dict(service["spec"]["predictor"])
    percent = predictor.pop("canaryTrafficPercent", None)
    status = copy.deepcopy(service.get("status", {}))
    notes = status.setdefault("annotations", {})
    component = status.setdefault("components", {}).setdefault("predictor", {})
    if notes.get("revision-of") != repr(predictor):
        number = int(notes.get("revisions", "0")) + 1
        notes |= {"revision-of": repr(predictor), "revisions": str(number)}
        component["latestCreatedRevision"] = f"{name}-predictor-{number:05d}"
    latest = component["latestCreatedRevision"]
    if latest not in cluster.unready:
        component["latestReadyRevision"] = latest
        _propagate(component, latest, percent)
    ready = component.get("latestReadyRevision") == latest
    status |= {
        "deploymentMode": "Knative",
        "observedGeneration": service["metadata"]["generation"],
        "conditions": [_condition("Ready", ready, ""), _condition("PredictorReady", ready, "")],
    }
    cluster.change(service, status=status)


def _propagate(component: dict[str, Any], latest: str, percent: int | None) -> None:
    rolled_out = component.get("latestRolledoutRevision")
    if rolled_out == latest and percent is not None and percent < 100:
        rolled_out = component.get("previousRolledoutRevision", rolled_out)
        component["latestRolledoutRevision"] = rolled_out
    whole = percent is None or percent == 100 or rolled_out is None
    share = 100 if whole else percent
    traffic = [
        {"revisionName": latest, "latestRevision": True, "percent": share}
        | ({} if whole else {"tag": "latest"})
    ]
    if not whole:
        traffic.append({"revisionName": rolled_out, "latestRevision": False, "percent": 100 - percent,
                        "tag": "prev"})  # fmt: skip
    component["traffic"] = traffic
    if whole and rolled_out != latest:
        if rolled_out:
            component["previousRolledoutRevision"] = rolled_out
        component["latestRolledoutRevision"] = latest


def _condition(kind: str, is_true: bool, reason: str) -> dict[str, Any]:
    found = {"type": kind, "status": "True" if is_true else "False"}
    return found | ({"reason": reason} if reason else {})
