"""Logs as JSON lines, without content: one line a request, and whatever the program has to say.

Every line that is written while a request is handled bears its id. A request's line holds ids,
sizes, times and how it ended; never a prompt, an answer, a header or a key. Of an exception its
kind and place are written, and its message only where it is one of ours: foreign messages may
repeat what they choked on.

Lines of requests are handed to a thread, which writes what gathered, so that nobody waits for a
slow terminal or pipe. When nobody takes them they are given up and counted; the audit log is
where nothing is lost.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

from services.errors import ConsoleError
from services.gateway.exchange import Exchange

STDERR = 2
MAX_LINES = 20_000
"""Lines that may wait to be written."""

PAUSE_S = 0.1
"""How long lines gather before they are written."""

REQUESTS = "param.gateway.requests"
request_id: ContextVar[str] = ContextVar("request_id", default="")


class Lines:
    """Writes lines to a file descriptor, from a thread of its own."""

    def __init__(self, descriptor: int = STDERR) -> None:
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway-log", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then stop."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(PAUSE_S + 5)

    def put(self, fields: Mapping[str, Any]) -> None:
        """Have one line written soon."""
        if len(self._waiting) >= MAX_LINES:
            self.dropped += 1
            return
        self._waiting.append(orjson.dumps(fields, default=str) + b"\n")

    def put_now(self, fields: Mapping[str, Any]) -> None:
        """Write one line before anything else happens."""
        self._write([orjson.dumps(fields, default=str) + b"\n"])

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = []
        while self._waiting:
            lines.append(self._waiting.popleft())
        if lines:
            self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join(lines))
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                # A full disk or a closed pipe must not stop a gateway that can still answer.
                self.dropped += len(lines)


class JsonHandler(logging.Handler):
    """Everything that the program logs, as JSON lines."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            self._lines.put_now(_record(record))
        except Exception:
            self.handleError(record)


class RequestLog:
    """One line for each request.

    Args:
        lines: Where they are written; None writes nothing.
    """

    def __init__(self, lines: Lines | None) -> None:
        self._lines = lines
        self._is_on = lines is not None and logging.getLogger(REQUESTS).isEnabledFor(logging.INFO)

    @property
    def dropped(self) -> int:
        """Lines that were given up."""
        return 0 if self._lines is None else self._lines.dropped

    def chat(self, exchange: Exchange, status: int, code: str = "") -> None:
        """The line of a chat request that has ended.

        Args:
            status: What was answered; 499 where the client was gone.
            code: Of the error, where there was one.
        """
        if not self._is_on or self._lines is None:
            return
        chosen, actor, tenant = exchange.chosen, exchange.actor, exchange.tenant
        first = exchange.first_byte
        self._lines.put(
            {
                **_head("INFO", REQUESTS, "request"),
                "request_id": exchange.request_id,
                "method": "POST",
                "path": "/v1/chat/completions",
                "status": status,
                "code": code or None,
                "tenant": None if tenant is None else tenant.id,
                "key": None if actor is None else actor.id.removeprefix("key:"),
                "alias": None if chosen is None else chosen.alias,
                "served": None if chosen is None else chosen.model.served,
                "arm": None if chosen is None else chosen.arm.value,
                "stream": exchange.is_stream,
                "bytes_in": exchange.bytes_in,
                "bytes_out": exchange.bytes_out,
                "prompt_tokens": exchange.prompt_tokens,
                "completion_tokens": exchange.completion_tokens,
                "latency_ms": _ms(time.perf_counter() - exchange.began),
                "ttft_ms": None if first is None else _ms(first - exchange.began),
                "detour": exchange.detour or None,
            }
        )

    def other(self, method: str, route: str, status: int, seconds: float) -> None:
        """The line of any other request.

        Args:
            route: The path's pattern: what a client writes in its place is not repeated.
        """
        if self._is_on and self._lines is not None:
            self._lines.put(
                {
                    **_head("INFO", REQUESTS, "request"),
                    "request_id": request_id.get(),
                    "method": method,
                    "path": route,
                    "status": status,
                    "latency_ms": _ms(seconds),
                }
            )


def configure(level: str, lines: Lines) -> None:
    """Let everything that this process logs be JSON lines."""
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler(lines)]
    root.setLevel(level)


def _head(level: str, logger: str, message: str) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"at": at, "level": level, "logger": logger, "message": message}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _record(record: logging.LogRecord) -> dict[str, Any]:
    found = _head(record.levelname, record.name, record.getMessage())
    if current := request_id.get():
        found["request_id"] = current
    if record.exc_info and record.exc_info[1] is not None:
        found["error"] = _error(record.exc_info[1])
    return found


def _error(error: BaseException) -> dict[str, Any]:
    places = traceback.extract_tb(error.__traceback__)
    found: dict[str, Any] = {
        "kind": type(error).__name__,
        "where": [f"{place.filename}:{place.lineno} {place.name}" for place in places],
    }
    if isinstance(error, ConsoleError):
        found["message"] = error.message
    if error.__cause__ is not None:
        found["cause"] = _error(error.__cause__)
    return found
