import base64
import json

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.services.gateway.conftest import SYSTEM, Edge, bearer

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def test_models_are_only_the_tenants_own(edge: Edge) -> None:
    legal, medical = edge.key("legal"), edge.key("medical")
    mine, theirs = edge.adapter("legal", 1), edge.adapter("medical", 2)
    client = openai.OpenAI(base_url=f"{edge.url}/v1", api_key=legal, max_retries=0)
    assert {model.id for model in client.models.list()} == {"legal", mine}
    listed = edge.get("/v1/models", medical).json()["data"]
    assert [(row["id"], row["parent"]) for row in listed] == [
        ("medical", None), (theirs, "fake-base"),
    ]  # fmt: skip
    assert edge.get("/v1/models").status_code == 401
    assert edge.get("/v1/models", "pk_wrong").json()["error"]["code"] == "invalid_api_key"


def test_whoami_tells_tenant_aliases_and_what_is_left(edge: Edge) -> None:
    key, candidate = edge.key("legal"), edge.adapter("legal", 1)
    edge.services.rollouts.start(SYSTEM, "legal", "legal", candidate, percent=25)
    found = edge.get("/v1/whoami", key).json()
    assert found["tenant"] == {"id": "legal", "name": "legal"}
    assert found["default_alias"] == "legal"
    assert [row["alias"] for row in found["aliases"]] == ["legal"]
    assert edge.get("/v1/whoami").status_code == 401


def test_anyone_may_verify_a_receipt(edge: Edge) -> None:
    key = edge.key("legal")
    answer = edge.chat(key)
    document = edge.get(f"/v1/receipts/{answer.headers['x-param-receipt']}", key).json()
    for body in (document, document["envelope"], {"receipt": document}):
        found = edge.http.post(f"{edge.url}/v1/verify", json=body).json()
        assert found["ok"] is True
        assert {"signature", "audit"} <= {check["name"] for check in found["checks"]}
        assert found["not_established"]
    texts = {
        "request": base64.b64encode(answer.request.content).decode(),
        "response": base64.b64encode(answer.content).decode(),
    }
    whole = edge.http.post(f"{edge.url}/v1/verify", json={"receipt": document, **texts}).json()
    assert [check["ok"] for check in whole["checks"]] == [True] * len(whole["checks"])
    wrong = {"receipt": document, **texts, "response": base64.b64encode(b"else").decode()}
    assert edge.http.post(f"{edge.url}/v1/verify", json=wrong).json()["ok"] is False


def test_a_changed_receipt_does_not_hold_and_nonsense_is_refused(edge: Edge) -> None:
    key = edge.key("legal")
    receipt_id = edge.chat(key).headers["x-param-receipt"]
    envelope = edge.get(f"/v1/receipts/{receipt_id}", key).json()["envelope"]
    payload = base64.b64decode(envelope["payload"]).replace(b'"percent":"0"', b'"percent":"1"')
    changed = {**envelope, "payload": base64.b64encode(payload).decode()}
    answer = edge.http.post(f"{edge.url}/v1/verify", json=changed)
    assert (answer.status_code, answer.json()["ok"]) == (200, False)
    assert answer.json()["error"]
    twice = b'{"receipt": 1, "receipt": %b}' % json.dumps(envelope).encode()
    for body in (b"", b"{", b"\xff", json.dumps({"receipt": 1, "x": 2}).encode(), twice):
        refused = edge.http.post(f"{edge.url}/v1/verify", content=body)
        assert refused.status_code == 400
        assert set(refused.json()["error"]) == {"message", "type", "code", "param"}


def test_health_keys_and_metrics_need_no_key(edge: Edge) -> None:
    key = edge.key("legal")
    edge.chat(key)
    edge.chat(key, stream=True)
    edge.chat("pk_wrong")
    assert edge.get("/healthz").json() == {"status": "ok"}
    assert edge.get("/readyz").json()["ready"] is True
    assert {jwk["purpose"] for jwk in edge.get("/.well-known/jwks.json").json()["keys"]} == {
        "receipt", "checkpoint", "event",
    }  # fmt: skip
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(edge.get("/metrics").text)
        for sample in family.samples
    }
    assert samples["param_gateway_requests_total", "legal", "ok", "stable"] == 2
    assert samples["param_gateway_tokens_total", "completion", "legal"] == 10
    assert samples["param_gateway_refusals_total", "", "invalid_api_key"] == 1
    assert samples["param_gateway_in_flight",] == 0


def test_unknown_paths_and_methods_answer_in_openais_shape(edge: Edge) -> None:
    for answer, status in (
        (edge.get("/v1/nothing"), 404),
        (edge.get("/v1/chat/completions"), 405),
        (edge.http.delete(f"{edge.url}/v1/models", headers=bearer("x")), 405),
    ):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "code", "param"}
        assert answer.headers["x-request-id"]
