"""What both KServe backends read of an InferenceService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.clusters.connection import Cluster
from services.clusters.kinds import INFERENCE_SERVICE
from services.clusters.refusals import ObjectChanged
from services.rollouts.backends.targets import Target

MODE = "serving.kserve.io/deploymentMode"
_LEGACY = {"RawDeployment": "Standard", "Serverless": "Knative"}
"""Names that KServe before 0.16 gave the modes; its webhook rewrites them."""


def mode_of(service: Mapping[str, Any]) -> str:
    """`Standard`, `Knative` or what else the cluster says; empty where it says nothing."""
    found = str(service.get("status", {}).get("deploymentMode") or "")
    return _LEGACY.get(found, found) or annotated_mode(service)


def annotated_mode(service: Mapping[str, Any]) -> str:
    """The mode that the service itself asks for; empty where it leaves it to the cluster."""
    found = str(service["metadata"].get("annotations", {}).get(MODE, ""))
    return _LEGACY.get(found, found)


def holds(status: Mapping[str, Any], condition: str) -> bool:
    """Whether a condition is true."""
    found = [one for one in status.get("conditions", []) if one.get("type") == condition]
    return bool(found) and found[0].get("status") == "True"


def is_seen(service: Mapping[str, Any]) -> bool:
    """Whether the status speaks of the present specification."""
    observed = service.get("status", {}).get("observedGeneration")
    return bool(observed == service["metadata"].get("generation"))


def words(service: Mapping[str, Any]) -> str:
    """The service as people write it."""
    return f"{service['metadata'].get('namespace', '')}/{service['metadata']['name']}"


def about_permission(cluster: Cluster, where: Target) -> list[str]:
    """A refusal where the console's account may not change services there."""
    if cluster.may("patch", INFERENCE_SERVICE, where.namespace):
        return []
    return [f"the console's account may not patch inferenceservices in {where.namespace}"]


def about_model(service: Mapping[str, Any], where: Target) -> list[str]:
    """Refusals where there is no model to vary, or the candidate's is the stable one."""
    predictor = service["spec"].get("predictor", {})
    if "model" not in predictor:
        return [f"{where.words}: expected spec.predictor.model, found another form of predictor"]
    if predictor["model"].get("storageUri") == where.storage_uri:
        return [
            f"storage_uri is the stable variant's own ({where.storage_uri}): "
            "the candidate would be the same, or could never be promoted"
        ]
    return []


def check_same(service: Mapping[str, Any], uid: str) -> None:
    """Refuse a service that was deleted and made anew.

    Raises:
        ObjectChanged: It was.
    """
    if service["metadata"]["uid"] != uid:
        raise ObjectChanged(
            f"InferenceService {words(service)}: it was made anew since the rollout began; "
            "look at it, then end the rollout by hand"
        )
