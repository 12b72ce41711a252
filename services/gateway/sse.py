"""Server-sent events from the engine: frames, and the usage that they carry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from services.errors import ConsoleError, EngineUnavailable
from services.gateway.answers import error_body
from services.gateway.guarding import FILTERED, GuardedStream

MAX_FRAME = 10 * 1024 * 1024
"""Bytes of one frame; an engine that sends more is broken."""

MAX_TOKENS = 2**40
"""Tokens of one answer; an engine that counts more is broken."""


class FrameSplitter:
    r"""Cuts a byte stream into frames, wherever the network cut it.

    A frame ends with an empty line. Line ends may be `\n` or `\r\n`.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now, each without its ending.

        Raises:
            EngineUnavailable: A frame is longer than `MAX_FRAME`.
        """
        data = self._rest + data
        if b"\r" in data:
            # A lone "\r" at the end waits for its "\n": the rest is normalised as it grows.
            data = data.replace(b"\r\n", b"\n")
        *frames, self._rest = data.split(b"\n\n")
        if len(self._rest) > MAX_FRAME:
            raise EngineUnavailable(f"the engine sent a frame of more than {MAX_FRAME} bytes")
        return [frame for frame in frames if frame]


def error_frame(error: ConsoleError) -> bytes:
    """An error inside a stream that has begun; clients raise it as they would a status."""
    return b"data: " + error_body(error) + b"\n\n"


def token_count(value: Any) -> int:
    """A count of tokens as an engine gives it; nothing counts as none.

    Raises:
        EngineUnavailable: It is no count that can be billed.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise EngineUnavailable("the engine gave a number of tokens that is none")
    return int(value)


def _only_text(chunk: dict[str, Any]) -> dict[str, Any] | None:
    """The delta of a chunk that brings nothing but a piece of the first choice's text."""
    choices = chunk.get("choices") or []
    if len(choices) != 1:
        return None
    choice = choices[0]
    delta = choice.get("delta")
    if choice.get("index") or choice.get("finish_reason") is not None or choice.get("logprobs"):
        return None
    if not isinstance(delta, dict) or not isinstance(delta.get("content"), str):
        return None
    others = any(value for name, value in delta.items() if name not in {"content", "role"})
    return None if others else delta


@dataclass(slots=True)
class StreamReader:
    """Follows one stream of chat completion chunks.

    Attributes:
        wants_usage: Pass the final usage chunk on.
        wants_continuous_usage: Pass the usage of every chunk on.
        prompt_tokens: As the engine counted last; None before its first count.
        completion_tokens: As the engine counted last.
        deltas: Chunks with text; the count of tokens where the engine gives none.
        finish_reason: Of the last choice that finished; None while none has.
        is_done: The engine said `[DONE]`.
        failure: What the engine reported as an error inside the stream.
        guarded: Reads every text before it goes out; None where nothing is checked.
    """

    wants_usage: bool
    wants_continuous_usage: bool
    prompt_tokens: int | None = None
    completion_tokens: int = 0
    deltas: int = 0
    finish_reason: str | None = None
    is_done: bool = False
    failure: str | None = None
    guarded: GuardedStream | None = None
    _splitter: FrameSplitter = field(default_factory=FrameSplitter)
    _joined: tuple[bytes, dict[str, Any]] | None = None

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the engine; return the bytes that may go to the client now.

        The end marker is held back: it is sent after the record is durable.

        Raises:
            EngineUnavailable: The engine sent something that is not a chunk.
        """
        kept = []
        for frame in self._splitter.feed(data):
            if self.is_done or self.failure is not None:
                break
            kept.append(self._frame(frame))
        kept.append(self._release())
        return b"".join(kept)

    def _frame(self, frame: bytes) -> bytes:
        if not frame.startswith(b"data:"):
            return self._release() + frame + b"\n\n"
        text = frame[5:].strip()
        if text == b"[DONE]":
            self.is_done = True
            return self._release()
        try:
            chunk = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise EngineUnavailable("the engine sent a frame that is not JSON") from error
        if not isinstance(chunk, dict):
            raise EngineUnavailable("the engine sent a frame that is not a JSON object")
        if "error" in chunk:
            self.failure = "the engine failed while it answered"
            return self._release()
        self._count(chunk)
        if self.guarded is None:
            return self._chunk(frame, chunk)
        if self._joins(chunk):
            return b""
        passed = self._release()
        if not self.is_done:
            self._joined = (frame, chunk)
        return passed

    def _joins(self, chunk: dict[str, Any]) -> bool:
        """Whether a chunk only goes on with the text of the one before, which has not gone out.

        Both came in one piece: the engine is ahead of us, or the network gathered them. Reading
        them together costs little more than reading one, so a stream that fell behind catches up.
        """
        if self._joined is None:
            return False
        before, after = _only_text(self._joined[1]), _only_text(chunk)
        if before is None or after is None:
            return False
        before["content"] += after["content"]
        if "usage" in chunk:
            self._joined[1]["usage"] = chunk["usage"]
        return True

    def _release(self) -> bytes:
        """What was held for its successor."""
        if self._joined is None:
            return b""
        (frame, chunk), self._joined = self._joined, None
        return self._chunk(frame, chunk)

    def _count(self, chunk: dict[str, Any]) -> None:
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = token_count(usage.get("prompt_tokens"))
            self.completion_tokens = token_count(usage.get("completion_tokens"))
        choices = chunk.get("choices") or []
        if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
            raise EngineUnavailable("the engine sent a chunk whose choices are none")
        for choice in choices:
            if (choice.get("delta") or {}).get("content"):
                self.deltas += 1
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def _chunk(self, frame: bytes, chunk: dict[str, Any]) -> bytes:
        usage, choices = chunk.get("usage"), chunk.get("choices") or []
        if not choices:
            return b"" if usage is not None and not self.wants_usage else frame + b"\n\n"
        has_usage = usage is not None and not self.wants_continuous_usage
        if self.guarded is None and not has_usage:
            return frame + b"\n\n"
        if has_usage:
            del chunk["usage"]
        if self.guarded is not None and not self._let_through(chunk, choices):
            return b""
        passed = b"data: " + orjson.dumps(chunk) + b"\n\n"
        if self.guarded is not None and self.guarded.is_stopped:
            self.is_done, self.finish_reason = True, FILTERED
            passed += self._last_usage(chunk)
        return passed

    def _let_through(self, chunk: dict[str, Any], choices: list[dict[str, Any]]) -> bool:
        """Whether the guards leave anything of a chunk; the first one carries the role."""
        assert self.guarded is not None, "asked only where there are guards"
        return self.guarded.chunk(choices) or "usage" in chunk

    def _last_usage(self, chunk: dict[str, Any]) -> bytes:
        """The usage that the engine would have sent at the end of a stream that is cut short."""
        if not self.wants_usage or self.prompt_tokens is None:
            return b""
        counts = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        return b"data: " + orjson.dumps({**chunk, "choices": [], "usage": counts}) + b"\n\n"
