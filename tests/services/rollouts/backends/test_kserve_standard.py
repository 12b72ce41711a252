"""KServe in Standard mode: what is asked for is in effect, or it is said why not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.clusters.connection import Cluster
from services.clusters.kinds import INFERENCE_SERVICE
from services.clusters.refusals import ClusterForbids, ClusterRefused, ObjectChanged
from services.errors import NotFound, Unavailable
from services.rollouts.backends import Capabilities
from services.rollouts.backends.kserve_standard import KServeStandard
from tests.fakes.kubernetes import Fault, SimulatedApiServer, SimulatedCluster, crds
from tests.fakes.kubernetes.fixtures import AnyCluster
from tests.fakes.kubernetes.samples import V1, V2, put_service, service
from tests.services.rollouts.backends.scenes import TARGET, VARIANT, a_whole_rollout, plan


@pytest.fixture
def backend(cluster: Cluster) -> KServeStandard:
    return KServeStandard(cluster)


def spec(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get(INFERENCE_SERVICE, "prod", "support")["spec"]
    return found


def test_a_whole_rollout_and_its_rollback(any_cluster: AnyCluster) -> None:
    name = f"support-{any_cluster.suffix}"
    first, second = any_cluster.storage_uris
    connection = any_cluster.cluster
    connection.create(INFERENCE_SERVICE, any_cluster.namespace, service(name, uri=first))
    target = {"namespace": any_cluster.namespace, "name": name, "storage_uri": second}
    backend = KServeStandard(connection)
    try:
        any_cluster.until(lambda: backend.probe(target), lambda found: found.is_usable)
        a_whole_rollout(backend, any_cluster, target)
    finally:
        connection.delete(INFERENCE_SERVICE, any_cluster.namespace, name)


def test_the_candidate_is_the_stable_model_with_other_weights(
    backend: KServeStandard, cluster: Cluster
) -> None:
    put_service(cluster)
    backend.apply(plan(5))
    stable, [canary] = spec(cluster)["predictor"], spec(cluster)["canary"]
    assert canary["trafficPercent"] == 5
    assert canary["predictor"]["name"] == VARIANT
    expected = {**stable["model"], "storageUri": V2, "name": "kserve-container"}
    assert canary["predictor"]["model"] == expected


def test_every_patch_is_rehearsed_and_strict_and_bears_our_name(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.requests.clear()
    backend.apply(plan(5))
    patches = [query for verb, _, query in simulated.cluster.requests if verb == "patch"]
    assert [one.get("dryRun") for one in patches] == ["All", None]
    assert all(one["fieldValidation"] == "Strict" for one in patches)
    assert all(one["fieldManager"] == "param-console" for one in patches)


def test_the_evidence_tells_what_was_done_and_no_secret(
    backend: KServeStandard, cluster: Cluster
) -> None:
    put_service(cluster)
    evidence = backend.apply(plan(5)).evidence
    text = json.dumps(evidence, allow_nan=False)
    assert "hf_not-a-real-token" not in text
    assert "HF_TOKEN" in text
    assert evidence["patch"][0]["op"] == evidence["patch"][1]["op"] == "test"
    assert evidence["spec_sha256_before"] != evidence["spec_sha256_after"]
    assert evidence["generation"] == "2"


def test_a_promotion_keeps_the_replicas_and_restarts_no_pod(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    backend.apply(plan(50))
    before = simulated.cluster.find("deployments", "prod", f"support-{VARIANT}-predictor")
    assert before is not None
    backend.apply(plan(100, promote=True))
    after = simulated.cluster.find("deployments", "prod", f"support-{VARIANT}-predictor")
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert spec(cluster)["predictor"]["minReplicas"] == 2
    assert "canary" not in spec(cluster)


def test_a_canary_that_is_not_ready_gets_nothing_whatever_its_status_says(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.unready.add(VARIANT)
    backend.apply(plan(25))
    found = backend.effective(plan(25))
    assert (found.percent, found.is_ready, found.is_settled) == (0, False, False)
    simulated.cluster.unready.clear()
    simulated.cluster.settle()
    found = backend.effective(plan(25))
    assert (found.percent, found.is_ready, found.is_settled) == (25, True, True)
    assert found.source == "HTTPRoute prod/support"


def test_a_controller_that_has_not_looked_yet_is_not_settled(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    backend.apply(plan(5))
    simulated.cluster.lag = None
    backend.apply(plan(25))
    found = backend.effective(plan(25))
    assert (found.percent, found.is_settled) == (5, False)


def test_a_version_without_weights_in_its_routes_is_never_settled(
    tmp_path: Path,
) -> None:
    with SimulatedApiServer(SimulatedCluster(routes_canary=False)) as server:
        connection = Cluster(str(server.kubeconfig(tmp_path)))
        put_service(connection)
        [refusal] = KServeStandard(connection).probe(TARGET).refusals
    assert "no traffic would be split" in refusal


def refusals(found: Capabilities) -> str:
    return "; ".join(found.refusals)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"mode": "Knative"}, "is in Knative mode: .* use kserve-knative"),
        ({"mode": ""}, "by the cluster's default"),
        ({"uri": V2}, "the candidate would be the same"),
    ],
)
def test_the_preflight_names_what_would_be_a_no_op(
    backend: KServeStandard, cluster: Cluster, parts: dict[str, Any], words: str
) -> None:
    put_service(cluster, **parts)
    found = backend.probe(TARGET)
    assert not found.is_usable

    assert re.search(words, refusals(found))


def test_the_preflight_passes_where_all_is_well(backend: KServeStandard, cluster: Cluster) -> None:
    put_service(cluster)
    found = backend.probe(TARGET)
    assert found.refusals == ()
    assert (found.backend, found.target, found.is_sticky) == (
        "kserve-standard",
        "prod/support",
        False,
    )


def test_the_preflight_names_a_service_that_is_not_there(backend: KServeStandard) -> None:
    assert refusals(backend.probe(TARGET)) == "there is no InferenceService prod/support"


def test_the_preflight_names_a_missing_permission(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.forbidden.add(("patch", "inferenceservices"))
    assert "may not patch inferenceservices in prod" in refusals(backend.probe(TARGET))
    with pytest.raises(ClusterForbids, match="may not"):
        backend.apply(plan(5))


def test_the_preflight_names_a_canary_of_somebody_else(
    backend: KServeStandard, cluster: Cluster
) -> None:
    put_service(cluster)
    backend.apply(plan(5))
    assert f"has a canary already ({VARIANT})" in refusals(backend.probe(TARGET))


def changed(definition: dict[str, Any], tmp_path: Path) -> tuple[SimulatedApiServer, Cluster]:
    server = SimulatedApiServer(SimulatedCluster(definitions={"inferenceservices": definition}))
    server.__enter__()
    connection = Cluster(str(server.kubeconfig(tmp_path)))
    put_service(connection)
    return server, connection


def test_an_older_version_would_drop_the_patch_in_silence(tmp_path: Path) -> None:
    older = crds.without(crds.load("inferenceservices"), "spec.canary", "status.canaryStatuses")
    server, connection = changed(older, tmp_path)
    backend = KServeStandard(connection)
    try:
        assert "KServe before 0.20" in refusals(backend.probe(TARGET))
        with pytest.raises(ClusterRefused, match="spec.canary: this cluster does not know"):
            backend.apply(plan(5))
        assert not any(verb == "patch" for verb, _, _ in server.cluster.requests)
    finally:
        server.__exit__()


def test_a_minimal_definition_is_a_note_and_only_the_status_is_believed(tmp_path: Path) -> None:
    server, connection = changed(crds.minimal(crds.load("inferenceservices")), tmp_path)
    backend = KServeStandard(connection)
    try:
        found = backend.probe(TARGET)
        assert found.is_usable
        assert any("a minimal definition" in note for note in found.notes)
        backend.apply(plan(5))
        assert backend.effective(plan(5)).percent == 5
    finally:
        server.__exit__()


def test_without_the_operator_the_preflight_says_so(tmp_path: Path) -> None:
    with SimulatedApiServer(SimulatedCluster(custom=())) as server:
        backend = KServeStandard(Cluster(str(server.kubeconfig(tmp_path))))
        assert "is not installed" in refusals(backend.probe(TARGET))
        with pytest.raises(NotFound):
            backend.capture(plan(0))


def test_without_the_right_to_read_routes_the_status_is_believed_and_that_is_said(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.forbidden.add(("get", "httproutes"))
    assert any("status.canaryStatuses alone" in note for note in backend.probe(TARGET).notes)
    backend.apply(plan(5))
    found = backend.effective(plan(5))
    assert (found.percent, found.source) == (5, "status.canaryStatuses of prod/support")


def test_a_lost_answer_is_made_up_for_by_the_next_call(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.faults.append(Fault(0, "patch", after=True, skip=1))
    with pytest.raises(Unavailable):
        backend.apply(plan(5))
    assert spec(cluster)["canary"][0]["trafficPercent"] == 5
    assert not backend.apply(plan(5)).changed


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_a_cluster_that_cannot_now_leaves_everything_as_it_was(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer, status: int
) -> None:
    put_service(cluster)
    before = spec(cluster)
    simulated.cluster.faults.append(Fault(status, "patch"))
    with pytest.raises(Unavailable):
        backend.apply(plan(5))
    assert spec(cluster) == before


def test_a_dead_webhook_is_unavailable_not_refused(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.webhook_down = True
    with pytest.raises(Unavailable, match="failed calling webhook"):
        backend.apply(plan(5))


def test_a_canary_of_somebody_else_is_left_alone(
    backend: KServeStandard, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    previous = backend.capture(plan(0))
    backend.apply(plan(5))
    stored = simulated.cluster.find("inferenceservices", "prod", "support")
    assert stored is not None
    theirs = {"trafficPercent": 5, "predictor": {"name": "theirs", "model": {"name": "k"}}}
    simulated.cluster.change(stored, spec={**stored["spec"], "canary": [theirs]})
    with pytest.raises(ObjectChanged, match="expected no canary but"):
        backend.apply(plan(25))
    with pytest.raises(ObjectChanged, match="somebody else changed theirs"):
        backend.restore(plan(5), previous)
    assert spec(cluster)["canary"] == [theirs]


def test_a_service_that_was_made_anew_is_not_rolled_back(
    backend: KServeStandard, cluster: Cluster
) -> None:
    put_service(cluster)
    previous = backend.capture(plan(0))
    cluster.delete(INFERENCE_SERVICE, "prod", "support")
    put_service(cluster, uri=V1)
    with pytest.raises(ObjectChanged, match="made anew"):
        backend.restore(plan(5), previous)


def test_what_is_promoted_goes_back_only_by_a_rollback(
    backend: KServeStandard, cluster: Cluster
) -> None:
    put_service(cluster)
    backend.apply(plan(100, promote=True))
    assert not backend.apply(plan(100, promote=True)).changed
    with pytest.raises(ObjectChanged, match="only a rollback leads back"):
        backend.apply(plan(50))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(
        st.tuples(st.integers(0, 100), st.sampled_from(["", "cut", "lost", "busy"])), max_size=4
    ),
    promote=st.booleans(),
)
def test_whatever_fails_no_share_is_in_effect_that_nobody_asked_for(
    simulated: SimulatedApiServer,
    backend: KServeStandard,
    cluster: Cluster,
    moves: list[tuple[int, str]],
    promote: bool,
) -> None:
    """Any moves, any faults, a new backend each time as after a crash, then a rollback."""
    cluster.delete(INFERENCE_SERVICE, "prod", "support")
    put_service(cluster)
    before = spec(cluster)
    previous = backend.capture(plan(0))
    asked = {0}
    faults = {
        "cut": Fault(0, "patch"),
        "lost": Fault(0, "patch", after=True, skip=1),
        "busy": Fault(503, "patch", skip=1),
    }
    plans = [(plan(percent), fault) for percent, fault in moves]
    for wanted, fault in [*plans, *([(plan(100, promote=True), "lost")] if promote else [])]:
        simulated.cluster.faults = [replace(faults[fault])] if fault else []
        asked.add(wanted.percent)
        try:
            KServeStandard(cluster).apply(wanted)
        except Unavailable:
            assert fault
        simulated.cluster.faults = []
        assert KServeStandard(cluster).effective(wanted).percent in asked
    last = plan(100, promote=True) if promote else plan(moves[-1][0] if moves else 0)
    KServeStandard(cluster).restore(last, previous)
    assert spec(cluster) == before
