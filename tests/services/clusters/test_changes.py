"""A change proves itself: a status 200 is not believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.clusters.changes import carry_out, missing, pointer, recorded
from services.clusters.connection import Cluster
from services.clusters.kinds import INFERENCE_SERVICE, LLM_SERVICE
from services.clusters.refusals import ClusterRefused, ObjectChanged
from tests.fakes.kubernetes import SimulatedApiServer
from tests.fakes.kubernetes.samples import V2, put_service

URI = "/spec/predictor/model/storageUri"


def moved(thing: dict[str, Any]) -> dict[str, Any]:
    predictor = thing["spec"]["predictor"]
    model = {**predictor["model"], "storageUri": V2}
    return {**thing, "spec": {**thing["spec"], "predictor": {**predictor, "model": model}}}


def move(cluster: Cluster, before: dict[str, Any]) -> dict[str, Any]:
    operations = [{"op": "replace", "path": URI, "value": V2}]
    return carry_out(cluster, INFERENCE_SERVICE, before, moved(before), operations)


def test_what_was_changed_meanwhile_is_not_changed_again(cluster: Cluster) -> None:
    before = put_service(cluster)
    move(cluster, before)
    with pytest.raises(ObjectChanged, match="it is not as it was read"):
        move(cluster, before)


def test_a_status_that_changes_all_the_time_is_no_conflict(
    cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    before = put_service(cluster)
    stored = simulated.cluster.find("inferenceservices", "prod", "support")
    assert stored is not None
    simulated.cluster.change(stored, status={**stored["status"], "url": "http://new"})
    move(cluster, before)


def test_a_success_that_kept_something_else_is_no_success(cluster: Cluster) -> None:
    before = put_service(cluster)
    wrong = [{"op": "replace", "path": URI, "value": "pvc://models/another"}]
    with pytest.raises(ClusterRefused, match="spec.predictor.model.storageUri is not what was"):
        carry_out(cluster, INFERENCE_SERVICE, before, moved(before), wrong)
    assert cluster.get(INFERENCE_SERVICE, "prod", "support")["spec"] == before["spec"]


def test_a_kind_that_is_not_installed_is_named(cluster: Cluster) -> None:
    before = put_service(cluster)
    with pytest.raises(ClusterRefused, match="llminferenceservices.serving.kserve.io v1alpha2 is"):
        carry_out(cluster, LLM_SERVICE, before, before, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_nothing_is_missing_from_what_was_asked_for(value: Any) -> None:
    assert missing(value, value) is None


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3), st.text(min_size=4), JSON)
def test_defaults_of_the_server_are_allowed_but_gaps_are_not(
    value: dict[str, Any], name: str, item: Any
) -> None:
    assert missing({**value, name: item}, value) is None
    assert missing(value, {**value, name: item}) == f"spec.{name}"


def test_a_shorter_or_longer_list_is_a_gap() -> None:
    assert missing({"a": [1]}, {"a": [1, 2]}) == "spec.a"
    assert missing({"a": [1, 2]}, {"a": [1]}) == "spec.a"
    assert missing({"a": [1, 3]}, {"a": [1, 2]}) == "spec.a[1]"


def test_a_history_holds_no_variables_value_and_no_float() -> None:
    patch = [{"value": {"env": [{"name": "A", "value": "s"}], "x": 1.5, "value": "kept"}}]
    assert json.loads(json.dumps(recorded(patch))) == [
        {"value": {"env": [{"name": "A", "value": "(not recorded)"}], "x": "1.5", "value": "kept"}}
    ]


def test_pointers_escape_their_parts() -> None:
    assert pointer("a/b", "c~d", 0) == "/a~1b/c~0d/0"
