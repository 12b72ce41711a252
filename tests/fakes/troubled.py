"""A loopback proxy between a gateway and a real engine: single models are slowed, or fail.

The engine itself does nothing wrong on purpose, so nothing in it has to know of tests:

    with TroubledEngine(engine_url) as troubled:
        troubled.url, troubled.failing, troubled.slow
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import httpx
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_KEPT = ("content-type",)
_BROKEN = {"error": {"message": "the adapter's weights cannot be used", "code": "internal"}}


@dataclass
class TroubledEngine:
    """The proxy; enter it to start it.

    Attributes:
        behind: Address of the real engine.
        failing: Models of which every chat is answered with status 500.
        slow: Seconds for which a model's chats are held back before the engine is asked.
        asked: Chats so far, by model.
    """

    behind: str
    failing: set[str] = field(default_factory=set)
    slow: dict[str, float] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    url: str = ""

    def __enter__(self) -> Self:
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/{path:path}", self._pass, methods=["GET", "POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes, lifespan=self._open), port=0, log_level="warning",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="troubled engine")
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the proxy did not start"
            self._thread.join(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    @asynccontextmanager
    async def _open(self, _app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=self.behind, timeout=60, trust_env=False) as http:
            self._http = http
            yield

    async def _chat(self, request: Request) -> Response:
        model = orjson.loads(await request.body())["model"]
        self.asked[model] = self.asked.get(model, 0) + 1
        if model in self.failing:
            return JSONResponse(_BROKEN, 500)
        if model in self.slow:
            await asyncio.sleep(self.slow[model])
        return await self._pass(request)

    async def _pass(self, request: Request) -> Response:
        asked = self._http.build_request(
            request.method, request.url.path, content=await request.body(),
            headers={"content-type": "application/json"},
        )  # fmt: skip
        answer = await self._http.send(asked, stream=True)
        headers = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
        return StreamingResponse(_pieces(answer), answer.status_code, headers)


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()
