"""The manifests in deploy/kubernetes: valid as they are written, and the permissions suffice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.clusters.connection import Cluster
from services.clusters.kinds import INFERENCE_POOL, INFERENCE_SERVICE, LLM_SERVICE, MODEL_REWRITE
from services.clusters.schema import Schema
from services.rollouts.backends.kserve_knative import KServeKnative
from services.rollouts.backends.kserve_standard import KServeStandard
from services.rollouts.backends.llmd import LlmdRewrite
from tests.fakes.kubernetes import SimulatedApiServer, SimulatedCluster, crds
from tests.fakes.kubernetes.deployed import documents, permissions
from tests.fakes.kubernetes.samples import pool
from tests.services.rollouts.backends.scenes import plan

KINDS = {one.kind: one for one in (INFERENCE_SERVICE, LLM_SERVICE, MODEL_REWRITE)}
CUSTOM = ("inferenceservices", "inferencemodelrewrites", "llminferenceservices")
UNCHECKED = {
    # No definition of these is at hand; they are written after their documentation.
    "ServingRuntime", "ResourceFlavor", "ClusterQueue", "LocalQueue",
    # Built in.
    "PersistentVolumeClaim", "ServiceAccount", "Role", "RoleBinding", "ClusterRole",
    "ClusterRoleBinding",
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[SimulatedApiServer]:
    with SimulatedApiServer(SimulatedCluster(custom=CUSTOM)) as found:
        yield found


@pytest.fixture
def cluster(server: SimulatedApiServer, tmp_path: Path) -> Cluster:
    return Cluster(str(server.kubeconfig(tmp_path)))


def apply(cluster: Cluster, *names: str) -> None:
    """Apply the documents of some files that the simulated cluster has definitions of."""
    for name, document in documents():
        if name in names and document["kind"] in KINDS:
            kind = KINDS[document["kind"]]
            cluster.create(kind, document["metadata"]["namespace"], document)


def test_every_document_is_either_checked_or_named_as_unchecked() -> None:
    kinds = {document["kind"] for _, document in documents()}
    assert kinds <= UNCHECKED | set(KINDS)
    assert set(KINDS) <= kinds


@pytest.mark.parametrize(
    ("name", "document"),
    [pytest.param(*one, id=f"{one[0]}-{one[1]['kind']}") for one in documents()
     if one[1]["kind"] in KINDS],
)  # fmt: skip
def test_a_manifest_is_valid_under_its_real_definition(name: str, document: dict[str, Any]) -> None:
    kind = KINDS[document["kind"]]
    assert document["apiVersion"] == kind.api_version, name
    versions = crds.load(kind.plural)["spec"]["versions"]
    [version] = [one for one in versions if one["name"] == kind.version]
    assert Schema(version["schema"]["openAPIV3Schema"]).problems(document) == []


def test_the_server_takes_them_strictly_and_every_backend_finds_them_usable(
    server: SimulatedApiServer, cluster: Cluster
) -> None:
    apply(cluster, "kserve-standard.yaml", "kserve-knative.yaml", "llmd.yaml")
    cluster.create(INFERENCE_POOL, "prod", pool("my-llm-inference-pool"))
    server.cluster.settle()
    uri = {"storage_uri": "pvc://adapters/{adapter}"}
    probes = [
        KServeStandard(cluster).probe({"namespace": "prod", "name": "support-llm", **uri}),
        KServeKnative(cluster).probe(
            {"namespace": "prod", "name": "support-llm-serverless", **uri}
        ),
        LlmdRewrite(cluster).probe({"namespace": "prod", "name": "support"}),
    ]
    assert [one.refusals for one in probes] == [(), (), ()]


def test_the_seeds_options_are_in_them() -> None:
    """Several adapters, one to ten pods, a GPU each."""
    found = {document["kind"]: document.get("spec", {}) for _, document in documents()}
    predictor = found["InferenceService"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 10)
    assert predictor["model"]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "--enable-lora" in predictor["model"]["args"]
    service = found["LLMInferenceService"]
    assert (service["scaling"]["minReplicas"], service["scaling"]["maxReplicas"]) == (1, 10)
    assert len(service["model"]["lora"]["adapters"]) == 2


def test_the_role_for_rollouts_suffices_and_grants_nothing_unused(
    server: SimulatedApiServer, cluster: Cluster
) -> None:
    apply(cluster, "kserve-standard.yaml", "kserve-knative.yaml", "llmd.yaml")
    cluster.create(INFERENCE_POOL, "prod", pool("my-llm-inference-pool"))
    server.cluster.settle()
    granted = permissions("param-console", "param-console-rollouts")
    server.cluster.allowed = granted
    server.cluster.requests.clear()
    uri = {"storage_uri": "pvc://adapters/{adapter}"}
    for backend, target in (
        (KServeStandard(cluster), {"name": "support-llm", **uri}),
        (KServeKnative(cluster), {"name": "support-llm-serverless", **uri}),
        (LlmdRewrite(cluster), {"name": "support", "llm_service": "my-llm"}),
    ):
        where = {"namespace": "prod", **target}
        assert backend.probe(where).refusals == ()
        previous = backend.capture(plan(0, target=where))
        backend.apply(plan(10, target=where))
        assert backend.effective(plan(10, target=where)).percent == 10
        backend.restore(plan(10, target=where), previous)
    used = {(verb, plural) for verb, plural, _ in server.cluster.requests}
    assert granted - used == {("get", "clustertrainingruntimes")}


def test_the_role_for_training_is_what_runs_ask_for() -> None:
    """`test_cluster` in tests/services/training runs under it."""
    assert permissions("param-console-training") == {
        ("get", "trainjobs"), ("create", "trainjobs"), ("delete", "trainjobs"),
        ("get", "jobs"), ("create", "jobs"), ("delete", "jobs"),
        ("list", "pods"), ("delete", "pods"), ("get", "pods/log"),
        ("get", "localqueues"), ("list", "workloads"),
    }  # fmt: skip
