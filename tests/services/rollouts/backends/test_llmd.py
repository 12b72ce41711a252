"""llm-d: weights of one alias between adapters of the same pods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.clusters.connection import Cluster
from services.clusters.kinds import INFERENCE_POOL, LLM_SERVICE, MODEL_REWRITE
from services.clusters.refusals import ClusterForbids, ObjectChanged
from services.errors import InvalidInput, Unavailable
from services.rollouts.backends.llmd import LlmdRewrite
from tests.fakes.kubernetes import Fault, SimulatedApiServer, SimulatedCluster, crds
from tests.fakes.kubernetes.fixtures import AnyCluster
from tests.fakes.kubernetes.samples import CANDIDATE, STABLE, pool, put_rewrite, rewrite
from tests.services.rollouts.backends.scenes import a_whole_rollout, plan

TARGET = {"namespace": "prod", "name": "support"}


@pytest.fixture
def backend(cluster: Cluster) -> LlmdRewrite:
    return LlmdRewrite(cluster)


def targets(cluster: Cluster) -> list[dict[str, Any]]:
    found = cluster.get(MODEL_REWRITE, "prod", "support")
    rules: list[dict[str, Any]] = found["spec"]["rules"]
    assert rules[0]["targets"] == [{"modelRewrite": "sales-aaaaaaaaaaaa"}]
    assert rules[0]["matches"] == [{"model": {"type": "Exact", "value": "sales"}}]
    return list(rules[1]["targets"])


def asked(percent: int, **parts: Any) -> Any:
    return plan(percent, **{"target": TARGET, **parts})


def test_a_whole_rollout_and_its_rollback(any_cluster: AnyCluster) -> None:
    name, space = f"support-{any_cluster.suffix}", any_cluster.namespace
    connection = any_cluster.cluster
    own_pool = any_cluster.simulated is not None
    if own_pool:
        connection.create(INFERENCE_POOL, space, pool())
    connection.create(MODEL_REWRITE, space, rewrite(name))
    target = {"namespace": space, "name": name}
    backend = LlmdRewrite(connection)
    try:
        any_cluster.until(lambda: backend.probe(target), lambda found: found.is_usable)
        a_whole_rollout(backend, any_cluster, target)
    finally:
        connection.delete(MODEL_REWRITE, space, name)


def test_the_candidate_is_dropped_at_nothing_and_alone_at_everything(
    backend: LlmdRewrite, cluster: Cluster
) -> None:
    put_rewrite(cluster)
    backend.apply(asked(10))
    assert targets(cluster) == [
        {"modelRewrite": STABLE, "weight": 90},
        {"modelRewrite": CANDIDATE, "weight": 10},
    ]
    backend.apply(asked(0))
    assert targets(cluster) == [{"modelRewrite": STABLE, "weight": 100}]
    backend.apply(asked(100))
    assert targets(cluster) == [{"modelRewrite": CANDIDATE, "weight": 100}]


def test_weights_that_mean_the_same_are_not_written_again(
    backend: LlmdRewrite, cluster: Cluster
) -> None:
    put_rewrite(
        cluster,
        {"modelRewrite": STABLE, "weight": 9},
        {"modelRewrite": CANDIDATE, "weight": 1},
    )
    assert not backend.apply(asked(10)).changed


def test_what_the_picker_has_not_accepted_is_not_known(
    backend: LlmdRewrite, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_rewrite(cluster)
    simulated.cluster.lag = None
    backend.apply(asked(10))
    found = backend.effective(asked(10))
    assert (found.percent, found.is_ready, found.is_settled) == (None, False, False)
    simulated.cluster.settle()
    found = backend.effective(asked(10))
    assert (found.percent, found.is_ready, found.is_settled) == (10, True, True)


def test_an_alias_that_means_something_else_is_not_taken_over(
    backend: LlmdRewrite, cluster: Cluster
) -> None:
    put_rewrite(cluster, {"modelRewrite": "support-bbbbbbbbbbbb"})
    with pytest.raises(ObjectChanged, match="to mean support-0123456789ab alone"):
        backend.capture(asked(0))
    with pytest.raises(ObjectChanged, match="found support-bbbbbbbbbbbb"):
        backend.apply(asked(10))


def test_the_base_model_needs_its_served_name(backend: LlmdRewrite, cluster: Cluster) -> None:
    put_rewrite(cluster, {"modelRewrite": "smollm2"})
    with pytest.raises(InvalidInput, match="expected base_model"):
        backend.capture(asked(0, stable=None))
    named = {**TARGET, "base_model": "smollm2"}
    backend.capture(asked(0, stable=None, target=named))
    backend.apply(asked(10, stable=None, target=named))
    assert {one["modelRewrite"] for one in targets(cluster)} == {"smollm2", CANDIDATE}


def test_a_rule_of_several_aliases_is_not_split(backend: LlmdRewrite, cluster: Cluster) -> None:
    body = rewrite()
    body["spec"]["rules"][1]["matches"].append({"model": {"value": "help"}})
    cluster.create(MODEL_REWRITE, "prod", body)
    with pytest.raises(ObjectChanged, match="the rule for support is also for help"):
        backend.apply(asked(10))


def test_a_rewrite_without_the_alias_is_refused(backend: LlmdRewrite, cluster: Cluster) -> None:
    body = rewrite()
    del body["spec"]["rules"][1]
    cluster.create(MODEL_REWRITE, "prod", body)
    with pytest.raises(ObjectChanged, match="there is no rule for support"):
        backend.effective(asked(10))


def test_the_preflight_names_what_would_not_route(
    backend: LlmdRewrite, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    def said() -> str:
        return "; ".join(backend.probe(TARGET).refusals)

    assert said() == "there is no InferenceModelRewrite prod/support"
    cluster.create(MODEL_REWRITE, "prod", rewrite())
    assert "there is no InferencePool prod/llm-pool" in said()
    cluster.create(INFERENCE_POOL, "prod", pool())
    simulated.cluster.settle()
    assert said() == ""
    simulated.cluster.unready.add("support")
    simulated.cluster.settle()
    assert "is not accepted by llm-d" in said()
    simulated.cluster.forbidden.add(("patch", "inferencemodelrewrites"))
    assert "may not patch inferencemodelrewrites in prod" in said()


def test_the_preflight_names_targets_that_are_never_chosen(
    backend: LlmdRewrite, cluster: Cluster
) -> None:
    put_rewrite(cluster, {"modelRewrite": STABLE, "weight": 1}, {"modelRewrite": CANDIDATE})
    assert "those without are never chosen" in "; ".join(backend.probe(TARGET).refusals)


def test_the_preflight_knows_the_former_group(tmp_path: Path) -> None:
    former = crds.load("inferencemodelrewrites")
    group = "inference.networking.x-k8s.io"
    former = {
        **former,
        "metadata": {"name": f"inferencemodelrewrites.{group}"},
        "spec": {**former["spec"], "group": group},
    }
    with SimulatedApiServer(SimulatedCluster(custom=())) as server:
        backend = LlmdRewrite(Cluster(str(server.kubeconfig(tmp_path))))
        assert "is not installed" in backend.probe(TARGET).refusals[0]
        server.cluster.install(former)
        assert "which nothing routes by any more" in backend.probe(TARGET).refusals[0]


def test_a_candidate_that_the_named_service_does_not_serve_is_refused(tmp_path: Path) -> None:
    with SimulatedApiServer(
        SimulatedCluster(custom=("inferencemodelrewrites", "llminferenceservices"))
    ) as server:
        connection = Cluster(str(server.kubeconfig(tmp_path)))
        put_rewrite(connection)
        adapters = [{"name": STABLE, "uri": f"hf://org/{STABLE}"}]
        body = {
            "apiVersion": LLM_SERVICE.api_version,
            "kind": LLM_SERVICE.kind,
            "metadata": {"name": "llm"},
            "spec": {
                "model": {"uri": "hf://org/base", "name": "base", "lora": {"adapters": adapters}}
            },
        }
        connection.create(LLM_SERVICE, "prod", body)
        named = {**TARGET, "llm_service": "llm"}
        with pytest.raises(InvalidInput, match="expected the adapter support-3fa2c1d09b7e among"):
            LlmdRewrite(connection).capture(asked(0, target=named))


def test_a_rewrite_that_was_made_anew_or_is_shared_is_not_rolled_back(
    backend: LlmdRewrite, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_rewrite(cluster)
    previous = backend.capture(asked(0))
    backend.apply(asked(10))
    stored = simulated.cluster.find("inferencemodelrewrites", "prod", "support")
    assert stored is not None
    rules = [*stored["spec"]["rules"]]
    rules[1] = {**rules[1], "targets": [{"modelRewrite": "theirs", "weight": 1}]}
    simulated.cluster.change(stored, spec={**stored["spec"], "rules": rules})
    with pytest.raises(ObjectChanged, match="somebody else added theirs"):
        backend.restore(asked(10), previous)
    cluster.delete(MODEL_REWRITE, "prod", "support")
    cluster.create(MODEL_REWRITE, "prod", rewrite())
    with pytest.raises(ObjectChanged, match="made anew"):
        backend.restore(asked(10), previous)


def test_without_the_right_to_read_pools_the_preflight_says_so(
    backend: LlmdRewrite, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_rewrite(cluster)
    simulated.cluster.forbidden.add(("get", "inferencepools"))
    found = backend.probe(TARGET)
    assert found.is_usable
    assert any("the pool is unproven" in note for note in found.notes)
    simulated.cluster.forbidden.add(("get", "inferencemodelrewrites"))
    with pytest.raises(ClusterForbids):
        backend.effective(asked(10))


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(
        st.tuples(st.integers(0, 100), st.sampled_from(["", "cut", "lost", "busy"])), max_size=6
    )
)
def test_whatever_fails_the_weights_are_ones_that_were_asked_for(
    simulated: SimulatedApiServer, cluster: Cluster, moves: list[tuple[int, str]]
) -> None:
    cluster.delete(MODEL_REWRITE, "prod", "support")
    if cluster.find(INFERENCE_POOL, "prod", "llm-pool") is None:
        cluster.create(INFERENCE_POOL, "prod", pool())
    cluster.create(MODEL_REWRITE, "prod", rewrite())
    before = targets(cluster)
    previous = LlmdRewrite(cluster).capture(asked(0))
    shares = {0}
    for percent, fault in moves:
        found = {
            "cut": [Fault(0, "patch")],
            "lost": [Fault(0, "patch", after=True, skip=1)],
            "busy": [Fault(429, "patch", skip=1)],
        }
        simulated.cluster.faults = found.get(fault, [])
        shares.add(percent)
        try:
            LlmdRewrite(cluster).apply(asked(percent))
        except Unavailable:
            assert fault
        simulated.cluster.faults = []
        assert LlmdRewrite(cluster).effective(asked(percent)).percent in shares
    LlmdRewrite(cluster).restore(asked(0), previous)
    assert targets(cluster) == before
