"""What every engine does, embedded or vLLM: the gateway and the console rely on nothing else."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from services.errors import DigestMismatch, EngineUnavailable, InvalidInput, NotFound
from services.inference.client import EngineClient
from services.registry.digest import adapter_digest
from tests.conftest import free_port
from tests.models import make_adapter
from tests.services.inference import engines
from tests.services.inference.engines import CONTEXT, RunningEngine

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
QUESTION = "Türkiye'nin başkenti neresidir? 🎉 Say it in one sentence."


@pytest.fixture(
    scope="session",
    params=[
        "embedded",
        pytest.param("embedded-base", marks=[pytest.mark.model, pytest.mark.slow]),
        pytest.param("vllm", marks=[pytest.mark.model, pytest.mark.vllm, pytest.mark.slow]),
    ],
)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningEngine]:
    """A real process; the embedded one over the tiny model, and both over the real base."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        tiny = request.getfixturevalue("tiny_model")
        with engines.embedded(tiny, folder, strength=0.3) as found:
            yield found
        return
    if request.param == "vllm":
        engines.vllm_python()
    start = engines.vllm if request.param == "vllm" else engines.embedded
    with start(request.getfixturevalue("base_model"), folder, strength=0.1) as found:
        yield found


@pytest.fixture
def http(engine: RunningEngine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.url, timeout=120, trust_env=False) as client:
        yield client


@pytest.fixture
def adapters(engine: RunningEngine, http: httpx.Client, tmp_path: Path) -> Iterator[list[Path]]:
    """Two adapters on disk; what a test has loaded is unloaded after it."""
    make = [
        make_adapter(
            engine.base.path, tmp_path / f"adapter{seed}", seed=seed, strength=engine.strength
        )
        for seed in (1, 2)
    ]
    yield make
    for row in http.get("/v1/models").json()["data"]:
        if row["parent"] is not None:
            http.post(UNLOAD, json={"lora_name": row["id"]}).raise_for_status()


def chat(**change: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": QUESTION}]
    asked = {"messages": turns, "max_tokens": 12, "temperature": 0, "ignore_eos": True, **change}
    return {name: value for name, value in asked.items() if value is not None}


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    text: str = choice["message"]["content"] if "message" in choice else choice["text"]
    return text


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def joined(events: list[dict[str, Any]]) -> str:
    choices = [event["choices"][0] for event in events if event["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def names(http: httpx.Client) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in http.get("/v1/models").json()["data"]}


# --- answers


def test_it_is_well_and_lists_its_base_model(engine: RunningEngine, http: httpx.Client) -> None:
    assert http.get("/health").status_code == 200
    assert http.get("/version").json()["version"]
    rows = names(http)
    assert list(rows) == [engine.base.name]
    row = rows[engine.base.name]
    assert (row["object"], row["parent"], row["root"]) == ("model", None, str(engine.base.path))
    assert row["max_model_len"] == CONTEXT


def test_an_answer_has_its_parts_and_counts(engine: RunningEngine, http: httpx.Client) -> None:
    body = http.post(CHAT, json=chat(model=engine.base.name)).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == engine.base.name
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert (choice["index"], choice["message"]["role"]) == (0, "assistant")
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", None)
    usage = body["usage"]
    assert usage["completion_tokens"] == 12
    assert usage["prompt_tokens"] > 10
    assert usage["total_tokens"] == usage["prompt_tokens"] + 12


def test_without_a_model_name_the_base_answers(engine: RunningEngine, http: httpx.Client) -> None:
    assert http.post(CHAT, json=chat()).json()["model"] == engine.base.name


def test_content_may_come_in_text_parts(http: httpx.Client) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    assert text_of(http.post(CHAT, json=chat(messages=parts))) == text_of(
        http.post(CHAT, json=chat())
    )


def test_a_completion_continues_text_or_tokens(engine: RunningEngine, http: httpx.Client) -> None:
    asked = {"model": engine.base.name, "prompt": "Merhaba", "temperature": 0, "ignore_eos": True}
    body = http.post(COMPLETION, json=asked).json()
    assert (body["object"], body["usage"]["completion_tokens"]) == ("text_completion", 16)
    assert body["id"].startswith("cmpl-")
    assert body["choices"][0]["finish_reason"] == "length"
    tokens = {**asked, "prompt": [5, 6, 7], "max_tokens": 3}
    assert http.post(COMPLETION, json=tokens).json()["usage"]["prompt_tokens"] == 3


def test_the_answer_is_cut_where_the_context_ends(http: httpx.Client) -> None:
    asked = {"prompt": [5] * (CONTEXT - 8), "max_tokens": CONTEXT, "ignore_eos": True}
    usage = http.post(COMPLETION, json=asked).json()["usage"]
    assert (usage["completion_tokens"], usage["total_tokens"]) == (8, CONTEXT)


# --- drawing


def test_temperature_zero_repeats_itself(http: httpx.Client) -> None:
    assert len({text_of(http.post(CHAT, json=chat())) for _ in range(3)}) == 1


def test_a_seed_repeats_an_answer_and_another_seed_does_not(http: httpx.Client) -> None:
    def draw(seed: int) -> str:
        return text_of(http.post(CHAT, json=chat(temperature=1.0, seed=seed)))

    assert draw(7) == draw(7)
    assert len({draw(seed) for seed in (7, 8, 9)}) == 3


def test_top_p_near_zero_is_greedy(http: httpx.Client) -> None:
    asked = chat(temperature=1.0, top_p=1e-6)
    assert text_of(http.post(CHAT, json=asked)) == text_of(http.post(CHAT, json=chat()))


# --- streams


def test_a_stream_says_what_a_whole_answer_says(engine: RunningEngine, http: httpx.Client) -> None:
    events = events_of(http.post(CHAT, json=chat(stream=True)))
    assert joined(events) == text_of(http.post(CHAT, json=chat()))
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert {event["model"] for event in events} == {engine.base.name}
    assert len({event["id"] for event in events}) == 1
    first, last = events[0]["choices"][0], events[-1]["choices"][0]
    assert (first["delta"]["role"], first["finish_reason"]) == ("assistant", None)
    assert last["finish_reason"] == "length"
    assert all(event["choices"][0]["finish_reason"] is None for event in events[:-1])
    assert not any(event.get("usage") for event in events)


def test_a_streamed_completion_says_the_same(http: httpx.Client) -> None:
    asked = {"prompt": "Merhaba", "temperature": 0, "max_tokens": 8, "ignore_eos": True}
    events = events_of(http.post(COMPLETION, json={**asked, "stream": True}))
    text = "".join(event["choices"][0]["text"] for event in events)
    assert text == text_of(http.post(COMPLETION, json=asked))
    assert events[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_usage_comes_last_when_asked_for(http: httpx.Client, path: str) -> None:
    asked = chat(prompt="Merhaba") if path == COMPLETION else chat()
    if path == COMPLETION:
        del asked["messages"]
    stream = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    events = events_of(http.post(path, json=stream))
    assert events[-1]["choices"] == []
    whole = http.post(path, json=asked).json()["usage"]
    assert {name: events[-1]["usage"][name] for name in COUNTS} == {
        name: whole[name] for name in COUNTS
    }
    assert not any(event.get("usage") for event in events[:-1])


COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def test_usage_comes_with_every_chunk_when_asked_for(http: httpx.Client) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = events_of(http.post(CHAT, json=chat(stream=True, stream_options=options)))
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == 12
    assert len({event["usage"]["prompt_tokens"] for event in events}) == 1


# --- stop strings


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer_wherever_tokens_split_it(
    http: httpx.Client, stream: bool
) -> None:
    whole = text_of(http.post(CHAT, json=chat(max_tokens=24)))
    stop = whole[len(whole) // 2 : len(whole) // 2 + 5]
    asked = chat(max_tokens=24, stop=["never said", stop])
    if stream:
        events = events_of(http.post(CHAT, json={**asked, "stream": True}))
        text, last = joined(events), events[-1]["choices"][0]
    else:
        answer = http.post(CHAT, json=asked)
        text, last = text_of(answer), answer.json()["choices"][0]
    assert text == whole[: whole.find(stop)]
    assert (last["finish_reason"], last["stop_reason"]) == ("stop", stop)


# --- refusals


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "no-such-model"}, 404),
        ({"model": "no-such-model", "stream": True}, 404),
        ({"messages": None}, 400),
        ({"messages": []}, 400),
        ({"messages": "hello"}, 400),
        ({"messages": [{"role": "user", "content": "uzun " * 3 * CONTEXT}]}, 400),
        ({"max_tokens": 0}, 400),
        ({"max_tokens": CONTEXT + 1}, 400),
        ({"max_tokens": "many"}, 400),
        ({"temperature": -1}, 400),
        ({"temperature": 3}, 400),
        ({"top_p": 0}, 400),
        ({"n": 0}, 400),
        ({"n": 2}, 400),
        ({"stop": [""]}, 400),
        ({"stream_options": {"include_usage": True}}, 400),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(
    http: httpx.Client, change: dict[str, Any], status: int
) -> None:
    answer = http.post(CHAT, json=chat(**change))
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == status
    assert error["message"]
    assert set(error) >= {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"{", b"[]", b'"hello"'])
def test_a_body_that_is_no_object_is_refused(http: httpx.Client, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = http.post(CHAT, content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)


@pytest.mark.parametrize("prompt", [None, ""])
def test_an_empty_prompt_is_refused(http: httpx.Client, prompt: str | None) -> None:
    assert http.post(COMPLETION, json={"prompt": prompt, "max_tokens": 1}).status_code == 400


# --- adapters


def load(http: httpx.Client, name: str, path: Path | str, **more: Any) -> httpx.Response:
    return http.post(LOAD, json={"lora_name": name, "lora_path": str(path), **more})


def test_an_adapter_is_loaded_answers_and_is_unloaded(
    engine: RunningEngine, http: httpx.Client, adapters: list[Path]
) -> None:
    assert http.post(CHAT, json=chat(model="one")).status_code == 404
    assert load(http, "one", adapters[0]).status_code == 200
    row = names(http)["one"]
    assert (row["parent"], row["root"]) == (engine.base.name, str(adapters[0]))
    answer = http.post(CHAT, json=chat(model="one"))
    assert answer.json()["model"] == "one"
    assert text_of(answer) != text_of(http.post(CHAT, json=chat()))
    assert http.post(UNLOAD, json={"lora_name": "one"}).status_code == 200
    assert list(names(http)) == [engine.base.name]
    assert http.post(CHAT, json=chat(model="one")).status_code == 404
    assert http.post(UNLOAD, json={"lora_name": "one"}).status_code == 404


def test_a_name_that_is_taken_is_refused_unless_in_place(
    http: httpx.Client, adapters: list[Path]
) -> None:
    assert load(http, "one", adapters[0]).status_code == 200
    before = text_of(http.post(CHAT, json=chat(model="one")))
    assert load(http, "one", adapters[1]).status_code == 400
    assert text_of(http.post(CHAT, json=chat(model="one"))) == before
    assert load(http, "one", adapters[1], load_inplace=True).status_code == 200
    assert names(http)["one"]["root"] == str(adapters[1])
    assert text_of(http.post(CHAT, json=chat(model="one"))) != before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"lora_name": "x", "lora_path": "/nowhere"}, 404),
        ({"lora_name": "", "lora_path": ""}, 400),
        ({"lora_name": "x"}, 400),
    ],
)
def test_an_adapter_that_is_not_there_is_refused(
    engine: RunningEngine, http: httpx.Client, body: dict[str, str], status: int
) -> None:
    answer = http.post(LOAD, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert list(names(http)) == [engine.base.name]


def test_the_base_models_name_cannot_be_taken(
    engine: RunningEngine, http: httpx.Client, adapters: list[Path]
) -> None:
    assert load(http, engine.base.name, adapters[0]).status_code == 400


def test_an_adapter_with_a_feature_that_is_not_served_is_refused_and_nothing_breaks(
    engine: RunningEngine, http: httpx.Client, adapters: list[Path]
) -> None:
    config = adapters[0] / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_dora": True}))
    answer = load(http, "dora", adapters[0])
    assert answer.status_code in {400, 500}
    assert answer.json()["error"]["message"]
    assert list(names(http)) == [engine.base.name]
    assert http.post(CHAT, json=chat()).status_code == 200


def test_answers_of_several_adapters_at_once_are_those_of_each_alone(
    http: httpx.Client, adapters: list[Path]
) -> None:
    load(http, "one", adapters[0]).raise_for_status()
    load(http, "two", adapters[1]).raise_for_status()
    asked = [chat(model=model, max_tokens=8) for model in (None, "one", "two", "one")]
    alone = [text_of(http.post(CHAT, json=body)) for body in asked]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda body: text_of(http.post(CHAT, json=body)), asked))
    assert together == alone
    assert len(set(together)) == 3


def test_loading_an_adapter_does_not_disturb_an_answer(
    http: httpx.Client, adapters: list[Path]
) -> None:
    asked = chat(max_tokens=40)
    alone = text_of(http.post(CHAT, json=asked))
    started, got = threading.Event(), []

    def listen() -> None:
        with http.stream("POST", CHAT, json={**asked, "stream": True}) as answer:
            for line in answer.iter_lines():
                got.append(line)
                if len(got) > 6:
                    started.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert started.wait(60)
    for name, path in (("one", adapters[0]), ("two", adapters[1])):
        load(http, name, path).raise_for_status()
    http.post(UNLOAD, json={"lora_name": "one"}).raise_for_status()
    listener.join()
    lines = [line.removeprefix("data: ") for line in got if line]
    assert lines[-1] == "[DONE]"
    assert joined([json.loads(line) for line in lines[:-1]]) == alone


# --- clients that leave


def running(http: httpx.Client) -> float:
    found = re.search(r"^vllm:num_requests_running\{.*\} (\S+)$", http.get("/metrics").text, re.M)
    assert found is not None
    return float(found[1])


def wait_until_idle(http: httpx.Client, *, at_most_s: float) -> None:
    deadline = time.monotonic() + at_most_s
    while running(http) > 0:
        assert time.monotonic() < deadline, "the engine goes on for a client that has left"
        time.sleep(0.05)


def test_a_client_that_leaves_a_stream_ends_its_generation(http: httpx.Client) -> None:
    asked = chat(max_tokens=CONTEXT, stream=True)
    with http.stream("POST", CHAT, json=asked) as answer:
        lines = answer.iter_lines()
        for _ in range(4):
            next(lines)
    wait_until_idle(http, at_most_s=3)


def test_a_client_that_leaves_before_its_answer_ends_its_generation(
    engine: RunningEngine, http: httpx.Client
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(engine.url + CHAT, json=chat(max_tokens=CONTEXT), timeout=0.3, trust_env=False)
    wait_until_idle(http, at_most_s=3)


# --- clients


def test_the_openai_library_speaks_to_it(engine: RunningEngine) -> None:
    with openai.OpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [engine.base.name]
        asked: Any = {
            "model": engine.base.name,
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": 8,
            "temperature": 0,
            "extra_body": {"ignore_eos": True},
        }
        whole = client.chat.completions.create(**asked)
        stream = client.chat.completions.create(**asked, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == whole.choices[0].message.content
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(**{**asked, "model": "no-such-model"})


@pytest.fixture
def client(engine: RunningEngine) -> Iterator[EngineClient]:
    found = EngineClient(engine.url)
    yield found
    found.close()


def test_our_client_asks_and_lists(engine: RunningEngine, client: EngineClient) -> None:
    client.health()
    (model,) = client.models()
    assert (model.id, model.parent) == (engine.base.name, None)
    turns = [{"role": "user", "content": QUESTION}]
    answer = client.chat(engine.base.name, turns, max_tokens=5, temperature=0, ignore_eos=True)
    assert (answer.model, answer.completion_tokens) == (engine.base.name, 5)
    assert answer.finish_reason == "length"
    with pytest.raises(NotFound, match="no-such-model"):
        client.chat("no-such-model", turns)
    with pytest.raises(InvalidInput, match="temperature"):
        client.chat(engine.base.name, turns, temperature=9)


def test_our_client_loads_only_what_the_name_promises(
    client: EngineClient, adapters: list[Path]
) -> None:
    name = f"legal-{adapter_digest(adapters[0])[:12]}"
    with pytest.raises(DigestMismatch, match="expected weights of digest"):
        client.load_adapter(name, adapters[1])
    client.load_adapter(name, adapters[0])
    client.load_adapter(name, adapters[0])
    assert [model.id for model in client.models()][1:] == [name]
    with pytest.raises(InvalidInput, match="already been loaded"):
        client.load_adapter("plain", adapters[0])
        client.load_adapter("plain", adapters[1])
    client.unload_adapter(name)
    with pytest.raises(NotFound):
        client.unload_adapter(name)


def test_our_client_says_that_nobody_is_there() -> None:
    client = EngineClient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(EngineUnavailable, match="start it with: param serve engine"):
        client.health()
    client.close()
