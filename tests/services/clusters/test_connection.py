"""One cluster: what goes wrong is told in one sentence, and every write is strict."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from services.clusters.connection import IN_CLUSTER, Cluster
from services.clusters.kinds import (
    INFERENCE_SERVICE,
    JOB,
    LLM_SERVICE,
    MODEL_REWRITE,
    TRAIN_JOB,
    Kind,
)
from services.clusters.refusals import (
    MAX_WORDS,
    ClusterForbids,
    ClusterRefused,
    ClusterUnavailable,
    ObjectChanged,
    server_words,
)
from services.errors import NotFound, WrongConfiguration
from tests.fakes.kubernetes import Fault, SimulatedApiServer, SimulatedCluster, crds
from tests.fakes.kubernetes.fixtures import AnyCluster
from tests.fakes.kubernetes.samples import put_service, service


def test_a_cluster_answers_with_its_version(any_cluster: AnyCluster) -> None:
    assert any_cluster.cluster.version().startswith("v1.")


def test_nothing_is_connected_to_before_it_is_asked(tmp_path: Path) -> None:
    cluster = Cluster(str(tmp_path / "not-there"))
    with pytest.raises(WrongConfiguration, match="PARAM_KUBECONFIG: expected a file, found none"):
        cluster.version()


@pytest.mark.parametrize("text", ["", "{", "kind: Config\napiVersion: v1\n"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(WrongConfiguration, match="PARAM_KUBECONFIG"):
        Cluster(str(path)).version()


def test_a_context_that_is_not_there_is_refused(
    simulated: SimulatedApiServer, tmp_path: Path
) -> None:
    path = simulated.kubeconfig(tmp_path)
    with pytest.raises(WrongConfiguration, match="staging"):
        Cluster(str(path), context="staging").version()


def test_outside_of_a_pod_there_is_no_account_of_a_pod() -> None:
    with pytest.raises(WrongConfiguration):
        Cluster(IN_CLUSTER).version()


def test_a_server_that_nobody_vouches_for_is_not_believed(
    simulated: SimulatedApiServer, tmp_path: Path
) -> None:
    path = simulated.kubeconfig(tmp_path, trusted=False)
    with pytest.raises(ClusterUnavailable, match="(?i)certificate"):
        Cluster(str(path)).version()


def test_wrong_credentials_are_told_without_showing_them(
    simulated: SimulatedApiServer, tmp_path: Path
) -> None:
    path = simulated.kubeconfig(tmp_path, token="a-secret-of-somebody")
    cluster = Cluster(str(path))
    with pytest.raises(ClusterForbids, match="does not accept the console's credentials") as error:
        cluster.get(INFERENCE_SERVICE, "prod", "support")
    assert "a-secret-of-somebody" not in f"{error.value} {cluster!r}"


def test_a_server_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with SimulatedApiServer(SimulatedCluster(custom=())) as server:
        cluster = Cluster(str(server.kubeconfig(tmp_path)))
        cluster.version()
    with pytest.raises(ClusterUnavailable, match="ask for the version: expected an answer"):
        cluster.version()


def test_a_connection_that_was_cut_once_is_tried_again_for_reading(
    cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.faults.append(Fault(0, "get"))
    assert cluster.get(INFERENCE_SERVICE, "prod", "support")["kind"] == "InferenceService"


def test_a_write_is_never_sent_twice_by_itself(
    cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    simulated.cluster.faults.append(Fault(0, "create", after=True))
    with pytest.raises(ClusterUnavailable):
        cluster.create(INFERENCE_SERVICE, "prod", service())
    creates = [verb for verb, _, _ in simulated.cluster.requests if verb == "create"]
    assert creates == ["create"]


def test_writes_are_strict(cluster: Cluster) -> None:
    body = service() | {"spec": {**service()["spec"], "canaryPredictor": {}}}
    with pytest.raises(ClusterRefused, match='unknown field "spec.canaryPredictor"'):
        cluster.create(INFERENCE_SERVICE, "prod", body)


def test_a_name_that_is_taken_is_refused_not_a_conflict_of_two_writers(cluster: Cluster) -> None:
    put_service(cluster)
    with pytest.raises(ClusterRefused, match="already exists") as error:
        cluster.create(INFERENCE_SERVICE, "prod", service())
    assert not isinstance(error.value, ObjectChanged)


def test_what_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(NotFound):
        cluster.get(INFERENCE_SERVICE, "prod", "nobody")
    assert cluster.find(INFERENCE_SERVICE, "prod", "nobody") is None
    assert cluster.find(LLM_SERVICE, "prod", "nobody") is None
    assert cluster.list(LLM_SERVICE, "prod") == []
    assert not cluster.delete(INFERENCE_SERVICE, "prod", "nobody")


def test_names_cannot_lead_to_other_addresses(
    cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    assert cluster.find(INFERENCE_SERVICE, "prod", "x/../support") is None
    assert cluster.find(INFERENCE_SERVICE, "prod", "support?dryRun=All") is None
    assert simulated.cluster.find("inferenceservices", "prod", "support") is not None


def test_lists_are_of_one_namespace_and_bear_all_labels(cluster: Cluster) -> None:
    for number, space in enumerate(("prod", "prod", "default")):
        body = service(f"s{number}")
        body["metadata"]["labels"] = {"team": "a", "number": str(number)}
        cluster.create(INFERENCE_SERVICE, space, body)

    def names(space: str, **labels: str) -> list[str]:
        found = cluster.list(INFERENCE_SERVICE, space, labels=labels)
        return [one["metadata"]["name"] for one in found]

    assert names("prod") == ["s0", "s1"]
    assert names("prod", team="a", number="1") == ["s1"]
    assert names("default", team="b") == []


def test_a_schema_is_known_also_to_an_account_that_may_not_read_definitions(
    cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    simulated.cluster.forbidden.add(("get", "customresourcedefinitions"))
    schema = cluster.schema(INFERENCE_SERVICE)
    assert schema is not None
    assert schema.is_list("spec.canary")
    assert cluster.schema(LLM_SERVICE) is None


def test_a_kind_that_is_installed_later_is_found_then(tmp_path: Path) -> None:
    with SimulatedApiServer(SimulatedCluster(custom=())) as server:
        cluster = Cluster(str(server.kubeconfig(tmp_path)))
        assert cluster.schema(MODEL_REWRITE) is None
        server.cluster.install(crds.load("inferencemodelrewrites"))
        assert cluster.schema(MODEL_REWRITE) is not None


def test_another_version_of_a_kind_is_not_that_kind(cluster: Cluster) -> None:
    other = Kind("serving.kserve.io", "v1alpha9", "inferenceservices", "InferenceService")
    assert cluster.schema(other) is None


def test_what_the_account_may_do_is_asked_of_the_server(
    cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    simulated.cluster.forbidden.add(("create", "jobs"))
    assert not cluster.may("create", JOB, "training")
    assert cluster.may("create", TRAIN_JOB, "training")


def test_the_words_of_a_server_are_cut_and_never_repeat_an_object() -> None:
    class Answer:
        reason = "Invalid"
        body = '{"message": " \\"\\" is invalid: patch: Invalid value: \\"{\\\\\\"token\\\\\\": \\\\\\"hf_x\\\\\\"}\\": strict decoding error: unknown field"}'

    words = server_words(Answer())
    assert "hf_x" not in words
    assert words.endswith("strict decoding error: unknown field")
    Answer.body = '{"message": "' + "x" * 5000 + '"}'
    assert len(server_words(Answer())) < MAX_WORDS + 10
    Answer.body = "<html>502</html>"
    assert server_words(Answer()) == "Invalid"
    Answer.body = "[]"
    assert server_words(Answer()) == "Invalid"


def test_threads_may_share_a_connection(cluster: Cluster) -> None:
    put_service(cluster)
    found: list[str] = []

    def read() -> None:
        for _ in range(5):
            found.append(cluster.get(INFERENCE_SERVICE, "prod", "support")["metadata"]["name"])

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["support"] * 40
