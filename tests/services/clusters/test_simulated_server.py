"""The simulated server speaks as an API server does, to the unmodified client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch

from services.clusters.connection import Cluster
from services.clusters.kinds import INFERENCE_SERVICE
from tests.fakes.kubernetes import Fault, SimulatedApiServer, SimulatedCluster
from tests.fakes.kubernetes import crds as definitions
from tests.fakes.kubernetes.objects import KEPT_EVENTS
from tests.fakes.kubernetes.samples import MODE, V1, V2, put_service, service

PLACE = {
    "group": "serving.kserve.io",
    "version": "v1beta1",
    "namespace": "prod",
    "plural": "inferenceservices",
}
JSON_PATCH = "application/json-patch+json"
CANARY = {
    "trafficPercent": 10,
    "predictor": {
        "name": "v2",
        "model": {"name": "k", "modelFormat": {"name": "vLLM"}, "storageUri": V2},
    },
}


@pytest.fixture
def api(simulated: SimulatedApiServer, tmp_path: Path) -> client.CustomObjectsApi:
    opened = config.new_client_from_config(str(simulated.kubeconfig(tmp_path)))
    return client.CustomObjectsApi(opened)


def refusal(call: Any, *arguments: Any, **named: Any) -> tuple[int, str, dict[str, Any]]:
    with pytest.raises(client.ApiException) as error:
        call(*arguments, **named)
    body = json.loads(error.value.body or "{}")
    return error.value.status or 0, body.get("message", ""), body


def patch(api: client.CustomObjectsApi, *operations: dict[str, Any], **query: Any) -> Any:
    return api.patch_namespaced_custom_object(
        **PLACE, name="support", body=list(operations), _content_type=JSON_PATCH, **query
    )


def add_canary(**changes: Any) -> dict[str, Any]:
    canary = {**CANARY, **changes}
    return {"op": "add", "path": "/spec/canary", "value": [canary]}


def test_unknown_fields_are_dropped_with_a_warning_by_default(api: client.CustomObjectsApi) -> None:
    body = service() | {"spec": {**service()["spec"], "canaryPredictor": {}}}
    made, status, headers = api.create_namespaced_custom_object_with_http_info(**PLACE, body=body)
    assert status == 201
    assert headers["warning"] == '299 - "unknown field \\"spec.canaryPredictor\\""'
    assert set(made["spec"]) == {"predictor"}


def test_unknown_fields_are_refused_when_strictness_is_asked_for(
    api: client.CustomObjectsApi,
) -> None:
    body = service() | {"spec": {**service()["spec"], "canaryTrafficPercent": 10}}
    status, message, _ = refusal(
        api.create_namespaced_custom_object, **PLACE, body=body, field_validation="Strict"
    )
    assert status == 400
    assert 'strict decoding error: unknown field "spec.canaryTrafficPercent"' in message
    api.create_namespaced_custom_object(**PLACE, body=service())
    status, message, _ = refusal(
        patch,
        api,
        {"op": "add", "path": "/spec/canaryPredictor", "value": {}},
        field_validation="Strict",
    )
    assert status == 422
    assert 'unknown field "spec.canaryPredictor"' in message


def test_a_minimal_definition_stores_any_typing_error(tmp_path: Path) -> None:
    crd = definitions.minimal(definitions.load("inferenceservices"))
    with SimulatedApiServer(SimulatedCluster(definitions={"inferenceservices": crd})) as server:
        api = client.CustomObjectsApi(
            config.new_client_from_config(str(server.kubeconfig(tmp_path)))
        )
        body = service() | {"spec": {**service()["spec"], "canaryTrafficPercent": 10}}
        made = api.create_namespaced_custom_object(**PLACE, body=body, field_validation="Strict")
    assert made["spec"]["canaryTrafficPercent"] == 10


def test_a_dry_run_passes_everything_and_stores_nothing(
    api: client.CustomObjectsApi, cluster: Cluster
) -> None:
    before = put_service(cluster)
    made = patch(api, add_canary(), dry_run="All")
    assert made["spec"]["canary"][0]["trafficPercent"] == 10
    assert cluster.get(INFERENCE_SERVICE, "prod", "support") == before
    assert refusal(patch, api, add_canary(trafficPercent=101), dry_run="All")[0] == 422


def test_values_out_of_range_are_refused_with_their_causes(
    api: client.CustomObjectsApi, cluster: Cluster
) -> None:
    put_service(cluster)
    status, message, body = refusal(patch, api, add_canary(trafficPercent=150))
    assert status == 422
    assert "should be less than or equal to 100" in message
    assert body["details"]["causes"][0]["field"] == "spec.canary[0].trafficPercent"


def test_the_model_of_a_canary_needs_a_name_though_the_stable_one_does_not(
    api: client.CustomObjectsApi, cluster: Cluster
) -> None:
    put_service(cluster)
    nameless = {"name": "v2", "model": {"modelFormat": {"name": "vLLM"}}}
    status, message, _ = refusal(patch, api, add_canary(predictor=nameless))
    assert (status, "spec.canary[0].predictor.model.name: Required value" in message) == (422, True)


def test_a_merge_patch_replaces_a_list_whole(
    api: client.CustomObjectsApi, cluster: Cluster
) -> None:
    put_service(cluster)
    patch(api, add_canary())
    body = {"spec": {"canary": [{"trafficPercent": 25}]}}
    status, message, _ = refusal(
        api.patch_namespaced_custom_object, **PLACE, name="support", body=body
    )
    assert (status, "predictor: Required value" in message) == (422, True)


def test_only_the_known_kinds_of_patch_are_taken(
    api: client.CustomObjectsApi, cluster: Cluster
) -> None:
    put_service(cluster)
    for kind in ("application/json", "application/strategic-merge-patch+json"):
        answer = refusal(
            api.patch_namespaced_custom_object,
            **PLACE,
            name="support",
            body={"spec": {}},
            _content_type=kind,
        )
        assert answer[0] == 415


def test_a_failed_test_operation_changes_nothing(
    api: client.CustomObjectsApi, cluster: Cluster
) -> None:
    before = put_service(cluster)
    wrong = {"op": "test", "path": "/spec/predictor/name", "value": "another"}
    status, _, body = refusal(patch, api, add_canary(), wrong)
    assert status == 422
    assert "test failed" in body["details"]["causes"][0]["message"]
    assert cluster.get(INFERENCE_SERVICE, "prod", "support") == before


def test_a_stale_resource_version_is_a_conflict(
    api: client.CustomObjectsApi, cluster: Cluster
) -> None:
    old = put_service(cluster)
    patch(api, add_canary())
    status, message, _ = refusal(
        api.replace_namespaced_custom_object, **PLACE, name="support", body=old
    )
    assert (status, "the object has been modified" in message) == (409, True)


def test_the_generation_counts_specifications_only(
    api: client.CustomObjectsApi, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    made = put_service(cluster)
    simulated.cluster.lag = None  # or KServe's controller would put its own status back
    assert made["metadata"]["generation"] == 1
    status = {"op": "add", "path": "/status/url", "value": "http://elsewhere"}
    api.patch_namespaced_custom_object_status(
        **PLACE, name="support", body=[status], _content_type=JSON_PATCH
    )
    spec = {"op": "add", "path": "/spec/predictor/minReplicas", "value": 9}
    api.patch_namespaced_custom_object_status(
        **PLACE, name="support", body=[spec], _content_type=JSON_PATCH
    )
    label = {"op": "add", "path": "/metadata/labels", "value": {"team": "a"}}
    found = patch(api, label)
    assert found["metadata"]["generation"] == 1
    assert found["status"]["url"] == "http://elsewhere"
    assert found["spec"]["predictor"]["minReplicas"] == 2
    assert patch(api, add_canary())["metadata"]["generation"] == 2


def test_watching_tells_every_change_and_ends_with_a_bookmark(
    api: client.CustomObjectsApi, cluster: Cluster
) -> None:
    start = api.list_namespaced_custom_object(**PLACE)["metadata"]["resourceVersion"]
    put_service(cluster)
    patch(api, add_canary())
    cluster.delete(INFERENCE_SERVICE, "prod", "support")
    seen = []
    stream = watch.Watch().stream(
        api.list_namespaced_custom_object,
        **PLACE,
        resource_version=start,
        timeout_seconds=1,
        allow_watch_bookmarks=True,
    )
    for event in stream:
        seen.append(event["type"])
    assert seen[0] == "ADDED"
    assert "MODIFIED" in seen
    assert seen[-2:] == ["DELETED", "BOOKMARK"]


def test_watching_from_too_long_ago_is_gone(
    api: client.CustomObjectsApi, simulated: SimulatedApiServer
) -> None:
    for number in range(KEPT_EVENTS + 5):
        simulated.cluster.put("", "events", {"metadata": {"name": f"e{number}"}}, "prod")
    stream = watch.Watch().stream(
        api.list_namespaced_custom_object, **PLACE, resource_version="1", timeout_seconds=1
    )
    with pytest.raises(client.ApiException) as error:
        list(stream)
    assert error.value.status == 410


def test_an_account_may_do_only_what_it_was_granted(
    api: client.CustomObjectsApi, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.forbidden.add(("patch", "inferenceservices"))
    status, message, _ = refusal(patch, api, add_canary())
    assert status == 403
    assert 'cannot patch resource "inferenceservices" in API group "serving.kserve.io"' in message


def test_a_wrong_token_is_not_let_in(simulated: SimulatedApiServer, tmp_path: Path) -> None:
    path = simulated.kubeconfig(tmp_path, token="another")
    api = client.CustomObjectsApi(config.new_client_from_config(str(path)))
    assert refusal(api.list_namespaced_custom_object, **PLACE)[0] == 401


def test_what_is_not_there_is_not_found(api: client.CustomObjectsApi) -> None:
    status, message, _ = refusal(api.get_namespaced_custom_object, **PLACE, name="nobody")
    assert (status, message) == (404, 'inferenceservices.serving.kserve.io "nobody" not found')
    elsewhere = {**PLACE, "plural": "unheardof"}
    with pytest.raises(client.ApiException) as error:
        api.list_namespaced_custom_object(**elsewhere)
    assert error.value.status == 404
    missing = {**PLACE, "namespace": "nowhere"}
    assert refusal(api.create_namespaced_custom_object, **missing, body=service())[0] == 404


def test_a_name_is_taken_once(api: client.CustomObjectsApi) -> None:
    api.create_namespaced_custom_object(**PLACE, body=service())
    status, _, body = refusal(api.create_namespaced_custom_object, **PLACE, body=service())
    assert (status, body["reason"]) == (409, "AlreadyExists")


def test_a_dead_webhook_stops_every_write(
    api: client.CustomObjectsApi, simulated: SimulatedApiServer
) -> None:
    simulated.cluster.webhook_down = True
    status, message, _ = refusal(api.create_namespaced_custom_object, **PLACE, body=service())
    assert (status, "failed calling webhook" in message) == (500, True)


def test_an_answer_may_be_lost_after_the_work_is_done(
    api: client.CustomObjectsApi, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.faults.append(Fault(503, "patch", after=True))
    assert refusal(patch, api, add_canary())[0] == 503
    assert cluster.get(INFERENCE_SERVICE, "prod", "support")["spec"]["canary"]


@pytest.mark.parametrize(
    ("mode", "changes", "words"),
    [
        ("Knative", {}, "canary is only supported in Standard deployment mode"),
        ("Standard", {"predictor": {**CANARY["predictor"], "name": "v1"}}, "must differ"),
        ("Standard", {"predictor": {"model": CANARY["predictor"]["model"]}}, "name is required"),
        ("Standard", {"predictor": {"name": "v2"}}, "exactly one implementation"),
        ("Standard", {"predictor": {**CANARY["predictor"], "maxReplicas": 3}}, "maxReplicas"),
        ("Standard", {"predictor": {**CANARY["predictor"], "minReplicas": 3}}, "minReplicas"),
    ],
)
def test_the_webhook_of_kserve_refuses(
    api: client.CustomObjectsApi, cluster: Cluster, mode: str, changes: dict[str, Any], words: str
) -> None:
    put_service(cluster, mode=mode)
    status, message, _ = refusal(patch, api, add_canary(**changes))
    assert status == 403
    assert message.startswith('admission webhook "inferenceservice.kserve-webhook-server.validator')
    assert words in message


def test_two_canaries_share_at_most_everything(
    api: client.CustomObjectsApi, cluster: Cluster
) -> None:
    put_service(cluster)
    second = {**CANARY, "trafficPercent": 91, "predictor": {**CANARY["predictor"], "name": "v3"}}
    both = {"op": "add", "path": "/spec/canary", "value": [CANARY, second]}
    assert "at most 100, got 101" in refusal(patch, api, both)[1]


def test_a_promotion_needs_other_weights(api: client.CustomObjectsApi, cluster: Cluster) -> None:
    put_service(cluster)
    rename = {"op": "replace", "path": "/spec/predictor/name", "value": "v2"}
    status, message, _ = refusal(patch, api, rename)
    assert (status, "requires a model change" in message) == (403, True)
    weights = {"op": "replace", "path": "/spec/predictor/model/storageUri", "value": V2}
    assert patch(api, rename, weights)["spec"]["predictor"]["name"] == "v2"


def test_former_names_of_the_modes_are_rewritten(cluster: Cluster) -> None:
    made = put_service(cluster, mode="RawDeployment")
    assert made["metadata"]["annotations"][MODE] == "Standard"
    assert made["status"]["deploymentMode"] == "Standard"


def test_a_canary_that_is_not_ready_is_left_out_of_the_route_but_not_of_the_status(
    api: client.CustomObjectsApi, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    simulated.cluster.unready.add("v2")
    patch(api, add_canary())
    found = cluster.get(INFERENCE_SERVICE, "prod", "support")["status"]
    assert found["canaryStatuses"] == [{"name": "v2", "ready": False, "trafficPercent": 10}]
    route = simulated.cluster.find("httproutes", "prod", "support")
    assert route is not None
    [backend] = route["spec"]["rules"][0]["backendRefs"]
    assert (backend["name"], backend["weight"]) == ("support-v1-predictor", 100)


def test_controllers_may_lag_behind(simulated: SimulatedApiServer, cluster: Cluster) -> None:
    simulated.cluster.lag = 2
    cluster.create(INFERENCE_SERVICE, "prod", service())
    assert "status" not in cluster.get(INFERENCE_SERVICE, "prod", "support")
    assert "status" in cluster.get(INFERENCE_SERVICE, "prod", "support")


def test_the_percentage_of_knative_is_ignored_in_standard_mode(
    api: client.CustomObjectsApi, cluster: Cluster, simulated: SimulatedApiServer
) -> None:
    put_service(cluster)
    patch(
        api,
        {"op": "add", "path": "/spec/predictor/canaryTrafficPercent", "value": 10},
        {"op": "replace", "path": "/spec/predictor/model/storageUri", "value": V2},
    )
    deployment = simulated.cluster.find("deployments", "prod", "support-v1-predictor")
    assert deployment is not None
    assert deployment["spec"]["model"]["storageUri"] == V2 != V1
