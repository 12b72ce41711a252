"""Whatever arrives, clients get an answer in their protocol, and the log still holds."""

from __future__ import annotations

import ast
import contextlib
import json
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.db import Database
from services.gateway import snapshot
from services.gateway.guarding import Guarding
from services.gateway.protocol import MAX_HEAD
from services.gateway.sse import StreamReader
from services.guardrails.guards import compile_guards
from services.guardrails.policy import default_policy
from services.operations import token
from tests.fakes.engine import FakeEngine
from tests.services.gateway.conftest import HELLO, SYSTEM, Edge, bearer, edge_over, eventually
from tests.services.gateway.edges import process_over

OPENAI = {"message", "type", "code", "param"}


@pytest.fixture(scope="module")
def fuzzed(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One gateway process for all that is thrown at it; at the end its log must hold."""
    folder = tmp_path_factory.mktemp("fuzzed")
    path = folder / "param.db"
    path.write_bytes(_sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    with FakeEngine() as engine, process_over(database, engine, folder) as made:
        yield made.edge
        edge = made.edge
        assert edge.chat(edge.key("after")).status_code == 200
        eventually(lambda: "param_gateway_in_flight 0.0" in edge.get("/metrics").text)
        edge.services.audit.sequence()
        edge.services.audit.verify()
        log = made.log.read_text()
        assert "a request met a bug" not in log
        assert "Traceback" not in log
    database.close()


@pytest.fixture(scope="module")
def key(fuzzed: Edge) -> str:
    return fuzzed.key("legal")


def holds(answer: httpx.Response, *expected: int) -> None:
    """It is one of the expected statuses, and an error has OpenAI's shape."""
    assert answer.status_code in expected, answer.text[:300]
    assert answer.headers["x-request-id"]
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == OPENAI


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(max_size=12) | st.sampled_from(["hello", "refuse", "legal", "default", "../../etc"])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "tool", "assistant", "x"]) | scalars},
        optional={"content": values, "tool_calls": values, "name": scalars},
    ),
    max_size=3,
)
bodies = st.fixed_dictionaries(
    {"messages": messages | values},
    optional={
        "model": scalars, "stream": scalars, "max_tokens": scalars, "n": scalars, "user": scalars,
        "stream_options": values, "max_completion_tokens": scalars, "tools": values,
        "response_format": values, "temperature": scalars,
    },
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies)
@example(body={"messages": [{"role": "user", "content": [{"type": "text"}, 7, None]}]})
@example(body={"messages": [{"role": "user", "content": "x"}], "max_tokens": True})
@example(body={"messages": [{"role": "tool", "content": {"deep": [1]}}], "stream": True})
def test_any_json_is_answered_or_refused(fuzzed: Edge, key: str, body: dict[str, Any]) -> None:
    url = f"{fuzzed.url}/v1/chat/completions"
    answer = fuzzed.http.post(url, content=json.dumps(body).encode(), headers=bearer(key))
    # 503: the fake engine chokes on what only engines look at, as engines do.
    holds(answer, 200, 400, 404, 503)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
@example(body=b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}')
@example(body=b'{"messages": [{"role": "user", "content": "\\ud800"}]}')
@example(body=b"[" * 100_000)
@example(body=b'{"messages": ' + b'{"a":' * 5000)
@example(body=b"\x00" * 100)
@example(body=b"\xef\xbb\xbf{}")
@example(body=b'{"max_tokens": 1e999, "messages": []}')
def test_any_bytes_are_refused(fuzzed: Edge, key: str, body: bytes) -> None:
    answer = fuzzed.http.post(
        f"{fuzzed.url}/v1/chat/completions", content=body, headers=bearer(key)
    )
    holds(answer, 400)
    assert fuzzed.engine.requests == [] or fuzzed.engine.requests[-1]["messages"]


def test_a_prompt_of_more_than_ten_megabytes_is_413_declared_or_not(fuzzed: Edge, key: str) -> None:
    url = f"{fuzzed.url}/v1/chat/completions"
    content = b'{"messages": [{"role": "user", "content": "' + b"x" * (10 << 20) + b'"}]}'
    answer = fuzzed.http.post(url, content=content, headers=bearer(key))
    holds(answer, 413)
    host, port = fuzzed.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as wire:
        wire.settimeout(10)
        wire.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
            "content-length: 99999999999\r\n\r\n".encode()
        )
        assert wire.recv(4096).startswith(b"HTTP/1.1 413 ")  # nothing of it was waited for


NAMES = ["../legal", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "legal/../medical", "legal\x00",
         "legal-0123456789ab/../../x", "..", ".", "~", "legal-" + "0" * 12, "fallback/big-model",
         "x" * 5000, "'; DROP TABLE usage; --", "%s%n", "\u202elagel"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_is_none_is_404_wherever_its_name_points(
    fuzzed: Edge, key: str, name: str
) -> None:
    for stream in (False, True):
        answer = fuzzed.chat(key, model=name, stream=stream)
        holds(answer, 404)
        assert answer.json()["error"]["code"] == "model_not_found"
        assert len(answer.content) < 1000
    assert fuzzed.engine.loads == []


@pytest.mark.parametrize("name", ["..%2f..%2fkeys", "..", "%00", "x" * 3000, "%ff%fe", "a/b/c"])
@pytest.mark.parametrize("place", ["/v1/receipts/", "/v1/", "/admin/v1/tenants/", "/"])
def test_a_path_that_is_none_says_so(fuzzed: Edge, key: str, place: str, name: str) -> None:
    answer = httpx.get(fuzzed.url + place + name, headers=bearer(key))
    holds(answer, 401, 404)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_another_tenants_adapter_receipt_and_alias_look_like_none(
    database: Database, engine: FakeEngine, tmp_path: Path
) -> None:
    with edge_over(database, engine, tmp_path) as edge:
        legal, medical = edge.key("legal"), edge.key("medical")
        theirs = edge.adapter("medical", 1)
        receipt = edge.chat(medical, model=theirs).headers["x-param-receipt"]
        unknown = theirs[:-12] + "0" * 12
        answers = [edge.chat(legal, model=name) for name in (theirs, unknown, "medical")]
        assert [answer.status_code for answer in answers] == [404] * 3
        found = [answer.text.replace(theirs, "?").replace(unknown, "?") for answer in answers[:2]]
        assert found[0] == found[1]
        mine = edge.get(f"/v1/receipts/{receipt}", legal)
        none = edge.get("/v1/receipts/01a1fee1-b4fa-7a3b-9b5a-a76f9a651afc", legal)
        assert (mine.status_code, none.status_code) == (404, 404)
        assert mine.json()["error"]["code"] == none.json()["error"]["code"]
        assert edge.get(f"/v1/receipts/{receipt}", medical).status_code == 200


@pytest.mark.parametrize("shown", ["Bearer", "bearer  x y", "Basic a2V5", "x" * 9000,
                                   "Bearer " + "k" * 9000, "Bearer \xff\xfe"])  # fmt: skip
def test_what_is_no_key_is_401(fuzzed: Edge, shown: str) -> None:
    url = f"{fuzzed.url}/v1/chat/completions"
    headers = [(b"authorization", shown.encode("latin-1"))]
    for method, path in (("POST", url), ("GET", f"{fuzzed.url}/v1/models")):
        content = json.dumps({"messages": HELLO}) if method == "POST" else None
        answer = fuzzed.http.request(method, path, content=content, headers=headers)
        holds(answer, 401)


def raw(edge: Edge, sent: list[bytes]) -> bytes:
    """What a server says to bytes that no client library would send."""
    host, port = edge.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as wire:
        wire.settimeout(10)
        said = b""
        with contextlib.suppress(ConnectionError):  # it may close while we still write
            for piece in sent:
                wire.sendall(piece)
        while piece := wire.recv(65536):
            said += piece
        return said


def test_headers_up_to_the_bound_pass_and_longer_ones_are_431(fuzzed: Edge, key: str) -> None:
    body = json.dumps({"messages": HELLO}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\nx-pad: "
    ).encode()
    fits = head + b"p" * (MAX_HEAD - len(head) - 200) + b"\r\n\r\n" + body
    assert raw(fuzzed, [fits]).startswith(b"HTTP/1.1 200 ")
    assert raw(fuzzed, [fits[n : n + 997] for n in range(0, len(fits), 997)])[9:12] == b"200"
    long = head + b"p" * (2 * MAX_HEAD) + b"\r\n\r\n" + body
    for pieces in ([long], [long[n : n + 4096] for n in range(0, len(long), 4096)]):
        said = raw(fuzzed, pieces)
        assert said.startswith(b"HTTP/1.1 431 ")
        error = json.loads(said.partition(b"\r\n\r\n")[2])["error"]
        assert (set(error), error["code"]) == (OPENAI, "headers_too_large")
    many = b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"".join(
        b"x-%d: y\r\n" % number for number in range(20_000)
    )
    assert raw(fuzzed, [many, b"\r\n"]).startswith(b"HTTP/1.1 431 ")


def test_a_head_that_never_ends_is_cut_off(fuzzed: Edge) -> None:
    endless = [b"GET /healthz HTTP/1.1\r\nx-endless: "] + [b"y" * 4096] * 40
    assert raw(fuzzed, endless).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST /v1/chat/completions HTTP/9.9\r\n\r\n",
     b"GET /healthz HTTP/1.1\r\nhost x\r\n\r\n", b"\r\n" * 10 + b"\x00\x01\r\n\r\n",
     b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
     b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_400_in_openais_shape(fuzzed: Edge, sent: bytes) -> None:
    said = raw(fuzzed, [sent])
    assert said.startswith(b"HTTP/1.1 400 ")
    assert set(json.loads(said.partition(b"\r\n\r\n")[2])["error"]) == OPENAI


def test_requests_behind_each_other_on_one_wire_are_all_answered(fuzzed: Edge, key: str) -> None:
    body = json.dumps({"messages": HELLO}).encode()
    one = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(body)}\r\n"
    ).encode()
    sent = (one + b"\r\n" + body) * 3 + one + b"connection: close\r\n\r\n" + body
    assert raw(fuzzed, [sent]).count(b"HTTP/1.1 200 OK") == 4


# Streams


def frames(text: str) -> bytes:
    """A stream that says a text, a few characters a frame."""
    said = b""
    for start in range(0, len(text), 3):
        delta = {"content": text[start : start + 3]}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        usage = {"prompt_tokens": 7, "completion_tokens": start // 3 + 1}
        said += b"data: " + json.dumps({"choices": [choice], "usage": usage}).encode() + b"\n\n"
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return said + b": a comment\n\ndata: " + json.dumps(end).encode() + b"\n\ndata: [DONE]\n\n"


TEXT = "Write to ayşe.yılmaz@example.com or +90 532 123 45 67 — güle güle! " * 2
STREAM = frames(TEXT)
GUARDS = compile_guards(0, default_policy().source)


def passed(cuts: list[int], *, crlf: bool, guarded: bool) -> tuple[bytes, int]:
    """What comes out, and the tokens; of a guarded stream what its chunks say, one after another:
    what arrives together is read, and goes on, in one chunk."""
    stream = STREAM.replace(b"\n", b"\r\n") if crlf else STREAM
    guard = Guarding(GUARDS, GUARDS.output).stream() if guarded else None
    reader = StreamReader(wants_usage=False, wants_continuous_usage=False, guarded=guard)
    edges = [0, *sorted(cut % len(stream) for cut in cuts), len(stream)]
    out = b"".join(
        reader.feed(stream[start:end]) for start, end in zip(edges, edges[1:], strict=False)
    )
    assert reader.is_done
    return said(out) if guarded else out, reader.completion_tokens


def said(out: bytes) -> bytes:
    """The texts of a stream's chunks with everything else that it had."""
    told = b""
    for frame in out.split(b"\n\n"):
        if not frame.startswith(b"data: "):
            told += frame
            continue
        (choice,) = json.loads(frame[6:])["choices"]
        told += (choice["delta"].get("content") or "").encode()
        told += str(choice["finish_reason"] or "").encode()
    return told


@settings(max_examples=200)
@given(st.lists(st.integers(0, 10**6), max_size=40), st.booleans(), st.booleans())
def test_streams_cut_anywhere_give_the_same_bytes(
    cuts: list[int], crlf: bool, guarded: bool
) -> None:
    assert passed(cuts, crlf=crlf, guarded=guarded) == passed([], crlf=False, guarded=guarded)


def test_a_stream_that_arrives_byte_by_byte_gives_the_same_bytes() -> None:
    every = list(range(len(STREAM)))
    assert passed(every, crlf=False, guarded=True) == passed([], crlf=False, guarded=True)
    assert b"example.com" not in passed(every, crlf=False, guarded=True)[0]


def test_what_arrives_together_is_read_and_goes_on_together() -> None:
    guard = Guarding(GUARDS, GUARDS.output).stream()
    reader = StreamReader(wants_usage=False, wants_continuous_usage=True, guarded=guard)
    out = reader.feed(STREAM)
    assert out.count(b'"content"') <= 3, "the text before the comment, and what it held back"
    assert reader.deltas == len(range(0, len(TEXT), 3))
    usages = [
        json.loads(frame[6:]).get("usage") for frame in out.split(b"\n\n") if b"data" in frame
    ]
    assert usages[0]["completion_tokens"] == reader.completion_tokens


# Keys


def test_keys_are_compared_by_their_hash_alone(fuzzed: Edge, key: str) -> None:
    """What decides is a look-up of a SHA-256, whose time says nothing of any key."""
    callers = fuzzed.services.tenants.live_keys()
    assert sha256(key.encode()).hexdigest() in callers
    assert all(len(digest) == 64 for digest in callers)
    assert key not in repr(callers)
    # No line of the two modules that see a secret compares anything that comes from it.
    for module, function, secrets in (
        (snapshot, "caller", {"digest"}), (token, "is_token", {"shown", "token"}),
    ):  # fmt: skip
        tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
        (found,) = [
            node for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
        ]  # fmt: skip
        for node in ast.walk(found):
            if isinstance(node, ast.Compare):
                names = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
                assert not names & secrets, ast.unparse(node)


def test_a_key_that_differs_in_its_last_character_is_as_unknown_as_any(
    fuzzed: Edge, key: str
) -> None:
    answers = [
        fuzzed.get("/v1/models", wrong).json()
        for wrong in (key[:-1] + ("a" if key[-1] != "a" else "b"), "pk_nothing", key + " x")
    ]
    assert [answer["error"]["code"] for answer in answers] == ["invalid_api_key"] * 3
    assert len({answer["error"]["message"] for answer in answers}) == 1
    assert fuzzed.services.tenants.list(SYSTEM)
