"""HTTP as uvicorn and httptools speak it, with an end to how long a request's head may be and take.

An answer's head and body leave in one piece.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.db import new_id
from services.gateway.answers import Refused, error_body

MAX_HEAD = 64 * 1024
"""Bytes of a request line with its headers; the parser itself would take them for ever."""

HEAD_S = 10.0
"""How long a head may take from its first byte to its end."""

LINGER_S = 2.0
"""How long what a refused client still sends is read and thrown away. Closed at once, its system
would throw our answer away before it is read."""


_INTERIM = b"HTTP/1.1 1"


class _Joining:
    """A connection as the answer of one request sees it: its head leaves with what follows.

    Written by themselves, head and body are two system calls and two segments, and wake the client
    twice. A head that nothing follows leaves as soon as the event loop has time.
    """

    __slots__ = ("_has_begun", "_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head: bytes | None = None
        self._has_begun = False

    def write(self, data: bytes) -> None:
        """Write, and the head before it; the first thing written is the head."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data))
        elif self._has_begun or data.startswith(_INTERIM):
            self._transport.write(data)
        else:
            self._has_begun = True
            self._head = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Close when everything is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head is not None and not self._transport.is_closing():
            head, self._head = self._head, None
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is longer than `MAX_HEAD` (431) or takes longer than `head_s` (408).

    The connection is closed then, as is one on which no request comes for as long as one may be
    kept alive between two of them.
    """

    head_s = HEAD_S

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_in_head = False
    _is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; it has to say something."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was left."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived; look at the length of a head that has not come to its end."""
        if self._is_refused:
            return
        if self._is_in_head:
            # A head is counted by what arrives as long as its end has not: the parser tells of a
            # header only when it is whole.
            self._head_bytes += len(data)
        else:
            self._head_bytes = len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._is_refused:
            return
        if not self._is_in_head:
            self._await_request()
        elif self._head_bytes > MAX_HEAD:
            self._refuse()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_s, self._refuse_slow)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        """A head has come to its end."""
        self._is_in_head = False
        self._stop_timer()
        if self._head_bytes > MAX_HEAD and self._length() > MAX_HEAD:
            self._refuse()
            return
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not None and self.cycle is not before:
            self.cycle.transport = _Joining(self.transport, self.loop)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """A part of a body; of a refused request nothing is read."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        if not self._is_refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in OpenAI's shape."""
        self._answer(b"400 Bad Request", Refused(msg, status=400, code="invalid_http"))

    def _await_request(self) -> None:
        """End the connection after a while, unless a request runs or begins."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_slow(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self._is_refused:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # An earlier request of this connection is still being answered: not into its answer.
            self._head_timer = self.loop.call_later(self.head_s, self._refuse_slow)
            return
        message = f"headers: expected all of them within {self.head_s:g} s, found no end"
        refused = Refused(message, status=408, code="request_timeout")
        self._answer(b"408 Request Timeout", refused)

    def _length(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse(self) -> None:
        message = f"headers: expected at most {MAX_HEAD} bytes, found more"
        refused = Refused(message, status=431, code="headers_too_large")
        self._answer(b"431 Request Header Fields Too Large", refused)

    def _answer(self, status: bytes, error: Refused) -> None:
        self._is_refused = True
        self._stop_timer()
        body = error_body(error)
        self.transport.write(
            b"HTTP/1.1 " + status + b"\r\n"
            b"content-type: application/json\r\n"
            b"content-length: " + str(len(body)).encode() + b"\r\n"
            b"x-request-id: " + new_id().encode() + b"\r\n"
            b"connection: close\r\n\r\n" + body
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)
