import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from sqlalchemy import text

from services.gateway.local_limits import LocalLimiter
from services.tenants.models import Limits
from tests.fakes.engine import PROMPT_TOKENS
from tests.services.gateway.conftest import (
    HELLO,
    PLENTY,
    SYSTEM,
    Edge,
    bearer,
    eventually,
)

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def usage(edge: Edge, status: str) -> list[tuple[int, int]]:
    rows = edge.services.metering.usage_rows(SYSTEM, "legal")
    return [(row.prompt_tokens, row.completion_tokens) for row in rows if row.status == status]


def is_error(answer: httpx.Response, status: int, code: str) -> bool:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return (answer.status_code, error["code"]) == (status, code)


def test_200_parallel_calls_for_the_last_tokens_never_overshoot(edge: Edge) -> None:
    limit = 5_000
    key = edge.key("legal", Limits(tps=10**6, rpm=10**6, daily_tokens=limit))

    async def all_at_once() -> list[httpx.Response]:
        body = {"messages": HELLO, "max_tokens": 100}
        url = f"{edge.url}/v1/chat/completions"
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits()) as client:
            asked = [client.post(url, json=body, headers=bearer(key)) for _ in range(200)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(all_at_once())
    refused = [answer for answer in answers if answer.status_code == 429]
    answered = [answer for answer in answers if answer.status_code == 200]
    assert len(refused) + len(answered) == 200
    assert all("tokens a day" in answer.json()["error"]["message"] for answer in refused)
    used = edge.services.metering.tokens_today("legal")
    assert used == sum(answer.json()["usage"]["total_tokens"] for answer in answered)
    assert used <= limit
    assert edge.get("/v1/whoami", key).json()["tokens_left_today"] == limit - used
    assert len({answer.headers["x-param-receipt"] for answer in answered}) == len(answered)


def test_todays_tokens_are_remembered_over_a_restart(edge: Edge) -> None:
    edge.chat(edge.key("legal"))
    tenant = edge.services.tenants.get(SYSTEM, "legal")
    fresh = LocalLimiter()
    fresh.learn(tenant, edge.services.metering.used(tenant))
    assert fresh.left_today(tenant) == PLENTY.daily_tokens - PROMPT_TOKENS - 5


def test_an_engine_that_is_down_is_a_503_and_a_record(edge: Edge) -> None:
    key = edge.key("legal")
    edge.engine.stop()
    for stream in (False, True):
        assert is_error(edge.chat(key, stream=stream), 503, "engine_unavailable")
    assert edge.inferences()[-2:] == ["inference.failed"] * 2
    assert usage(edge, "error") == [(0, 0), (0, 0)]
    assert edge.get("/v1/whoami", key).json()["tokens_left_today"] == PLENTY.daily_tokens
    eventually(lambda: edge.get("/readyz").status_code == 503)
    assert edge.get("/readyz").json()["checks"]["engine"] is False
    assert edge.get("/healthz").status_code == 200


def test_an_engine_that_comes_back_is_used_again(edge: Edge) -> None:
    key, adapter = edge.key("legal"), edge.adapter("legal", 1)
    assert edge.chat(key, model=adapter).status_code == 200
    edge.services.tenants.set_alias(SYSTEM, "legal", "legal", adapter)
    eventually(lambda: edge.chat(key).headers["x-param-model"] == adapter)
    edge.engine.restart()
    # The first request finds an engine that has forgotten the adapter, and has it loaded again.
    assert edge.chat(key).headers["x-param-model"] == adapter
    edge.engine.restart()
    eventually(lambda: adapter in edge.engine.adapters)  # without any request


def test_many_requests_for_a_missing_adapter_load_it_once(edge: Edge) -> None:
    key, adapter = edge.key("legal"), edge.adapter("legal", 1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: edge.chat(key, model=adapter), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert edge.engine.loads == [adapter]


def test_weights_that_are_not_what_the_name_says_are_not_served(edge: Edge) -> None:
    key, adapter = edge.key("legal"), edge.adapter("legal", 1)
    folder = edge.services.registry.get(SYSTEM, "legal", adapter).path
    weights = folder / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    answer = edge.chat(key, model=adapter)
    assert is_error(answer, 503, "engine_unavailable")
    assert "digest_mismatch" in answer.json()["error"]["message"]
    assert edge.engine.adapters == {}


def test_what_the_engine_finds_wrong_is_passed_on_and_recorded(edge: Edge) -> None:
    key = edge.key("legal")
    for stream in (False, True):
        answer = edge.chat(key, "refuse", stream=stream)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "temperature"
    assert is_error(edge.chat(key, "error"), 503, "engine_unavailable")
    assert edge.inferences()[-3:] == ["inference.failed"] * 3


def test_an_answer_that_cannot_be_metered_is_not_given(edge: Edge) -> None:
    key = edge.key("legal")
    assert is_error(edge.chat(key, "silent"), 503, "engine_unavailable")
    streamed = edge.chat(key, "silent", stream=True)
    assert b"[DONE]" in streamed.content  # too late to refuse: counted here, and said so
    [(prompt, completion)] = usage(edge, "ok")
    assert (prompt > 0, completion) == (True, 5)
    [entry] = edge.services.audit.entries(SYSTEM, "legal", action="inference.answered")
    assert entry.details["tokens_counted_by"] == "gateway"


def test_an_engine_that_dies_in_a_stream_leaves_a_signed_partial(edge: Edge) -> None:
    key = edge.key("legal")
    answer = edge.chat(key, "die", stream=True)
    assert answer.status_code == 200
    assert b"[DONE]" not in answer.content
    body, _, end = answer.content.partition(b": receipt ")
    assert b"fake-base " in body  # the last word is held back: it might have grown into a finding
    assert json.loads(end.partition(b"data: ")[2])["error"]["code"] == "engine_unavailable"
    predicate = receipt(edge, answer.headers["x-request-id"])
    assert predicate["response"]["partial"] is True
    assert predicate["response"]["finishReason"] == "error"
    assert usage(edge, "partial") == [(PROMPT_TOKENS, 2)]
    client = openai.OpenAI(base_url=f"{edge.url}/v1", api_key=key, max_retries=0)
    asked = [{"role": "user", "content": "die"}]
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(model="", messages=asked, stream=True))  # type: ignore[call-overload]


def receipt(edge: Edge, receipt_id: str) -> dict:  # type: ignore[type-arg]
    stored = edge.services.receipts.get(SYSTEM, receipt_id)
    return dict(edge.services.receipts.verify(stored.envelope).statement["predicate"])


def test_a_client_that_leaves_a_stream_pays_for_what_it_saw(edge: Edge) -> None:
    key = edge.key("legal")
    edge.follow_policy("legal", "version: 1\nchecks: {}\n")  # nothing is held back
    body = {"messages": [{"role": "user", "content": "stall"}], "stream": True}
    url = f"{edge.url}/v1/chat/completions"
    with edge.http.stream("POST", url, json=body, headers=bearer(key)) as answer:
        request_id = answer.headers["x-request-id"]
        for line in answer.iter_lines():
            if "w1" in line:
                break
    eventually(lambda: edge.engine.aborted == 1)
    eventually(lambda: usage(edge, "partial") == [(PROMPT_TOKENS, 2)])
    predicate = receipt(edge, request_id)
    assert predicate["response"]["finishReason"] == "client_gone"
    assert predicate["usage"]["completionTokens"] == "2"
    assert edge.inferences()[-1] == "inference.cut_off"
    left = edge.get("/v1/whoami", key).json()["tokens_left_today"]
    assert left == PLENTY.daily_tokens - PROMPT_TOKENS - 2


def test_a_client_that_leaves_while_it_waits_stops_the_engine(edge: Edge) -> None:
    key = edge.key("legal")
    with pytest.raises(httpx.ReadTimeout):
        edge.http.post(
            f"{edge.url}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "stall"}]},
            headers=bearer(key),
            timeout=0.5,
        )
    eventually(lambda: edge.engine.aborted == 1)
    eventually(lambda: usage(edge, "partial") == [(0, 0)])
    assert edge.get("/v1/whoami", key).json()["tokens_left_today"] == PLENTY.daily_tokens


def test_nothing_is_answered_while_nothing_can_be_recorded(careful: Edge) -> None:
    key = careful.key("legal")
    assert careful.chat(key).status_code == 200
    with careful.services.db.write() as session:
        session.execute(text("ALTER TABLE usage RENAME TO usage_gone"))
    asked = len(careful.engine.requests)
    answer = careful.chat(key)
    assert is_error(answer, 503, "unavailable")
    assert "x-param-receipt" not in answer.headers
    assert is_error(careful.chat(key), 503, "unavailable")
    assert len(careful.engine.requests) == asked + 1  # the second one never reached the engine
    assert careful.get("/readyz").json()["checks"]["writer"] is False
    with careful.services.db.write() as session:
        session.execute(text("ALTER TABLE usage_gone RENAME TO usage"))
    eventually(lambda: careful.chat(key).status_code == 200)
    assert careful.get("/readyz").status_code == 200
    careful.assert_log_holds()


def test_a_stream_whose_record_fails_ends_without_receipt_and_end(careful: Edge) -> None:
    key = careful.key("legal")
    with careful.services.db.write() as session:
        session.execute(text("ALTER TABLE usage RENAME TO usage_gone"))
    answer = careful.chat(key, stream=True)
    with careful.services.db.write() as session:
        session.execute(text("ALTER TABLE usage_gone RENAME TO usage"))
    assert b": receipt" not in answer.content
    assert b"[DONE]" not in answer.content
    assert b"could not be recorded" in answer.content


def test_bodies_that_are_too_large_or_no_json_are_refused(edge: Edge) -> None:
    key = edge.key("legal")
    url = f"{edge.url}/v1/chat/completions"
    for content, status, code in (
        (b"x" * (10 * 1024 * 1024 + 1), 413, "too_large"),
        (b"{", 400, "invalid_input"),
        (b'{"messages": "\xff"}', 400, "invalid_input"),
        (b"", 400, "invalid_input"),
    ):
        answer = edge.http.post(url, content=content, headers=bearer(key))
        assert is_error(answer, status, code)
        assert answer.headers["x-request-id"]

    def endless() -> object:
        for _ in range(11):
            yield b"x" * (1 << 20)

    answer = httpx.post(url, content=endless(), headers=bearer(key), timeout=30)  # type: ignore[arg-type]
    assert is_error(answer, 413, "too_large")
    assert edge.engine.requests == []


def test_a_prompt_of_nearly_ten_megabytes_passes(edge: Edge) -> None:
    assert edge.chat(edge.key("legal"), "x" * (10 * 1024 * 1024 - 200)).status_code == 200


def test_a_body_in_many_pieces_is_one_body(edge: Edge) -> None:
    key = edge.key("legal")
    whole = json.dumps({"messages": HELLO}).encode()
    answer = edge.http.post(
        f"{edge.url}/v1/chat/completions",
        content=(whole[n : n + 3] for n in range(0, len(whole), 3)),
        headers=bearer(key),
    )
    assert answer.status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(edge: Edge) -> None:
    key = edge.key("legal")
    host, port = edge.url.removeprefix("http://").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    for _ in range(3):
        with socket.create_connection((host, int(port))) as wire:
            wire.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())
    assert edge.chat(key).status_code == 200
    assert edge.app is not None
    eventually(lambda: edge.app.gateway.chat.in_flight == 0)  # type: ignore[union-attr]


def test_events_of_other_processes_are_put_in_sequence(edge: Edge) -> None:
    edge.key("legal")
    eventually(lambda: "key.created" in edge.actions())
