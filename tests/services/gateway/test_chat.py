import json
from hashlib import sha256

import openai
import pytest

from services.attestation.receipts import verify
from services.rollouts.assign import assign
from services.rollouts.models import Arm
from services.tenants.models import Limits
from tests.fakes.engine import BASE, PROMPT_TOKENS
from tests.services.gateway.conftest import HELLO, SYSTEM, Edge, eventually


def client(edge: Edge, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{edge.url}/v1", api_key=key, max_retries=0)


def test_a_wrong_key_is_refused_in_openais_shape(edge: Edge) -> None:
    for key in (None, "pk_wrong", "pk_" + "a" * 43):
        answer = edge.chat(key)
        assert answer.status_code == 401
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "code", "param"}
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert answer.headers["x-request-id"]
    with pytest.raises(openai.AuthenticationError):
        client(edge, "pk_wrong").chat.completions.create(model="x", messages=HELLO)
    assert edge.engine.requests == []


def test_a_foreign_or_unknown_model_is_not_told_apart(edge: Edge) -> None:
    legal, medical = edge.key("legal"), edge.key("medical")
    mine = edge.adapter("legal", 1)
    assert edge.chat(legal, model=mine).headers["x-param-arm"] == "pinned"
    names = [mine, "medical-000000000000", "legal", "../legal", "..%2f", "fake-base", "x" * 5000]
    for name in names:
        answer = edge.chat(medical, model=name)
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert error["code"] == "model_not_found"
        assert error["message"] == (
            f"The model {name[:200]!r} does not exist or you do not have access to it."
        )
    assert {request["model"] for request in edge.engine.requests} == {mine}


def test_the_openai_client_gets_an_answer_with_a_receipt_that_holds(edge: Edge) -> None:
    key = edge.key("legal")
    for model in ("legal", "default", ""):
        raw = client(edge, key).chat.completions.with_raw_response.create(
            model=model, messages=HELLO, max_tokens=3
        )
        answer = raw.parse()
        assert answer.choices[0].message.content == f"Hello from {BASE} w1 w2"
        assert answer.model == BASE
        assert answer.usage is not None
        assert answer.usage.total_tokens == PROMPT_TOKENS + 3
        assert raw.headers["x-param-arm"] == "stable"
        assert raw.headers["x-param-model"] == "smollm2-135m-instruct"
        document = edge.get(f"/v1/receipts/{raw.headers['x-param-receipt']}", key).json()
        found = verify(
            document["envelope"],
            edge.get("/.well-known/jwks.json").json(),
            request=raw.http_request.content,
            response=raw.content,
            salt=bytes.fromhex(document["salt"]),
        )
        assert found.holds
        predicate = found.statement["predicate"]
        assert predicate["cost"]["micro"] == raw.headers["x-param-cost-micro"]
        assert predicate["usage"] == {"promptTokens": "7", "completionTokens": "3"}
        assert predicate["model"]["alias"] == "legal"


def test_a_stream_ends_with_a_receipt_of_exactly_its_bytes(edge: Edge) -> None:
    key = edge.key("legal")
    answer = edge.chat(key, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    body, mark, end = answer.content.partition(b": receipt ")
    assert mark
    receipt_id, _, rest = end.partition(b"\n\n")
    assert rest == b"data: [DONE]\n\n"
    assert receipt_id.decode() == answer.headers["x-request-id"]
    assert b'"usage"' not in body  # not asked for
    document = edge.get(f"/v1/receipts/{receipt_id.decode()}", key).json()
    found = verify(
        document["envelope"],
        edge.get("/.well-known/jwks.json").json(),
        request=answer.request.content,
        response=body,
        salt=bytes.fromhex(document["salt"]),
    )
    assert found.holds
    assert found.statement["predicate"]["response"]["partial"] is False


def test_the_openai_client_streams_past_the_comment_and_gets_its_usage(edge: Edge) -> None:
    chunks = list(
        client(edge, edge.key("legal")).chat.completions.create(
            model="legal", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == f"Hello from {BASE} w1 w2 w3 w4"
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


async def test_the_asynchronous_openai_client_streams(edge: Edge) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{edge.url}/v1", api_key=edge.key("legal"), max_retries=0
    ) as client:
        stream = await client.chat.completions.create(model="", messages=HELLO, stream=True)
        words = [chunk.choices[0].delta.content async for chunk in stream]
    assert "".join(word or "" for word in words) == f"Hello from {BASE} w1 w2 w3 w4"


def test_each_request_leaves_usage_log_entry_and_receipt(edge: Edge) -> None:
    key = edge.key("legal")
    answers = [edge.chat(key), edge.chat(key, stream=True)]
    usage = edge.services.metering.usage_rows(SYSTEM, "legal")
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert [row.request_id for row in reversed(usage)] == ids
    assert {(row.prompt_tokens, row.completion_tokens, row.status) for row in usage} == {
        (PROMPT_TOKENS, 5, "ok")
    }
    assert usage[0].ttft_ms is not None
    assert usage[1].ttft_ms is None
    entries = edge.services.audit.entries(SYSTEM, "legal", action="inference.")
    assert [entry.subject for entry in entries] == [f"request:{one}" for one in ids]
    for answer, entry in zip(answers, entries, strict=True):
        receipt = edge.services.receipts.get(SYSTEM, answer.headers["x-request-id"])
        assert edge.services.receipts.verify(receipt.envelope).holds
        assert "hello" not in json.dumps(entry.details).lower()
    assert edge.services.audit.verify().size >= 2


def test_unknown_fields_reach_the_engine_and_the_maximum_is_explicit(edge: Edge) -> None:
    key = edge.key("legal")
    edge.chat(key, seed=7, tools=[], odd={"a": 1}, max_completion_tokens=4)
    edge.chat(key)
    first, second = edge.engine.requests
    assert (first["seed"], first["odd"], first["max_tokens"]) == (7, {"a": 1}, 4)
    assert second["max_tokens"] == 1024


def test_a_long_prompt_gets_no_maximum_that_would_not_fit(edge: Edge) -> None:
    assert edge.chat(edge.key("legal"), "x" * 1500).status_code == 200
    assert "max_tokens" not in edge.engine.requests[0]


def test_the_split_is_sticky_and_follows_the_rollout_without_a_restart(edge: Edge) -> None:
    key, candidate = edge.key("legal"), edge.adapter("legal", 1)
    rollout = edge.services.rollouts.start(SYSTEM, "legal", "legal", candidate, percent=50)
    eventually(lambda: candidate in edge.engine.adapters)
    route = edge.services.rollouts.routes()["legal", "legal"]
    for number in range(12):
        user = f"user-{number}"
        expected = assign(route, user).value
        for answer in (
            edge.chat(key, user=user),
            edge.chat(key, headers={"x-param-user": user}, user="somebody else"),
            edge.chat(key, headers={"x-param-conversation": user}),
        ):
            assert answer.headers["x-param-arm"] == expected
            served = candidate if expected == Arm.CANARY else "smollm2-135m-instruct"
            assert answer.headers["x-param-model"] == served
    without = {edge.chat(key).headers["x-param-arm"] for _ in range(3)}
    assert len(without) == 1  # the key itself is the subject
    edge.services.rollouts.step(SYSTEM, rollout.id, 100)
    eventually(lambda: edge.chat(key).headers["x-param-arm"] == "canary")
    edge.services.rollouts.rollback(SYSTEM, rollout.id, reason="test")
    eventually(lambda: edge.chat(key).headers["x-param-arm"] == "stable")
    traffic = edge.services.rollouts.traffic(SYSTEM, rollout.id)
    usage = edge.services.metering.usage_rows(SYSTEM, "legal")
    assert traffic.canary.requests == sum(row.arm == "canary" for row in usage)
    assert traffic.stable.requests > 0


def test_a_receipt_names_the_adapter_its_digest_and_the_arm(edge: Edge) -> None:
    key, candidate = edge.key("legal"), edge.adapter("legal", 1)
    rollout = edge.services.rollouts.start(SYSTEM, "legal", "legal", candidate, percent=100)
    eventually(lambda: edge.chat(key).headers["x-param-arm"] == "canary")
    answer = edge.chat(key)
    stored = edge.services.receipts.get(SYSTEM, answer.headers["x-param-receipt"])
    predicate = edge.services.receipts.verify(stored.envelope).statement["predicate"]
    digest = edge.services.registry.get(SYSTEM, "legal", candidate).digest
    assert predicate["model"] == {
        "alias": "legal",
        "served": candidate,
        "base": {"name": "fake-base", "digest": {"sha256": "b" * 64}},
        "adapter": {"name": candidate, "digest": {"sha256": digest}},
    }
    assert predicate["rollout"] == {"id": rollout.id, "arm": "canary", "percent": "100"}
    assert answer.json()["model"] == candidate


def test_a_key_works_from_the_moment_it_is_shown(edge: Edge) -> None:
    edge.key("legal")
    for number in range(3):
        issued = edge.services.tenants.create_key(SYSTEM, "legal", f"fresh {number}")
        assert edge.chat(issued.key).status_code == 200


def test_a_key_revoked_stops_working_without_a_restart(edge: Edge) -> None:
    key = edge.key("legal")
    assert edge.chat(key).status_code == 200
    [info] = edge.services.tenants.list_keys(SYSTEM, "legal")
    edge.services.tenants.revoke_key(SYSTEM, "legal", info.id)
    eventually(lambda: edge.chat(key).status_code == 401)


def test_too_many_requests_are_told_when_to_come_back(edge: Edge) -> None:
    key = edge.key("legal", Limits(tps=1000, rpm=3, daily_tokens=10**6))
    answers = [edge.chat(key) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 61
    assert answers[-1].headers["x-ratelimit-remaining-requests"] == "0"
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "2"
    assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
    with pytest.raises(openai.RateLimitError):
        client(edge, key).chat.completions.create(model="", messages=HELLO)


def test_the_salt_goes_only_to_the_key_that_had_asked(edge: Edge) -> None:
    key, other, stranger = edge.key("legal"), edge.key("legal"), edge.key("medical")
    receipt = edge.chat(key).headers["x-param-receipt"]
    assert edge.get(f"/v1/receipts/{receipt}", key).json()["salt"]
    assert edge.get(f"/v1/receipts/{receipt}", other).json()["salt"] is None
    assert edge.get(f"/v1/receipts/{receipt}", stranger).status_code == 404
    assert edge.get(f"/v1/receipts/{receipt}").status_code == 401
    assert edge.get("/v1/receipts/..%2f..%2fetc", key).status_code == 404


def test_a_receipt_binds_the_exact_bytes_and_reveals_no_digest_of_them(edge: Edge) -> None:
    key = edge.key("legal")
    answer = edge.chat(key)
    document = edge.get(f"/v1/receipts/{answer.headers['x-param-receipt']}", key).json()
    found = verify(
        document["envelope"],
        edge.get("/.well-known/jwks.json").json(),
        request=answer.request.content,
        response=answer.content + b" ",
        salt=bytes.fromhex(document["salt"]),
    )
    assert not found.holds
    assert [check.name for check in found.checks if not check.ok] == ["response"]
    assert sha256(answer.content).hexdigest() not in json.dumps(document)
