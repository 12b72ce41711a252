"""The embedded engine's own manners, in process: fields, limits, names, counters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.inference.engine.app import MAX_BODY_BYTES, build_app, engine_app
from services.inference.engine.engine import Engine, Options
from services.inference.engine.model import LanguageModel
from services.inference.models import BaseModel
from services.registry.digest import adapter_digest
from services.settings import load
from tests.models import make_adapter

CHAT = "/v1/chat/completions"
LIMITS = Options(max_model_len=128, max_running=1, max_waiting=2, adapters_mb=1)


@pytest_asyncio.fixture
async def engine(
    tiny_model: BaseModel, tiny_language_model: LanguageModel
) -> AsyncIterator[Engine]:
    found = Engine(tiny_model, tiny_language_model, LIMITS)
    yield found
    await asyncio.to_thread(found.scheduler.stop)


@pytest_asyncio.fixture
async def client(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(engine_app(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as found:
        yield found


def chat(**change: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": "hello"}]
    return {"messages": turns, "max_tokens": 4, "temperature": 0, **change}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"messages": "hello"}, "messages"),
    ],
)
async def test_a_field_that_cannot_be_used_is_named(
    client: httpx.AsyncClient, change: dict[str, Any], field: str
) -> None:
    answer = await client.post(CHAT, json=chat(**change))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("BadRequestError", 400, field)
    assert error["message"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2},
        {"logprobs": True},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"logit_bias": {"5": 1}},
        {"min_p": 0.5},
        {"stream_options": {"include_usage": True}},
    ],
)
async def test_what_would_have_to_be_ignored_is_refused(
    client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    answer = await client.post(CHAT, json=chat(**change))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].strip()


async def test_fields_that_ask_for_nothing_are_accepted(client: httpx.AsyncClient) -> None:
    nothing = {
        "n": 1,
        "logprobs": False,
        "tools": [],
        "user": "someone",
        "response_format": {"type": "text"},
        "presence_penalty": None,
        "stop": None,
        "stream": None,
        "seed": None,
    }
    assert (await client.post(CHAT, json=chat(**nothing))).status_code == 200


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user"}],
        [{"content": "hi"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    ],
)
async def test_turns_that_are_not_text_are_refused(
    client: httpx.AsyncClient, messages: list[Any]
) -> None:
    answer = await client.post(CHAT, json=chat(messages=messages))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("messages")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
async def test_what_is_no_json_object_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(CHAT, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)


async def test_a_request_without_end_is_cut_off(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, content=b" " * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize("prompt", [None, "", [], ["a", "b"], [[1], [2]], [10**9], [True]])
async def test_completions_take_one_prompt(client: httpx.AsyncClient, prompt: Any) -> None:
    answer = await client.post("/v1/completions", json={"prompt": prompt})
    assert answer.status_code == 400


async def test_a_path_that_is_not_there_is_answered_in_the_same_shape(
    client: httpx.AsyncClient,
) -> None:
    for answer in (await client.get("/v1/none"), await client.get(CHAT)):
        assert answer.status_code in {404, 405}
        assert answer.json()["error"]["code"] == answer.status_code


async def test_a_full_engine_answers_503(client: httpx.AsyncClient, engine: Engine) -> None:
    long = chat(max_tokens=100, ignore_eos=True)
    running = [asyncio.create_task(client.post(CHAT, json=long))]
    while engine.scheduler.running == 0:
        await asyncio.sleep(0.001)
    running.append(asyncio.create_task(client.post(CHAT, json=long)))
    while engine.scheduler.waiting == 0:
        await asyncio.sleep(0.001)
    refused = await client.post(CHAT, json=long)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "ServiceUnavailableError"
    assert {answer.status_code for answer in await asyncio.gather(*running)} == {200}


async def load_adapter(client: httpx.AsyncClient, name: str, path: Path) -> httpx.Response:
    body = {"lora_name": name, "lora_path": str(path)}
    return await client.post("/v1/load_lora_adapter", json=body)


async def test_a_name_that_promises_other_weights_is_refused(
    client: httpx.AsyncClient, tiny_model: BaseModel, tmp_path: Path
) -> None:
    folder = make_adapter(tiny_model.path, tmp_path / "adapter")
    digest = adapter_digest(folder)[:12]
    assert (await load_adapter(client, f"legal-{digest}", folder)).status_code == 200
    wrong = await load_adapter(client, "legal-000000000000", folder)
    assert wrong.status_code == 400
    assert wrong.json()["error"]["message"] == (
        f"adapter 'legal-000000000000': expected weights of digest 000000000000…, found {digest}…: "
        "these are not the weights that were registered under this name"
    )
    names = [row["id"] for row in (await client.get("/v1/models")).json()["data"]]
    assert names == [tiny_model.name, f"legal-{digest}"]


async def test_adapters_stay_within_their_memory(
    client: httpx.AsyncClient, tiny_model: BaseModel, tmp_path: Path
) -> None:
    folder = make_adapter(tiny_model.path, tmp_path / "adapter", rank=64)
    answers = [await load_adapter(client, f"a{number}", folder) for number in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 400]
    assert "unload some" in answers[-1].json()["error"]["message"]
    await client.post("/v1/unload_lora_adapter", json={"lora_name": "a0"})
    assert (await load_adapter(client, "a5", folder)).status_code == 200


async def test_an_adapter_that_is_unloaded_serves_those_who_have_it(
    client: httpx.AsyncClient, engine: Engine, tiny_model: BaseModel, tmp_path: Path
) -> None:
    await load_adapter(client, "one", make_adapter(tiny_model.path, tmp_path / "adapter"))
    asked = chat(model="one", max_tokens=100, ignore_eos=True)
    whole = (await client.post(CHAT, json=asked)).json()["choices"][0]["message"]["content"]
    running = asyncio.create_task(client.post(CHAT, json=asked))
    while engine.scheduler.running == 0:
        await asyncio.sleep(0.001)
    engine.unload_adapter("one")
    assert (await client.post(CHAT, json=asked)).status_code == 404
    answer = await running
    assert answer.json()["choices"][0]["message"]["content"] == whole


async def test_counters_tell_what_happened(client: httpx.AsyncClient, engine: Engine) -> None:
    await client.post(CHAT, json=chat(ignore_eos=True))
    text = (await client.get("/metrics")).text
    name = engine.base.name
    for line in (
        f'vllm:num_requests_waiting{{model_name="{name}"}} 0.0',
        f'vllm:generation_tokens_total{{model_name="{name}"}} 4.0',
        f'vllm:request_success_total{{finished_reason="length",model_name="{name}"}} 1.0',
    ):
        assert line in text


async def test_a_pass_that_fails_is_answered_500(
    client: httpx.AsyncClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine.scheduler._model, "run", broken)
    answer = await client.post(CHAT, json=chat())
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "InternalServerError")
    stream = (await client.post(CHAT, json=chat(stream=True))).text
    events = [line.removeprefix("data: ") for line in stream.split("\n\n") if line]
    assert json.loads(events[0])["error"]["code"] == 500
    assert events[1:] == ["[DONE]"]


def test_the_application_is_built_from_settings(tiny_model: BaseModel, tmp_path: Path) -> None:
    environ = {"PARAM_BASE_MODEL": str(tiny_model.path), "PARAM_HOME": str(tmp_path)}
    app = build_app(load(environ, directory=tmp_path), LIMITS)
    assert CHAT in [getattr(route, "path", "") for route in app.routes]
