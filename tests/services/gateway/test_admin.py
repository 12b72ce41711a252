"""What operators see of a gateway, what they may do to it, and the second engine."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.db import Database
from services.errors import Unavailable
from services.metering.models import Price
from services.operations.service import Operations
from services.operations.token import HEADER, admin_token
from tests.fakes.engine import FakeEngine
from tests.services.gateway.conftest import SYSTEM, Edge, bearer, edge_over, eventually

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
MODEL = "big-model"
PRICES = {"*": Price(100_000, 400_000), "fallback/*": Price(3_000_000, 15_000_000)}


@pytest.fixture
def second() -> Iterator[FakeEngine]:
    with FakeEngine(base=MODEL) as fake:
        yield fake


@pytest.fixture
def both(
    database: Database, engine: FakeEngine, second: FakeEngine, tmp_path: Path
) -> Iterator[Edge]:
    """A gateway with a second engine, which the tenant legal allows and medical does not."""
    variables = {
        "PARAM_FALLBACK_URL": f"{second.url}/v1", "PARAM_FALLBACK_MODEL": MODEL,
        "PARAM_FALLBACK_KEY": "sk-of-the-second", "PARAM_BREAKER_FAILURES": "2",
        "PARAM_BREAKER_OPEN_S": "3600",
    }  # fmt: skip
    with edge_over(database, engine, tmp_path, **variables) as edge:
        edge.services.metering.add_prices(SYSTEM, PRICES)
        edge.key("legal")
        edge.services.operations.set_fallback(SYSTEM, "legal", allowed=True, reason="contract")
        eventually(
            lambda: edge.app.gateway.directory.price(f"fallback/{MODEL}")[0] == "2"  # type: ignore[union-attr]
        )
        yield edge


def admin(edge: Edge) -> dict[str, str]:
    return {HEADER: admin_token(edge.services.settings)}


def state(edge: Edge) -> dict:  # type: ignore[type-arg]
    answer = edge.http.get(f"{edge.url}/admin/v1/state", headers=admin(edge))
    assert answer.status_code == 200
    return dict(answer.json())


def metric(edge: Edge, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(edge.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise AssertionError(f"no sample {name} {labels}")


def predicate(edge: Edge, receipt_id: str) -> dict:  # type: ignore[type-arg]
    stored = edge.services.receipts.get(SYSTEM, receipt_id)
    assert edge.services.receipts.verify(stored.envelope).holds
    return dict(json.loads(base64.b64decode(stored.envelope["payload"]))["predicate"])


def test_admin_endpoints_want_their_own_token(edge: Edge) -> None:
    key = edge.key("legal")
    token = admin_token(edge.services.settings)
    for method, path in (
        ("GET", "/admin/v1/state"), ("GET", "/admin/v1/tenants/legal"),
        ("POST", "/admin/v1/drain"), ("POST", "/admin/v1/upstreams/engine/retry"),
    ):  # fmt: skip
        for headers in (
            {}, bearer(key), bearer(token), {HEADER: token[:-1]}, {HEADER: "x"}, {HEADER: ""},
        ):  # fmt: skip
            answer = edge.http.request(method, edge.url + path, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert token not in answer.text
    assert not state(edge)["is_draining"]


def test_the_console_sees_process_engine_and_readiness(edge: Edge) -> None:
    adapter = edge.adapter("legal", 1)
    key = edge.key("legal")
    edge.chat(key, model=adapter)
    found = edge.services.operations
    eventually(lambda: state(edge)["upstreams"][0]["adapters"] == [adapter])
    shown = state(edge)
    assert shown["checks"] == dict.fromkeys(
        ("database", "disk", "engine", "writer", "directory", "open"), True
    )
    (engine,) = shown["upstreams"]
    assert (engine["name"], engine["address"], engine["state"]) == (
        "engine", edge.engine.url, "closed",
    )  # fmt: skip
    assert (engine["model"], engine["context"], engine["is_up"]) == ("fake-base", 2048, True)
    assert found.fallback_model == ""


def test_a_tenant_is_shown_as_the_gateway_sees_it(edge: Edge) -> None:
    candidate = edge.adapter("legal", 1)
    edge.follow_policy("legal", "version: 1\nchecks: {}\n")
    edge.services.rollouts.start(SYSTEM, "legal", "legal", candidate, percent=25)
    url = f"{edge.url}/admin/v1/tenants"

    def seen() -> dict:  # type: ignore[type-arg]
        return dict(edge.http.get(f"{url}/legal", headers=admin(edge)).json())

    eventually(lambda: seen()["aliases"][0]["percent"] == 25)
    found = seen()
    assert found["aliases"] == [
        {"alias": "legal", "adapter": None, "candidate": candidate, "percent": 25}
    ]
    assert (found["policy"]["version"], found["may_fall_back"]) == (1, False)
    assert found["limits"]["rpm"] == 10**6
    for nobody in ("nobody", "..%2flegal", "legal%00"):
        assert edge.http.get(f"{url}/{nobody}", headers=admin(edge)).status_code == 404


def test_a_drained_gateway_ends_what_runs_and_takes_nothing_new(edge: Edge) -> None:
    key = edge.key("legal")
    url, headers = f"{edge.url}/v1/chat/completions", bearer(key)
    body = {"messages": [{"role": "user", "content": "slow"}], "stream": True}
    with edge.http.stream("POST", url, json=body, headers=headers) as running:
        lines = running.iter_lines()
        next(lines)
        drained = edge.http.post(
            f"{edge.url}/admin/v1/drain", json={"on": True}, headers=admin(edge)
        )
        assert drained.json() == {"is_draining": True, "in_flight": 1}
        refused = httpx.post(url, json=body, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("5", "close")
        assert edge.get("/readyz").json()["checks"]["open"] is False
        assert edge.get("/healthz").status_code == 200
        assert metric(edge, "param_gateway_draining") == 1
        assert [line for line in lines if line][-1] == "data: [DONE]"
    edge.http.post(f"{edge.url}/admin/v1/drain", json={"on": False}, headers=admin(edge))
    assert edge.chat(key).status_code == 200
    for wrong in (b"", b"[]", b'{"on": 1}', b"\xff", b"{"):
        answer = edge.http.post(f"{edge.url}/admin/v1/drain", content=wrong, headers=admin(edge))
        assert answer.status_code == 400
    unknown = edge.http.post(f"{edge.url}/admin/v1/upstreams/x/retry", headers=admin(edge))
    assert unknown.status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_the_second_engine_answers_and_is_named_as_what_it_is(
    both: Edge, second: FakeEngine, stream: bool
) -> None:
    key = both.key("legal")
    both.engine.stop()
    asked = {"top_k": 3} | ({"stream_options": {"include_usage": True}} if stream else {})
    answer = both.chat(key, stream=stream, max_tokens=3, **asked)
    assert answer.status_code == 200
    assert answer.headers["x-param-model"] == f"fallback/{MODEL}"
    assert answer.headers["x-param-arm"] == "fallback"
    assert f'"model":"{MODEL}"' in answer.text.replace(" ", "")
    (sent,) = second.requests
    assert (sent["model"], sent["max_tokens"], sent["top_k"]) == (MODEL, 3, 3)
    # OpenAI's own API refuses the options that only vLLM knows.
    assert sent.get("stream_options") == ({"include_usage": True} if stream else None)
    (row,) = both.services.metering.usage_rows(SYSTEM, "legal", 10)
    assert (row.served, row.arm, row.status) == (f"fallback/{MODEL}", "fallback", "ok")
    assert (row.prompt_tokens, row.completion_tokens) == (7, 3)
    assert row.cost_micro == 66  # 7 × 3 + 3 × 15, not the own model's price
    found = predicate(both, answer.headers["x-request-id"])
    assert found["model"]["served"] == f"fallback/{MODEL}"
    assert found["model"]["adapter"] is None
    assert found["rollout"]["arm"] == "fallback"
    (entry,) = both.services.audit.entries(SYSTEM, "legal", action="inference.answered")
    assert entry.details["problem"] == "fell_back_connect"
    assert metric(both, "param_gateway_fallbacks_total", tenant="legal") == 1


def test_a_tenant_that_did_not_allow_it_is_never_answered_elsewhere(
    both: Edge, second: FakeEngine
) -> None:
    key = both.key("medical")
    both.engine.stop()
    for stream in (False, True):
        assert both.chat(key, stream=stream).status_code == 503
    assert second.requests == []
    allowed = both.key("legal")
    assert both.chat(allowed).status_code == 200
    both.services.operations.set_fallback(SYSTEM, "legal", allowed=False, reason="withdrawn")
    eventually(lambda: both.chat(allowed).status_code == 503)


def test_what_the_client_did_wrong_is_not_asked_elsewhere(both: Edge, second: FakeEngine) -> None:
    assert both.chat(both.key("legal"), "refuse").status_code == 400
    assert second.requests == []


def test_a_second_engine_that_fails_too_leaves_the_first_ones_error(
    both: Edge, second: FakeEngine
) -> None:
    key = both.key("legal")
    both.engine.stop()
    second.stop()
    answer = both.chat(key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    (row,) = both.services.metering.usage_rows(SYSTEM, "legal", 10)
    assert (row.arm, row.status, row.cost_micro) == ("stable", "error", 0)
    assert (
        metric(both, "param_gateway_upstream_failures_total", upstream="fallback", reason="connect")
        == 1
    )


def test_an_open_breaker_spares_the_engine_until_someone_asks_it_to_try(both: Edge) -> None:
    key = both.key("medical")
    port = both.engine.port
    both.engine.stop()
    for _ in range(2):
        assert "does not answer" in both.chat(key).json()["error"]["message"]
    assert "is left alone" in both.chat(key).json()["error"]["message"]
    assert metric(both, "param_gateway_breaker_state", upstream="engine") == 2
    shown = state(both)["upstreams"][0]
    assert (shown["state"], shown["times_opened"]) == ("open", 1)
    assert both.chat(both.key("legal")).headers["x-param-arm"] == "fallback"
    with FakeEngine(port=port):
        # The gateway's own look notices that the engine is back, long before the hour is over.
        eventually(lambda: both.chat(key).status_code == 200)
        assert state(both)["upstreams"][0]["state"] == "closed"
        assert both.chat(both.key("legal")).headers["x-param-arm"] == "stable"


def test_an_operator_may_have_an_engine_tried_at_once(both: Edge) -> None:
    breaker = both.app.gateway.engine.breaker  # type: ignore[union-attr]
    for _ in range(2):
        breaker.enter().failed()
    assert state(both)["upstreams"][0]["state"] == "open"
    both.services.operations.retry(SYSTEM, "engine")
    assert state(both)["upstreams"][0]["state"] == "half_open"
    assert both.chat(both.key("legal")).headers["x-param-arm"] == "stable"
    assert state(both)["upstreams"][0]["state"] == "closed"


def test_the_console_drains_with_a_reason_that_stays(both: Edge) -> None:
    operations = both.services.operations
    operations.drain(SYSTEM, True, reason="kernel update")
    assert operations.state(SYSTEM, "legal").is_draining
    operations.drain(SYSTEM, False, reason="done")
    assert not operations.state(SYSTEM, "legal").is_draining
    both.services.audit.sequence()
    assert [one.action for one in both.services.audit.entries(SYSTEM, None, action="gateway.")] == [
        "gateway.drained", "gateway.opened",
    ]  # fmt: skip
    view = operations.view(SYSTEM, "legal")
    assert view is not None
    assert (view.may_fall_back, view.policy_version) == (True, 0)
    assert operations.view(SYSTEM, "nobody") is None


def test_what_did_not_reach_the_gateway_is_not_recorded_as_done(edge: Edge) -> None:
    parts = edge.services
    elsewhere = replace(parts.settings, gateway_url="http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="does not answer"):
        Operations(parts.db, parts.metering, elsewhere).drain(SYSTEM, True, reason="kernel update")
    edge.services.audit.sequence()
    assert edge.services.audit.entries(SYSTEM, None, action="gateway.") == []


def test_opentelemetrys_names_stand_beside_ours(both: Edge) -> None:
    key = both.key("legal")
    client = openai.OpenAI(base_url=f"{both.url}/v1", api_key=key, max_retries=0)
    said = [{"role": "user", "content": "slow"}]
    list(client.chat.completions.create(model="", messages=said, stream=True))  # type: ignore[call-overload]
    client.chat.completions.create(model="", messages=said)  # type: ignore[call-overload]
    both.engine.stop()
    both.chat(key)
    own = {"gen_ai_provider_name": "param_console", "gen_ai_operation_name": "chat"}
    usage = "gen_ai_client_token_usage"
    assert metric(both, f"{usage}_sum", gen_ai_token_type="output", **own) == 10
    assert metric(both, f"{usage}_count", gen_ai_token_type="input", **own) == 2
    assert metric(both, f"{usage}_sum", gen_ai_provider_name="fallback") == 7
    assert metric(both, "gen_ai_server_time_to_first_token_seconds_count", **own) == 1
    assert metric(both, "gen_ai_server_time_per_output_token_seconds_count", **own) == 1
    duration = "gen_ai_server_request_duration_seconds"
    assert metric(both, f"{duration}_count", error_type="", **own) == 2
    assert metric(both, f"{duration}_bucket", le="+Inf", error_type="", **own) == 2
    assert metric(both, f"{duration}_bucket", le="0.01", error_type="", **own) == 0
