"""KServe in Knative mode: one patch to begin, three seen ones to go back."""

from __future__ import annotations

from typing import Any

import pytest

from services.clusters.connection import Cluster
from services.clusters.kinds import INFERENCE_SERVICE
from services.clusters.refusals import ClusterUnavailable, ObjectChanged
from services.errors import Unavailable
from services.rollouts.backends import Previous
from services.rollouts.backends.kserve_knative import KServeKnative
from tests.fakes.kubernetes import Fault, SimulatedApiServer
from tests.fakes.kubernetes.fixtures import AnyCluster
from tests.fakes.kubernetes.samples import MODE, V1, V2, put_service, service
from tests.services.rollouts.backends.scenes import TARGET, a_whole_rollout, plan

BAD = "support-predictor-00002"


@pytest.fixture
def backend(cluster: Cluster) -> KServeKnative:
    return KServeKnative(cluster)


def predictor(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get(INFERENCE_SERVICE, "prod", "support")["spec"]["predictor"]
    return found


def share_of(status: dict[str, Any], revision: str) -> int:
    traffic = status.get("components", {}).get("predictor", {}).get("traffic", [])
    return sum(one["percent"] for one in traffic if one["revisionName"] == revision)


def rolled_back(
    backend: KServeKnative, server: SimulatedApiServer, previous: Previous, **last: Any
) -> list[int]:
    """Roll back while the controllers lag; the bad revision's shares from then on."""
    server.cluster.lag = 3
    start = server.cluster.version
    for _ in range(40):
        try:
            backend.restore(plan(50, **last), previous)
            break
        except ClusterUnavailable:
            continue
    else:
        pytest.fail("the rollback never came to its end")
    server.cluster.settle()
    return [
        share_of(thing["status"], BAD)
        for version, _, key, thing in server.cluster.events
        if key[1] == "inferenceservices" and version > start and "status" in thing
    ]


def test_a_whole_rollout_and_its_rollback(any_cluster: AnyCluster) -> None:
    name = f"support-{any_cluster.suffix}"
    first, second = any_cluster.storage_uris
    connection = any_cluster.cluster
    body = service(name, "Knative", uri=first)
    connection.create(INFERENCE_SERVICE, any_cluster.namespace, body)
    target = {"namespace": any_cluster.namespace, "name": name, "storage_uri": second}
    backend = KServeKnative(connection)
    try:
        any_cluster.until(lambda: backend.probe(target), lambda found: found.is_usable)
        any_cluster.until(lambda: backend.capture(plan(0, target=target)), _has_a_revision)
        a_whole_rollout(backend, any_cluster, target)
    finally:
        connection.delete(INFERENCE_SERVICE, any_cluster.namespace, name)


def _has_a_revision(found: Previous) -> bool:
    return bool(found.state["revision"])


def test_weights_and_percentage_change_in_one_patch(
    backend: KServeKnative, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster, mode="Knative")
    start = simulated.cluster.version
    backend.apply(plan(10))
    specs = [
        thing["spec"]["predictor"]
        for version, _, key, thing in simulated.cluster.events
        if key[1] == "inferenceservices" and version > start
    ]
    for one in specs:
        assert (one["model"]["storageUri"], one.get("canaryTrafficPercent")) == (V2, 10)
    shares = [
        share_of(thing["status"], BAD)
        for version, _, key, thing in simulated.cluster.events
        if key[1] == "inferenceservices" and version > start and "status" in thing
    ]
    assert set(shares) == {0, 10}


def test_in_standard_mode_nothing_is_ever_sent(
    backend: KServeKnative, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster, mode="Standard")
    [refusal] = backend.probe(TARGET).refusals
    assert "ignores canaryTrafficPercent without a word" in refusal
    assert "use kserve-standard" in refusal
    with pytest.raises(ObjectChanged, match="expected Knative mode, found Standard"):
        backend.apply(plan(10))
    assert not any(verb == "patch" for verb, _, _ in simulated.cluster.requests)


def test_a_cluster_whose_default_is_knative_needs_no_annotation(
    backend: KServeKnative, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    simulated.cluster.default_mode = "Knative"
    made = put_service(cluster, mode="")
    assert MODE not in made["metadata"].get("annotations", {})
    assert backend.probe(TARGET).is_usable


def test_a_candidate_that_does_not_start_gets_nothing(
    backend: KServeKnative, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster, mode="Knative")
    simulated.cluster.unready.add(BAD)
    backend.apply(plan(10))
    found = backend.effective(plan(10))
    assert (found.percent, found.is_ready, found.is_settled) == (0, False, False)


@pytest.mark.parametrize("last", [{}, {"promote": True}], ids=["open", "promoted"])
def test_a_rollback_never_gives_the_bad_revision_more_again(
    backend: KServeKnative, cluster: Cluster, simulated: SimulatedApiServer, last: dict[str, Any]
) -> None:
    """kserve#2130: restored in one patch, the newest ready revision, the bad one, got it all."""
    put_service(cluster, mode="Knative")
    before = predictor(cluster)
    previous = backend.capture(plan(0))
    backend.apply(plan(50))
    if last:
        backend.apply(plan(100, promote=True))
    shares = rolled_back(backend, simulated, previous, **last)
    first_zero = shares.index(0)
    assert all(share in {50, 100} for share in shares[:first_zero])
    assert set(shares[first_zero:]) == {0}
    assert predictor(cluster) == before
    found = cluster.get(INFERENCE_SERVICE, "prod", "support")["status"]
    assert share_of(found, "support-predictor-00003") == 100


def test_while_the_restored_model_does_not_start_the_stable_one_serves(
    backend: KServeKnative, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster, mode="Knative")
    previous = backend.capture(plan(0))
    backend.apply(plan(50))
    simulated.cluster.unready.add("support-predictor-00003")
    for _ in range(3):
        with pytest.raises(ClusterUnavailable, match="waiting until the restored model's"):
            backend.restore(plan(50), previous)
    status = cluster.get(INFERENCE_SERVICE, "prod", "support")["status"]
    assert share_of(status, "support-predictor-00001") == 100
    assert predictor(cluster)["model"]["storageUri"] == V1
    simulated.cluster.unready.clear()
    simulated.cluster.settle()
    backend.restore(plan(50), previous)
    assert "canaryTrafficPercent" not in predictor(cluster)


@pytest.mark.parametrize("number", range(6))
def test_a_rollback_goes_on_wherever_it_was_cut_off(
    backend: KServeKnative, cluster: Cluster, simulated: SimulatedApiServer, number: int
) -> None:
    put_service(cluster, mode="Knative")
    before = predictor(cluster)
    previous = backend.capture(plan(0))
    backend.apply(plan(50))
    simulated.cluster.faults.append(Fault(0, "patch", after=number % 2 == 1, skip=number))
    with pytest.raises(Unavailable):
        backend.restore(plan(50), previous)
    KServeKnative(cluster).restore(plan(50), previous)
    assert predictor(cluster) == before


def test_a_model_of_somebody_else_is_left_alone(
    backend: KServeKnative, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster, mode="Knative")
    previous = backend.capture(plan(0))
    backend.apply(plan(10))
    stored = simulated.cluster.find("inferenceservices", "prod", "support")
    assert stored is not None
    model = {**stored["spec"]["predictor"]["model"], "storageUri": "pvc://models/theirs"}
    theirs = {"predictor": {**stored["spec"]["predictor"], "model": model}}
    simulated.cluster.change(stored, spec=theirs)
    with pytest.raises(ObjectChanged, match="somebody else changed its model"):
        backend.restore(plan(10), previous)


def test_an_unfinished_change_is_named_before_a_rollout(
    backend: KServeKnative, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster, mode="Knative")
    backend.apply(plan(10))
    assert "has a canary already (10 %)" in "; ".join(backend.probe(TARGET).refusals)
    simulated.cluster.unready.add(BAD)
    put_service(cluster, name="other", mode="Knative")
    simulated.cluster.unready.add("other-predictor-00002")
    other = {**TARGET, "name": "other"}
    backend.apply(plan(10, target=other))
    assert "its newest revision is not ready" in "; ".join(backend.probe(other).refusals)
