"""An engine on loopback that speaks vLLM's protocol and thinks nothing.

It runs in a thread of its own, so synchronous and asynchronous tests can use it alike:

    with FakeEngine() as engine:
        engine.url, engine.requests, engine.adapters

What it does wrong on purpose is asked for by the last message: `slow`, `error`, `refuse`, `die`,
`stall`, `silent` (no usage). Everything else is answered at once with "Hello from MODEL".
"""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

BASE = "fake-base"
PROMPT_TOKENS = 7
TOKEN_S = 0.02
"""Seconds between two tokens of a slow answer."""


@dataclass
class FakeEngine:
    """A fake engine; enter it to start it.

    Attributes:
        requests: Bodies of the chat requests, as they arrived.
        adapters: Loaded adapters: name to folder.
        loads: Names in the order in which they were loaded.
        says: What every answer is, token by token; its usual words where it is empty.
        aborted: Chat requests whose client went away before the end.
        words: How many tokens an answer has at most.
        slow: Seconds that single models take longer.
        failing: Models that fail every request.
        context: `max_model_len` in the model list; None leaves it out.
    """

    base: str = BASE
    port: int = 0
    words: int = 5
    context: int | None = 2048
    requests: list[dict[str, Any]] = field(default_factory=list)
    adapters: dict[str, str] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    aborted: int = 0
    slow: dict[str, float] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._started.wait(10), "the fake engine did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)

    def restart(self) -> None:
        """As a killed engine comes back: on the same port, with nothing loaded."""
        self.stop()
        self.adapters.clear()
        self.__enter__()

    def _serve(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/v1/models", self._models),
                web.post("/v1/load_lora_adapter", self._load),
                web.post("/v1/unload_lora_adapter", self._unload),
                web.post("/v1/chat/completions", self._chat),
            ]
        )
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True, backlog=1024)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        base: dict[str, Any] = {"id": self.base, "object": "model", "root": "/base", "parent": None}
        if self.context is not None:
            base["max_model_len"] = self.context
        loaded = [
            {"id": name, "object": "model", "root": path, "parent": self.base}
            for name, path in self.adapters.items()
        ]
        return web.json_response({"object": "list", "data": [base, *loaded]})

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["lora_name"]
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        self.adapters[name] = body["lora_path"]
        self.loads.append(name)
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.adapters.pop(body["lora_name"], None) is None:
            return _error(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        return web.Response(text="Success")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        if body["model"] not in {self.base, *self.adapters}:
            return _error(404, f"The model `{body['model']}` does not exist.")
        content = body["messages"][-1].get("content")
        mood = content if isinstance(content, str) else ""
        if wait_s := self.slow.get(body["model"]):
            await asyncio.sleep(wait_s)
        if mood == "error" or body["model"] in self.failing:
            return _error(500, "the fake engine failed")
        if mood == "refuse":
            return _error(400, "temperature must be in [0, 2]", param="temperature")
        words = self._words(body)
        finish = "length" if body.get("max_tokens") == len(words) else "stop"
        try:
            if body.get("stream"):
                return await self._stream(request, body, mood, words, finish)
            if mood == "stall":
                await asyncio.sleep(3600)
            if mood == "slow":
                await asyncio.sleep(TOKEN_S * len(words))
        except (asyncio.CancelledError, ConnectionError):
            self.aborted += 1
            raise
        message = {"role": "assistant", "content": "".join(words)}
        answer = {
            **_head(body, "chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        }
        if mood != "silent":
            answer["usage"] = _usage(len(words))
        return web.json_response(answer)

    def _words(self, body: dict[str, Any]) -> list[str]:
        """What the answer is, token by token."""
        words = self.says
        if not words:
            words = [f"Hello from {body['model']}", *(f" w{n}" for n in range(1, self.words))]
        return words[: body.get("max_tokens") or len(words)]

    async def _stream(
        self, request: web.Request, body: dict[str, Any], mood: str, words: list[str], finish: str
    ) -> web.StreamResponse:
        options = body.get("stream_options") or {}
        always = options.get("continuous_usage_stats") and mood != "silent"
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)

        async def say(delta: dict[str, str], tokens: int, reason: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            chunk = {**_head(body, "chat.completion.chunk"), "choices": [choice]}
            if always:
                chunk["usage"] = _usage(tokens)
            await _send(response, chunk)

        await say({"role": "assistant", "content": ""}, 0)
        for number, word in enumerate(words, 1):
            if mood in {"slow", "stall", "die"} and number > 1:
                await asyncio.sleep(3600 if mood == "stall" and number > 2 else TOKEN_S)
            if mood == "die" and number == 3:
                assert request.transport is not None
                request.transport.abort()
                return response
            await say({"content": word}, number, finish if number == len(words) else None)
        if options.get("include_usage") and mood != "silent":
            closing = {**_head(body, "chat.completion.chunk"), "choices": []}
            await _send(response, {**closing, "usage": _usage(len(words))})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


async def _send(response: web.StreamResponse, chunk: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": kind, "created": 1, "model": body["model"]}


def _usage(completion_tokens: int) -> dict[str, int]:
    total = PROMPT_TOKENS + completion_tokens
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion_tokens,
        "total_tokens": total,
    }


def _error(status: int, message: str, param: str | None = None) -> web.Response:
    error = {"message": message, "type": "BadRequestError", "code": status, "param": param}
    return web.json_response({"error": error}, status=status)
