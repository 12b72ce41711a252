"""The gateway as one ASGI application: the hot route by hand, everything else by FastAPI."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.db import new_id
from services.errors import ConsoleError
from services.gateway.answers import Message, Receive, Scope, Send, send_error, wrong_method
from services.gateway.endpoints import build_endpoints
from services.gateway.ledger import Ledger
from services.gateway.logs import Lines, request_id
from services.gateway.parts import Parts
from services.gateway.running import LAST_ANSWERS_S, Gateway

CHAT_PATH = "/v1/chat/completions"


class GatewayApp:
    """The ASGI application; lives as long as the server's lifespan."""

    def __init__(
        self,
        parts: Parts,
        on_started: Callable[[], None],
        lines: Lines | None,
        ledger: Ledger | None,
    ) -> None:
        self._parts = parts
        self._lines = lines
        self._ledger = ledger
        self._on_started = on_started
        self._rest = build_endpoints(self._running)
        self.gateway: Gateway | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["path"] == CHAT_PATH:
            await self._chat(scope, receive, send)
        else:
            await self._other(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything but chat: has an id too, and leaves a line in the log."""
        request_id.set(new_id())
        began, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._rest(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path", "")
            seconds = time.perf_counter() - began
            self._running().requests.other(scope["method"], route, status, seconds)

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await self._running().chat(scope, receive, send)
        else:
            await send_error(send, wrong_method(scope["method"], CHAT_PATH), new_id())

    def _running(self) -> Gateway:
        assert self.gateway is not None, "the server starts the lifespan before it serves"
        return self.gateway

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self.gateway = await self._start()
        except ConsoleError as error:
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            has_ended = await self.gateway.stop()
        finally:
            if self._lines is not None:
                self._lines.stop()  # Here: the server ends the process by the signal that it got.
        if has_ended:
            await send({"type": "lifespan.shutdown.complete"})
        else:
            message = f"requests still ran {LAST_ANSWERS_S:.0f} s after they were cut off"
            await send({"type": "lifespan.shutdown.failed", "message": message})

    async def _start(self) -> Gateway:
        gateway = Gateway(self._parts, self._lines, self._ledger)
        if self._lines is not None:
            self._lines.start()
        gateway.start()
        self._on_started()
        return gateway


def build_app(
    parts: Parts,
    *,
    on_started: Callable[[], None] = lambda: None,
    lines: Lines | None = None,
    ledger: Ledger | None = None,
) -> GatewayApp:
    """The gateway over these domains, as an ASGI application.

    Args:
        on_started: Called when everything is in memory and before the first request.
        lines: Where the lines of requests are written, as long as the lifespan; None for nowhere.
        ledger: Makes outcomes durable; in this process unless given.
    """
    return GatewayApp(parts, on_started, lines, ledger)
