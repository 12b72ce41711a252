"""Full disks, slow disks, engines that stall or die, clients that leave: what docs/operations.md says."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from services.db import Database
from services.gateway import writer as writing
from tests.conftest import require
from tests.fakes.engine import PROMPT_TOKENS, FakeEngine
from tests.services.gateway.conftest import HELLO, SYSTEM, Edge, bearer, edge_over, eventually
from tests.services.gateway.edges import Process, Wire, process_over

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
IMPATIENT = {
    "PARAM_ENGINE_FIRST_BYTE_S": "1", "PARAM_ENGINE_BETWEEN_BYTES_S": "1",
    "PARAM_ENGINE_ANSWER_S": "1", "PARAM_ENGINE_CONNECT_S": "1",
}  # fmt: skip
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@pytest.fixture
def impatient(database: Database, engine: FakeEngine, tmp_path: Path) -> Iterator[Edge]:
    """A gateway that waits for a second, and no longer."""
    with edge_over(database, engine, tmp_path, **IMPATIENT) as edge:
        yield edge


@pytest.fixture
def process(database: Database, engine: FakeEngine, tmp_path: Path) -> Iterator[Process]:
    with process_over(database, engine, tmp_path) as made:
        yield made


def usage(edge: Edge, status: str) -> list[tuple[int, int]]:
    return [
        (row.prompt_tokens, row.completion_tokens)
        for row in edge.services.metering.usage_rows(SYSTEM, "legal", 100)
        if row.status == status
    ]


def chunk(text: str, tokens: int, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    counts = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens}
    return b"data: " + json.dumps({"choices": [choice], "usage": counts}).encode() + b"\n\n"


# A full disk


def test_a_full_disk_refuses_and_loses_nothing_and_ends_by_itself(process: Process) -> None:
    """The kernel refuses every write that would make a file longer, as a full disk does."""
    require(sys.platform == "linux", "prlimit (Linux)")
    edge = process.edge
    key = edge.key("legal")
    good = [edge.chat(key) for _ in range(3)]
    assert [answer.status_code for answer in good] == [200] * 3
    asked = len(edge.engine.requests)
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    refused = [edge.chat(key, stream=stream) for stream in (False, True, False)]
    for answer in refused:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_full")
        assert "is full" in answer.json()["error"]["message"]
    assert edge.get("/healthz").status_code == 200
    assert edge.get("/readyz").json()["checks"]["disk"] is False
    assert len(edge.engine.requests) == asked  # refused before the engine did any work
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    eventually(lambda: edge.chat(key).status_code == 200, 20)
    eventually(lambda: edge.get("/readyz").status_code == 200)
    process.end(signal.SIGTERM)
    log = edge.services.audit
    log.sequence()
    log.verify()
    subjects = {entry.subject for entry in log.entries(SYSTEM, "legal", limit=5000)}
    rows = edge.services.metering.usage_rows(SYSTEM, "legal", 1000)
    assert {f"request:{row.request_id}" for row in rows} <= subjects
    for answer in good:
        assert f"request:{answer.headers['x-param-receipt']}" in subjects


def test_a_disk_that_fills_under_the_database_ends_no_stream_and_signs_nothing(
    careful: Edge,
) -> None:
    key = careful.key("legal")
    assert careful.chat(key).status_code == 200
    careful.disk.is_full = True
    answers: list[httpx.Response] = []

    def has_failed() -> bool:
        answers.append(careful.chat(key, stream=True))
        return answers[-1].status_code == 200 and b"[DONE]" not in answers[-1].content

    eventually(has_failed, 30)  # free room inside of the file is used up first
    assert b": receipt" not in answers[-1].content
    assert b"the disk of the database is full" in answers[-1].content
    asked = len(careful.engine.requests)
    refused = careful.chat(key)
    assert (refused.status_code, len(careful.engine.requests)) == (503, asked)
    assert careful.get("/readyz").json()["checks"]["writer"] is False
    careful.disk.is_full = False
    eventually(lambda: careful.chat(key).status_code == 200)
    recorded = {
        row.request_id for row in careful.services.metering.usage_rows(SYSTEM, "legal", 10_000)
    }
    for answer in answers:
        was_ended = b"[DONE]" in answer.content
        assert (answer.headers["x-request-id"] in recorded) is was_ended
    careful.services.audit.sequence()
    careful.services.audit.verify()


# A slow disk


def test_a_slow_disk_delays_the_end_of_a_stream_and_not_its_beginning(careful: Edge) -> None:
    key = careful.key("legal")
    careful.disk.stall()
    body = {"messages": HELLO, "stream": True}
    url = f"{careful.url}/v1/chat/completions"
    seen: list[str] = []
    with careful.http.stream("POST", url, json=body, headers=bearer(key)) as answer:
        for line in answer.iter_lines():
            seen.append(line)
            if '"finish_reason": "stop"' in line or '"finish_reason":"stop"' in line:
                # Everything that the model said is here while its record is not on disk yet.
                assert careful.disk.waits.wait(10)
                assert not any("receipt" in one or "[DONE]" in one for one in seen)
                careful.disk.free.set()
    assert [line for line in seen if line][-2].startswith(": receipt ")
    assert [line for line in seen if line][-1] == "data: [DONE]"


def test_answers_that_wait_for_a_slow_disk_share_its_next_commit(
    careful: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_WAITING", 4)
    key = careful.key("legal")
    careful.services.audit.sequence()  # so that it is an answer, not the key's event, that stands still
    careful.disk.stall()
    answers: list[httpx.Response] = []

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            answers.append(
                client.post(
                    f"{careful.url}/v1/chat/completions",
                    json={"messages": HELLO},
                    headers=bearer(key),
                )
            )

    assert careful.app is not None
    gateway = careful.app.gateway
    assert gateway is not None
    threads = [threading.Thread(target=ask) for _ in range(4)]
    threads[0].start()
    assert careful.disk.waits.wait(10)  # one commit stands still ...
    for thread in threads[1:]:
        thread.start()
    eventually(lambda: gateway.writer.waiting == 4)  # ... and with it the queue is full
    before = len(careful.engine.requests)
    late = careful.chat(key)
    assert (late.status_code, late.json()["error"]["code"]) == (503, "unavailable")
    assert "wait to be recorded" in late.json()["error"]["message"]
    assert len(careful.engine.requests) == before  # refused before the engine did any work
    careful.disk.free.set()
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(usage(careful, "ok")) == 4


# Engines


def test_an_engine_that_never_begins_is_given_up(impatient: Edge) -> None:
    key = impatient.key("legal")
    answer = impatient.chat(key, "stall")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "in time" in answer.json()["error"]["message"]
    eventually(lambda: impatient.engine.aborted == 1)  # and it is told so
    assert usage(impatient, "error") == [(0, 0)]


def test_a_stream_that_falls_silent_is_ended_and_signed_as_partial(impatient: Edge) -> None:
    key = impatient.key("legal")
    impatient.follow_policy("legal", "version: 1\nchecks: {}\n")
    answer = impatient.chat(key, "stall", stream=True)
    assert answer.status_code == 200
    assert b"[DONE]" not in answer.content
    assert b'"code":"engine_unavailable"' in answer.content
    eventually(lambda: impatient.engine.aborted == 1)
    eventually(lambda: usage(impatient, "partial") == [(PROMPT_TOKENS, 2)])
    stored = impatient.services.receipts.get(SYSTEM, answer.headers["x-request-id"])
    statement = impatient.services.receipts.verify(stored.envelope).statement
    assert statement["predicate"]["response"]["partial"] is True


def test_an_engine_that_accepts_and_says_nothing_is_given_up(
    database: Database, engine: FakeEngine, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        variables = IMPATIENT | {"PARAM_ENGINE_URL": url}
        with edge_over(database, engine, tmp_path, **variables) as edge:
            answer = edge.chat(edge.key("legal"), stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")


@pytest.mark.parametrize(
    "answer",
    [
        [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", b'{"choices": ['],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"not  json"],
        [b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n"],
        [b"HTTP/1.1 204 No Content\r\n\r\n"],
        [b"SSH-2.0-OpenSSH_9.9\r\n"],
        [b""],
    ],
)
def test_an_engine_that_talks_nonsense_is_an_engine_that_failed(
    database: Database, engine: FakeEngine, tmp_path: Path, answer: list[bytes]
) -> None:
    with (
        Wire(answer) as wire,
        edge_over(database, engine, tmp_path, PARAM_ENGINE_URL=wire.url, **IMPATIENT) as edge,
    ):
        found = edge.chat(edge.key("legal"))
        assert (found.status_code, found.json()["error"]["code"]) == (503, "engine_unavailable")
        assert wire.asked == 1  # what was sent once is not sent again


def test_an_engine_that_dies_with_a_request_in_its_hands_is_not_asked_again(
    database: Database, engine: FakeEngine, tmp_path: Path
) -> None:
    dying = [SSE, chunk("Mer", 1), chunk("haba", 2)]
    with (
        Wire(dying) as wire,
        edge_over(database, engine, tmp_path, PARAM_ENGINE_URL=wire.url) as edge,
    ):
        key = edge.key("legal")
        edge.follow_policy("legal", "version: 1\nchecks: {}\n")
        found = edge.chat(key, stream=True)
        assert wire.asked == 1
        assert b"Mer" in found.content
        assert b"[DONE]" not in found.content
        assert usage(edge, "partial") == [(PROMPT_TOKENS, 2)]


def test_a_breaker_opens_under_load_and_the_gateway_answers_at_once(edge: Edge) -> None:
    key = edge.key("legal")
    edge.engine.stop()
    answers = [edge.chat(key) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [503] * 8
    messages = [answer.json()["error"]["message"] for answer in answers]
    assert ["left alone" in message for message in messages] == [False] * 5 + [True] * 3
    left = edge.get("/v1/whoami", key).json()
    assert left["tokens_left_today"] == left["limits"]["daily_tokens"]  # every hold came back


# Clients


def test_clients_that_leave_in_crowds_leave_nothing_behind(edge: Edge) -> None:
    key = edge.key("legal")
    host, port = edge.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": [{"role": "user", "content": "stall"}], "stream": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    crowd = [socket.create_connection((host, int(port))) for _ in range(30)]
    for number, wire in enumerate(crowd):
        wire.sendall(head + (body if number % 3 else body[:10]))
    eventually(lambda: len(edge.engine.requests) == 20)
    for wire in crowd:
        wire.close()
    assert edge.app is not None
    gateway = edge.app.gateway
    assert gateway is not None
    eventually(lambda: gateway.chat.in_flight == 0)
    eventually(lambda: edge.engine.aborted == 20)
    eventually(lambda: len(usage(edge, "partial")) == 20)
    left = edge.get("/v1/whoami", key).json()["tokens_left_today"]
    spent = sum(prompt + completion for prompt, completion in usage(edge, "partial"))
    assert left == 10**9 - spent
    assert edge.chat(key).status_code == 200


def test_the_openai_client_lives_with_a_process_that_is_told_to_end(process: Process) -> None:
    """SIGTERM: what runs comes to its end, receipt included, and leaves a line."""
    edge = process.edge
    key = edge.key("legal")
    edge.engine.words = 40
    client = openai.OpenAI(base_url=f"{edge.url}/v1", api_key=key, max_retries=0)
    said: Any = [{"role": "user", "content": "slow"}]
    stream = client.chat.completions.create(model="", messages=said, stream=True)
    first = next(iter(stream))
    process.running.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
    text = "".join(one.choices[0].delta.content or "" for one in stream if one.choices)
    assert first.choices
    assert text.endswith(" w39")
    assert process.running is not None
    assert process.running.wait(40) == -signal.SIGTERM  # as uvicorn leaves
    assert usage(edge, "ok") == [(PROMPT_TOKENS, 40)]
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    (line,) = [one for one in lines if one.get("path") == "/v1/chat/completions"]
    (row,) = edge.services.metering.usage_rows(SYSTEM, "legal", 10)
    assert (line["request_id"], line["tenant"], line["status"]) == (row.request_id, "legal", 200)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (PROMPT_TOKENS, 40)
    assert line["bytes_in"] > 0
    assert line["bytes_out"] > 1000
    assert key not in process.log.read_text()
    assert "slow" not in process.log.read_text()


@pytest.mark.browser
def test_a_browsers_fetch_lives_with_the_receipt_comment(edge: Edge) -> None:
    chromium = shutil.which("chromium")
    require(chromium is not None, "Chromium")
    from playwright.sync_api import sync_playwright

    key = edge.key("legal")
    script = """async ([key]) => {
        const answer = await fetch("/v1/chat/completions", {
            method: "POST",
            headers: {"authorization": `Bearer ${key}`, "content-type": "application/json"},
            body: JSON.stringify({stream: true, messages: [{role: "user", content: "hello"}]}),
        });
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (;;) {
            const {value, done} = await reader.read();
            if (done) return {text, status: answer.status};
            text += value;
        }
    }"""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.goto(f"{edge.url}/healthz")
        found = page.evaluate(script, [key])
        browser.close()
    assert found["status"] == 200
    lines = [line for line in found["text"].split("\n\n") if line]
    assert lines[-2].startswith(": receipt ")
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    words = [choice["delta"].get("content") or "" for one in chunks for choice in one["choices"]]
    assert "".join(words).startswith("Hello from fake-base")
