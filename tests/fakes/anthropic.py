"""A server on loopback that speaks Anthropic's Messages and Message Batches protocol.

It judges by a rule that tests can foresee: the longer answer is the better one, unless an answer
holds a word that says otherwise. What it does wrong is asked for by `troubles` (one is used up at
each request to judge) or by a word in the prompt, which holds for that question alone:

| trouble or word | what happens |
| --- | --- |
| `429`, `529`, `500` | that status; 429 with `retry-after` |
| `credit` | 400 "Your credit balance is too low"; `billing`: 402 `billing_error` |
| `401`, `400` | that status |
| `refusal`, `max_tokens`, `malformed`, `contradiction` | a message that is paid for and says nothing |
| `hang` | never answers; `drop` judges, bills, and cuts the line; `garbage`: 200 with broken JSON |
| `late` | a batch is made and billed, and the line is cut before the answer |
| `lost` | the line is cut before a batch is made |

What it keeps outlives `stop()` and `restart()`. `bills` counts what somebody would have to pay for.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiohttp import web

KEY = "sk-ant-fake-0123456789"
MODEL = "claude-fake-judge"
CRITERIA = ("relevance", "helpfulness", "accuracy", "safety", "clarity")
WORDS = (
    "refusal", "max_tokens", "malformed", "contradiction", "biased", "tie", "400", "drop", "hang",
    "expired", "errored",
)  # fmt: skip
_PARTS = re.compile(r"<(prompt|first|second)>\n(.*?)\n</\1>", re.DOTALL)


@dataclass
class FakeAnthropic:
    """A fake server; enter it to start it.

    Attributes:
        troubles: What goes wrong at the next requests to judge, one each.
        retry_after: What a 429 names, seconds.
        requests: Bodies of all requests to judge.
        bills: How often each `custom_id` was judged and billed; direct calls go by their header.
        batches: By id; an ended one has its results.
        ends_batches: Whether a batch ends by itself when it is looked at.
        credit: How many judgments the account can still pay for; None for any number.
        slow_s: How long a judgment takes, seconds.
    """

    port: int = 0
    troubles: deque[str] = field(default_factory=deque)
    retry_after: str = "0"
    requests: list[dict[str, Any]] = field(default_factory=list)
    bills: Counter[str] = field(default_factory=Counter)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    ends_batches: bool = True
    credit: int | None = None
    slow_s: float = 0.0
    most_at_once: int = 0
    _at_once: int = 0

    def __enter__(self) -> Self:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._started.wait(10), "the fake judge did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def paid_twice(self) -> list[str]:
        """Questions that were billed more than once."""
        return [name for name, count in self.bills.items() if count > 1]

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)

    def restart(self) -> None:
        self.stop()
        self.__enter__()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=256 << 20)
        app.add_routes(
            [
                web.post("/v1/messages", self._message),
                web.post("/v1/messages/batches", self._make_batch),
                web.get("/v1/messages/batches", self._list),
                web.get("/v1/messages/batches/{id}", self._batch),
                web.get("/v1/messages/batches/{id}/results", self._results),
                web.post("/v1/messages/batches/{id}/cancel", self._cancel),
            ]
        )
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _message(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refused(request)) is not None:
            return refused
        body = await request.json()
        self.requests.append(body)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answer(request, body)
        finally:
            self._at_once -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        trouble = self.troubles.popleft() if self.troubles else ""
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if (wrong := self._status(trouble)) is not None:
            return wrong
        if self.credit is not None:
            if self.credit <= 0:
                return self._status("credit") or web.Response()
            self.credit -= 1
        mood = trouble or _mood(body)
        if mood == "400":
            return _error(400, "invalid_request_error", "messages: too long")
        if mood == "hang":
            await asyncio.sleep(3600)
        self.bills[request.headers.get("idempotency-key", "unnamed")] += 1
        if mood == "drop":
            assert request.transport is not None
            request.transport.abort()
        if mood == "garbage":
            return web.Response(text='{"id": "msg_', content_type="application/json")
        return web.json_response(_judged(body, mood))

    def _refused(self, request: web.Request) -> web.Response | None:
        # Newer libraries send the key as a bearer token, older ones in a header of its own.
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if KEY not in {bearer, request.headers.get("x-api-key")}:
            return _error(401, "authentication_error", "invalid x-api-key")
        assert request.headers.get("anthropic-version"), "the SDK names the protocol's version"
        return None

    def _status(self, trouble: str) -> web.Response | None:
        match trouble:
            case "429":
                answer = _error(429, "rate_limit_error", "Number of requests has exceeded")
                answer.headers["retry-after"] = self.retry_after
                return answer
            case "529":
                return _error(529, "overloaded_error", "Overloaded")
            case "500":
                return _error(500, "api_error", "Internal server error")
            case "401":
                return _error(401, "authentication_error", "invalid x-api-key")
            case "credit":
                told = "Your credit balance is too low to access the Anthropic API."
                return _error(400, "invalid_request_error", told)
            case "billing":
                return _error(402, "billing_error", "billing")
        return None

    async def _make_batch(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refused(request)) is not None:
            return refused
        body = await request.json()
        trouble = self.troubles.popleft() if self.troubles else ""
        if (wrong := self._status(trouble)) is not None:
            return wrong
        if trouble == "lost":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        names = [one["custom_id"] for one in body["requests"]]
        if len(set(names)) != len(names) or not all(re.fullmatch(r"[\w-]{1,64}", n) for n in names):
            return _error(400, "invalid_request_error", "custom_id")
        self.requests += [one["params"] for one in body["requests"]]
        number = len(self.batches) + 1
        made = datetime.now(UTC)
        batch = {
            "id": f"msgbatch_{number:06}", "type": "message_batch",
            "processing_status": "in_progress", "created_at": made.isoformat(),
            "expires_at": (made + timedelta(days=1)).isoformat(), "ended_at": None,
            "cancel_initiated_at": None, "archived_at": None, "results_url": None,
            "_requests": body["requests"], "_results": [],
        }  # fmt: skip
        self.batches[batch["id"]] = batch
        if trouble == "late":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(self._shown(batch))

    async def _list(self, request: web.Request) -> web.Response:
        found = [self._shown(one) for one in reversed(list(self.batches.values()))]
        return web.json_response(
            {"data": found, "has_more": False, "first_id": None, "last_id": None}
        )

    async def _batch(self, request: web.Request) -> web.Response:
        trouble = self.troubles.popleft() if self.troubles else ""
        if (wrong := self._status(trouble)) is not None:
            return wrong
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return _error(404, "not_found_error", "no such batch")
        if self.ends_batches:
            self.end(batch["id"])
        return web.json_response(self._shown(batch))

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        if batch["processing_status"] == "in_progress":
            self.end(batch["id"], canceled=True)
        return web.json_response(self._shown(batch))

    def end(self, batch_id: str, *, canceled: bool = False) -> None:
        """Judge what is in a batch; the results come in another order than the requests."""
        batch = self.batches[batch_id]
        if batch["processing_status"] == "ended":
            return
        for one in reversed(batch["_requests"]):
            batch["_results"].append(
                {"custom_id": one["custom_id"], "result": self._result(one, canceled=canceled)}
            )
        batch["processing_status"] = "ended"
        batch["ended_at"] = datetime.now(UTC).isoformat()
        batch["results_url"] = f"{self.url}/v1/messages/batches/{batch_id}/results"

    def _result(self, one: dict[str, Any], *, canceled: bool) -> dict[str, Any]:
        mood = _mood(one["params"])
        if canceled:
            return {"type": "canceled"}
        if mood == "expired":
            return {"type": "expired"}
        if mood in {"errored", "400"}:
            kind = "api_error" if mood == "errored" else "invalid_request_error"
            told = {"type": "error", "error": {"type": kind, "message": "it failed"}}
            return {"type": "errored", "error": told}
        if self.credit is not None:
            if self.credit <= 0:
                error = {"type": "billing_error", "message": "Your credit balance is too low"}
                return {"type": "errored", "error": {"type": "error", "error": error}}
            self.credit -= 1
        self.bills[one["custom_id"]] += 1
        return {"type": "succeeded", "message": _judged(one["params"], mood)}

    async def _results(self, request: web.Request) -> web.Response:
        found = self.batches[request.match_info["id"]]["_results"]
        text = "".join(json.dumps(one) + "\n" for one in found)
        return web.Response(text=text, content_type="application/x-jsonl")

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        counts: Counter[str] = Counter(one["result"]["type"] for one in batch["_results"])
        names = ("succeeded", "errored", "canceled", "expired")
        waiting = 0 if batch["_results"] else len(batch["_requests"])
        found = {name: value for name, value in batch.items() if not name.startswith("_")}
        return {
            **found,
            "request_counts": {"processing": waiting, **{name: counts[name] for name in names}},
        }


def _mood(params: dict[str, Any]) -> str:
    asked = _texts(params)["prompt"]
    return next((word for word in WORDS if f"[{word}]" in asked), "")


def _texts(params: dict[str, Any]) -> dict[str, str]:
    content = params["messages"][-1]["content"]
    return {name: text for name, text in _PARTS.findall(content)}


def _judged(params: dict[str, Any], mood: str) -> dict[str, Any]:
    """A message, as the API gives it."""
    assert params["output_config"]["format"]["type"] == "json_schema"
    texts = _texts(params)
    stop, text = "end_turn", json.dumps(_verdict(texts["first"], texts["second"], mood))
    if mood == "refusal":
        stop, text = "refusal", ""
    elif mood == "max_tokens":
        stop, text = "max_tokens", text[: len(text) // 2]
    elif mood == "malformed":
        text = "I think the first one is nicer."
    size = len(params["system"]) + len(params["messages"][-1]["content"])
    return {
        "id": "msg_fake", "type": "message", "role": "assistant", "model": params["model"],
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": stop, "stop_sequence": None,
        "usage": {
            "input_tokens": size // 4, "output_tokens": max(1, len(text) // 4),
            "cache_creation_input_tokens": None, "cache_read_input_tokens": None,
        },
    }  # fmt: skip


def _verdict(first: str, second: str, mood: str) -> dict[str, Any]:
    scores = [_score(first), _score(second)]
    if mood == "biased":
        scores = [8, 5]
    if mood == "tie":
        scores = [6, 6]
    preferred = "tie" if scores[0] == scores[1] else "first" if scores[0] > scores[1] else "second"
    if mood == "contradiction":
        preferred = "second" if scores[0] > scores[1] else "first"
    reason = "It says more; <b>honest</b>."
    return {
        "criteria": {
            one: {"reason": reason, "first": scores[0], "second": scores[1]} for one in CRITERIA
        },
        "preferred": preferred,
    }


def _score(text: str) -> int:
    return 1 if "worse" in text else min(10, 2 + len(text) // 8)


def _error(status: int, kind: str, message: str) -> web.Response:
    told = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return web.json_response(told, status=status)
