"""A small gateway on loopback: it speaks the real one's protocol, and answers what it is told to.

The last user message steers it: `!429`, `!503`, `!break` (after two words), `!slow`; every other
message is answered by `FakeGateway.answer`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

KEY = "pk_" + "a" * 43
RECEIPT = "0190aaaa-0000-7000-8000-000000000001"
ADAPTER = "legal-ai-3fa2c1d09b7e"


class FakeGateway:
    """One gateway with one tenant, `legal-ai`.

    Attributes:
        answer: What it says.
        pause_s: Between two words, seconds.
        whoami_s: Before it says whose key it is, seconds.
        aliases: How many its tenant has, 1 or 2.
        asked: The bodies of the chat requests so far.
        headers: The headers of the last chat request.
        raw_request: Its bytes; `raw_response` those of its answer, before the receipt's line.
        thumbs: The bodies of what was thought of answers.
        cut: How many answers the client cut off.
    """

    def __init__(self) -> None:
        self.answer = "Başkent Ankara'dır."
        self.pause_s = 0.0
        self.whoami_s = 0.0
        self.aliases = 1
        self.asked: list[dict[str, Any]] = []
        self.raw_request, self.raw_response = b"", b""
        self.headers: dict[str, str] = {}
        self.verified: list[dict[str, Any]] = []
        self.thumbs: list[dict[str, Any]] = []
        self.cut = 0
        self.url = ""
        routes = [
            Route("/v1/whoami", self._whoami),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/receipts/{receipt}", self._receipt),
            Route("/v1/verify", self._verify, methods=["POST"]),
            Route("/v1/feedback", self._feedback, methods=["POST"]),
            Route("/healthz", lambda _request: JSONResponse({"status": "ok"})),
        ]
        self._server = uvicorn.Server(
            uvicorn.Config(Starlette(routes=routes), port=0, log_level="warning", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run, name="fake gateway")

    def __enter__(self) -> FakeGateway:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            self._thread.join(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def _whoami(self, request: Request) -> Response:
        await asyncio.sleep(self.whoami_s)
        if refused := _refused(request):
            return refused
        return JSONResponse(
            {
                "tenant": {"id": "legal-ai", "name": "Legal AI"},
                "default_alias": "legal-ai",
                "aliases": [
                    {"alias": "contracts", "adapter": None, "candidate": None, "percent": 0},
                    {"alias": "legal-ai", "adapter": ADAPTER, "candidate": None, "percent": 0},
                ][-self.aliases :],
            }
        )

    async def _chat(self, request: Request) -> Response:
        if refused := _refused(request):
            return refused
        self.raw_request, self.raw_response = await request.body(), b""
        body = json.loads(self.raw_request)
        self.asked.append(body)
        self.headers = dict(request.headers)
        said = body["messages"][-1]["content"]
        if said == "!429":
            return _error(
                429, "tenant legal-ai: 3 requests a second are allowed", {"retry-after": "7"}
            )
        if said == "!503":
            return _error(503, "the inference engine does not answer")
        return StreamingResponse(
            self._sent(said),
            media_type="text/event-stream",
            headers={
                "x-request-id": "request-1",
                "x-param-model": ADAPTER,
                "x-param-arm": "canary",
            },
        )

    async def _sent(self, said: str) -> AsyncIterator[bytes]:
        async for frame in self._stream(said):
            if not frame.startswith(": receipt"):
                self.raw_response += frame.encode()
            yield frame.encode()

    async def _stream(self, said: str) -> AsyncIterator[str]:
        words = self.answer.split(" ")
        try:
            for number, word in enumerate(words):
                if said == "!break" and number == 2:
                    yield _frame({"error": {"message": "the engine broke off while it answered"}})
                    return
                text = word if number == 0 else f" {word}"
                yield _frame({"choices": [{"index": 0, "delta": {"content": text}}]})
                await asyncio.sleep(5.0 if said == "!slow" and number else self.pause_s)
        except asyncio.CancelledError:
            self.cut += 1
            raise
        yield _frame({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 12, "completion_tokens": len(words)}
        yield _frame({"choices": [], "usage": usage})
        yield f": receipt {RECEIPT}\n\ndata: [DONE]\n\n"

    async def _receipt(self, request: Request) -> Response:
        if refused := _refused(request):
            return refused
        return JSONResponse(
            {
                "receipt_id": request.path_params["receipt"],
                "envelope": {
                    "payloadType": "application/vnd.in-toto+json",
                    "payload": base64.b64encode(
                        json.dumps({"predicate": {"cost": {"micro": "1234"}}}).encode()
                    ).decode(),
                },
                "salt": "00" * 32,
            }
        )

    async def _feedback(self, request: Request) -> Response:
        if refused := _refused(request):
            return refused
        self.thumbs.append(await request.json())
        return JSONResponse(self.thumbs[-1])

    async def _verify(self, request: Request) -> Response:
        self.verified.append(await request.json())
        checks = [
            {"name": "signature", "ok": True, "detail": "Ed25519, key 3fa2"},
            {"name": "audit entry", "ok": True, "detail": "entry 41"},
        ]
        return JSONResponse({"ok": True, "checks": checks, "not_established": ["the weights ran"]})


def _refused(request: Request) -> Response | None:
    if request.headers.get("authorization") == f"Bearer {KEY}":
        return None
    return _error(401, "expected a valid API key, found none")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    told = {"message": message, "type": "x", "code": "x", "param": None}
    return JSONResponse({"error": told}, status, headers)


def _frame(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
