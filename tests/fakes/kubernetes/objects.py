"""The kinds that the server knows from the start, faults, and what belongs to single objects."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Key = tuple[str, str, str, str]
"""Group, plural, namespace, name."""
USER = "system:serviceaccount:param:console"
KEPT_EVENTS = 1000


@dataclass(frozen=True)
class Resource:
    """One kind that the server knows, in one version."""

    group: str
    version: str
    plural: str
    kind: str
    schema: dict[str, Any] | None = None
    namespaced: bool = True

    @property
    def full_name(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass
class Fault:
    """What goes wrong at the next requests that fit.

    Attributes:
        verb: `get`, `list`, `create`, `update`, `patch` or `delete`; empty for each.
        plural: Kind that is meant; empty for each.
        status: What is answered; 0 cuts the connection instead.
        after: Whether the request is carried out first, so that only its answer is lost.
        times: How often.
        skip: How many fitting requests are let pass first.
    """

    status: int
    verb: str = ""
    plural: str = ""
    after: bool = False
    times: int = 1
    skip: int = 0
    message: str = "the simulated cluster was told to fail"

    def fits(self, verb: str, plural: str) -> bool:
        return self.verb in {"", verb} and self.plural in {"", plural}


BUILT_IN = (
    Resource("", "v1", "pods", "Pod"),
    Resource("", "v1", "services", "Service"),
    Resource("", "v1", "events", "Event"),
    Resource("", "v1", "namespaces", "Namespace", namespaced=False),
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("batch", "v1", "jobs", "Job"),
    Resource(
        "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
        namespaced=False,
    ),
    Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute"),
    Resource("inference.networking.k8s.io", "v1", "inferencepools", "InferencePool"),
    Resource("kueue.x-k8s.io", "v1beta1", "workloads", "Workload"),
    Resource("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue"),
    Resource(
        "trainer.kubeflow.org", "v1alpha1", "clustertrainingruntimes", "ClusterTrainingRuntime",
        namespaced=False,
    ),
)  # fmt: skip
CUSTOM = ("inferenceservices", "inferencemodelrewrites", "trainjobs")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def body_of(thing: dict[str, Any]) -> dict[str, Any]:
    """What makes two versions of an object different."""
    loose = {"resourceVersion", "managedFields", "generation", "uid", "creationTimestamp"}
    return {
        **{name: value for name, value in thing.items() if name != "apiVersion"},
        "metadata": {k: v for k, v in thing.get("metadata", {}).items() if k not in loose},
    }


def with_identity(new: dict[str, Any], old: dict[str, Any] | None, version: int) -> dict[str, Any]:
    metadata = dict(new.get("metadata", {}))
    if old is None:
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
    else:
        metadata |= fixed(old["metadata"])
        changed = specified(new) != specified(old)
        metadata["generation"] = old["metadata"].get("generation", 1) + changed
    # A definition is megabytes, and nobody changes it in place.
    kept = new if new.get("kind") == "CustomResourceDefinition" else copy.deepcopy(new)
    return {**kept, "metadata": {**metadata, "resourceVersion": str(version)}}


def specified(thing: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in thing.items() if k not in {"metadata", "status", "apiVersion"}}


def fixed(metadata: dict[str, Any]) -> dict[str, Any]:
    kept = ("uid", "creationTimestamp", "generation", "name", "namespace", "managedFields")
    return {name: metadata[name] for name in kept if name in metadata}


def is_selected(thing: dict[str, Any], selector: str) -> bool:
    labels = thing["metadata"].get("labels", {})
    return all(
        labels.get(term.partition("=")[0].strip()) == term.partition("=")[2].strip()
        for term in selector.split(",")
        if term
    )
