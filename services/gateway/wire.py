"""Kept HTTP/1.1 connections to one server: what the hot route asks the engine through.

A general client spends four times as long on a request as its parsing takes (`bench/gateway.py`); here
there is one server, one method, and no cookies, redirects, proxies or compression. `httptools` (the
parser of Node.js) reads what arrives. Everything beside the hot route goes through a general client.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools

HIGH_WATER = 1 << 18
"""Bytes that may wait for their reader; beyond that the server is not read from."""

MAX_HEAD = 1 << 16
"""Bytes of a response's headers; more is no answer of an engine."""


class Lost(Exception):
    """The server could not be reached, broke off, or was silent for too long.

    Attributes:
        is_unsent: No connection came about, so nothing was sent.
        is_silent: The server said nothing for too long.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_unsent: bool = False,
        is_silent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.is_unsent = is_unsent
        self.is_silent = is_silent


class Response:
    """An answer that has begun; `close` it.

    Attributes:
        headers: By name in lower case; of one that comes twice, the last.
    """

    __slots__ = ("_connection", "headers", "status")

    def __init__(self, connection: _Connection, status: int, headers: dict[bytes, bytes]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers

    @property
    def is_read(self) -> bool:
        """Whether the body has come and was read to its end."""
        return self._connection.is_read

    async def first(self) -> bytes:
        """The next part of the body; empty at its end.

        Raises:
            Lost: It broke off.
        """
        async for piece in self.pieces():
            return piece
        return b""

    async def read(self, most: int | None = None) -> bytes:
        """All of the body, or what comes until it is longer than `most` bytes.

        Raises:
            Lost: It broke off.
        """
        pieces, size = [], 0
        async for piece in self.pieces():
            pieces.append(piece)
            size += len(piece)
            if most is not None and size > most:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives.

        Raises:
            Lost: It broke off.
        """
        connection = self._connection
        while (piece := connection.take()) is not None:
            if piece:
                yield piece
            else:
                await connection.wait()

    def close(self) -> None:
        """Give the connection back if all was read, else close it: the server learns that way."""
        self._connection.let_go()


class Wire:
    """The connections to one server; lives in one event loop.

    Args:
        url: `http://HOST[:PORT]` or `https://…`, with or without a path that all requests share.
        connect_s: Seconds that a connection may take to come about.
        kept_s: How long an unused connection is kept.
        headers: Sent with every request.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_s: float,
        kept_s: float,
        headers: Mapping[str, str],
    ) -> None:
        parts = urlsplit(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/")
        self._connect_s = connect_s
        self._kept_s = kept_s
        fields = {"host": parts.netloc.rpartition("@")[2], **headers}
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()

    async def post(self, path: str, body: bytes, *, silence_s: float | None = None) -> Response:
        """Send a request; the answer has begun.

        Args:
            silence_s: Seconds that may lie between two parts of the answer; None for any time.
                How long it may take to begin is for the caller to say (`asyncio.timeout`).

        Raises:
            Lost: No connection came about, or it ended before the answer began.
        """
        head = b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (
            (self._base + path).encode(),
            self._fields,
            len(body),
        )
        connection = self._kept() or await self._connect()
        return await connection.ask(head, body, silence_s)

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()

    def _kept(self) -> _Connection | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and now - connection.touched < self._kept_s:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _transport, connection = await loop.create_connection(
                    lambda: _Connection(self, loop), self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise Lost("the server cannot be reached", is_unsent=True) from error
        self._open.add(connection)
        return connection

    def take_back(self, connection: _Connection) -> None:
        """Keep a connection whose answer was read to its end."""
        self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """A connection has ended."""
        self._open.discard(connection)


class _Connection(asyncio.Protocol):
    """One connection; carries one request at a time. Methods named `on_…` are the parser's."""

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
        self._wire = wire
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._headers: dict[bytes, bytes] = {}
        self._head_size = 0
        self._lost: Lost | None = None
        self._is_busy = self._has_begun = self._is_complete = self._is_paused = False
        self._keeps_alive = False
        self._silence_s: float | None = None
        self.touched = loop.time()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.touched = self._loop.time()
        if not self._is_busy:
            # Nothing was asked, so this can be no answer.
            self._fail(Lost("the server spoke unasked"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Lost(f"the server does not speak HTTP: {type(error).__name__}"))
        if not self._has_begun:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._fail(Lost(f"the server's headers are longer than {MAX_HEAD} bytes"))
        if self._buffered > HIGH_WATER and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._has_begun and not self._is_complete and self._ends_with_connection:
            self._is_complete = True
        if self._lost is None:
            self._lost = Lost("the server closed the connection")
        self._wake()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._has_begun = True
            if self._timer is None and self._silence_s is not None:
                self._timer = self._loop.call_later(self._silence_s, self._look)
            self._wake()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered += len(body)
        self._wake()

    def on_message_complete(self) -> None:
        if not self._has_begun:
            self._headers, self._head_size = {}, 0  # 100 Continue and its like
            return
        self._is_complete = True
        self._keeps_alive = self._parser.should_keep_alive()  # only known in this moment
        self._wake()

    # one request

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""
        return self._lost is None and not self._is_busy

    @property
    def _ends_with_connection(self) -> bool:
        chunked = b"chunked" in self._headers.get(b"transfer-encoding", b"").lower()
        return not chunked and b"content-length" not in self._headers

    async def ask(self, head: bytes, body: bytes, silence_s: float | None) -> Response:
        """Send a request and wait until its answer begins."""
        if self._lost is not None or self._transport is None:
            raise self._lost or Lost("the connection was never made", is_unsent=True)
        self._headers, self._head_size = {}, 0
        self._has_begun = self._is_complete = False
        self._is_busy = True
        self._silence_s = silence_s
        self.touched = self._loop.time()
        if len(body) < HIGH_WATER:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        try:
            while not self._has_begun:
                await self.wait()
        except BaseException:
            self.abort()
            raise
        return Response(self, self._parser.get_status_code(), self._headers)

    def take(self) -> bytes | None:
        """The next part of the body; empty where it has not come, None at the end.

        Raises:
            Lost: It broke off.
        """
        if self._pieces:
            piece = self._pieces.popleft()
            self._buffered -= len(piece)
            if self._is_paused and self._buffered < HIGH_WATER // 2:
                self._is_paused = False
                if self._transport is not None and not self._transport.is_closing():
                    self._transport.resume_reading()
            return piece
        if self._is_complete:
            return None
        if self._lost is not None:
            raise self._lost
        return b""

    async def wait(self) -> None:
        """Until something came or the connection ended.

        Raises:
            Lost: It ended before the answer began.
        """
        if self._lost is not None:
            raise self._lost
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._lost is not None and not self._has_begun:
            raise self._lost

    @property
    def is_read(self) -> bool:
        """Whether all of the answer has come and was taken."""
        return self._is_complete and not self._pieces

    def let_go(self) -> None:
        """Keep this connection for another request, if its answer was read to the end."""
        if not self.is_read or not self._keeps_alive or self._lost is not None:
            self.abort()
            return
        self._is_busy = False
        self._wire.take_back(self)

    def abort(self) -> None:
        """Close at once."""
        self._fail(Lost("the connection was closed"))

    def _fail(self, lost: Lost) -> None:
        if self._lost is None:
            self._lost = lost
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look(self) -> None:
        """Whether the server has been silent for too long; one timer for all requests."""
        self._timer = None
        allowed = self._silence_s
        if allowed is None or self._lost is not None or not self._has_begun or self._is_complete:
            return
        # A server that waits for us to read is not silent.
        left = allowed if self._is_paused else self.touched + allowed - self._loop.time()
        if left <= 0:
            self._fail(Lost(f"the server was silent for {allowed:g} s", is_silent=True))
            return
        self._timer = self._loop.call_later(left, self._look)
