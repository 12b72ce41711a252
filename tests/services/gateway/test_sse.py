import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import EngineUnavailable
from services.gateway.sse import StreamReader


def frame(content: str | None, tokens: int, finish: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]
    usage = {"prompt_tokens": 7, "completion_tokens": tokens}
    chunk: dict[str, Any] = {"choices": [] if content is None else choices, "usage": usage}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


STREAM = frame("Mer", 1) + frame("haba", 2, "stop") + frame(None, 2) + b"data: [DONE]\n\n"


def contents(passed: bytes) -> str:
    chunks = [json.loads(line[6:]) for line in passed.decode().split("\n\n") if line]
    return "".join(c["delta"]["content"] for chunk in chunks for c in chunk["choices"])


@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.booleans(), st.booleans())
def test_frames_may_be_cut_anywhere(cuts: list[int], usage: bool, crlf: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if crlf else STREAM
    reader = StreamReader(wants_usage=usage, wants_continuous_usage=False)
    edges = [0, *sorted(cuts), len(stream)]
    passed = b"".join(
        reader.feed(stream[start:end]) for start, end in zip(edges, edges[1:], strict=False)
    )
    assert contents(passed) == "Merhaba"
    assert (reader.prompt_tokens, reader.completion_tokens) == (7, 2)
    assert (reader.finish_reason, reader.is_done) == ("stop", True)
    assert passed.count(b'"usage"') == (1 if usage else 0)


def test_usage_in_every_chunk_is_kept_only_for_those_who_asked() -> None:
    asked = StreamReader(wants_usage=True, wants_continuous_usage=True)
    assert asked.feed(STREAM).count(b'"usage"') == 3


def test_the_end_marker_and_what_follows_is_held_back() -> None:
    reader = StreamReader(False, False)
    assert b"[DONE]" not in reader.feed(STREAM + frame("more", 3))
    assert reader.completion_tokens == 2


def test_comments_pass() -> None:
    assert StreamReader(False, False).feed(b": ping\n\n") == b": ping\n\n"


def test_an_error_inside_the_stream_ends_it() -> None:
    reader = StreamReader(False, False)
    assert reader.feed(b'data: {"error": {"message": "boom"}}\n\n' + frame("x", 1)) == b""
    assert reader.failure == "the engine failed while it answered"


@pytest.mark.parametrize("broken", [b"data: {\n\n", b"data: []\n\n", b"data: \xff\n\n"])
def test_a_frame_that_is_no_chunk_is_refused(broken: bytes) -> None:
    with pytest.raises(EngineUnavailable):
        StreamReader(False, False).feed(broken)


def test_an_endless_frame_is_refused() -> None:
    reader = StreamReader(False, False)
    with pytest.raises(EngineUnavailable, match="more than"):
        for _ in range(12):
            reader.feed(b"x" * (1 << 20))
