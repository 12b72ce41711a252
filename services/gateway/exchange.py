"""One request on its way through the hot route: what is known of it so far, and what was sent."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from services.db import utcnow
from services.errors import EngineUnavailable
from services.gateway.answers import Receive, Send
from services.gateway.chat_request import ChatRequest
from services.gateway.guarding import FILTERED, Guarding
from services.gateway.limits import Hold
from services.gateway.outcome import Chosen, Outcome, Status
from services.gateway.sse import StreamReader, token_count
from services.guardrails.models import Action, tally
from services.tenants.models import Actor, Tenant

FINISH_REASONS = frozenset(
    {"stop", "length", "tool_calls", "function_call", "content_filter", "abort"}
    | {"client_gone", "shutdown", "error"}
)
"""Words that receipts know; an engine's own inventions are recorded as `other`."""

BYTES_PER_TOKEN = 4
"""Used only where an engine streams without ever counting; such outcomes say so."""


@dataclass(slots=True)
class Exchange:
    """A request and its answer.

    Attributes:
        standing: Headers that say what the tenant has left of its limits.
        sent: Hash of the response bytes given to the client so far.
        has_begun: Whether the response's status is on its way, so that no other can be sent.
    """

    request_id: str
    receive: Receive
    send: Send
    actor: Actor | None = None
    tenant: Tenant | None = None
    hold: Hold | None = None
    chosen: Chosen | None = None
    guarding: Guarding | None = None
    standing: list[tuple[bytes, bytes]] = field(default_factory=list)
    is_stream: bool = False
    request_digest: bytes = b""
    received_at: datetime = field(default_factory=utcnow)
    began: float = field(default_factory=time.perf_counter)
    first_byte: float | None = None
    has_begun: bool = False
    is_estimated: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sent: hashlib._Hash = field(default_factory=hashlib.sha256)

    def is_from(self, actor: Actor, tenant: Tenant) -> None:
        """Note who asks."""
        self.actor, self.tenant = actor, tenant

    def is_received(self, body: bytes) -> None:
        """Note that the whole request is here; latency counts from now."""
        self.request_digest = hashlib.sha256(body).digest()
        self.received_at = utcnow()
        self.began = time.perf_counter()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer to a request whose model is chosen."""
        assert self.chosen is not None, "the model is chosen before anything is answered"
        return [
            (b"x-request-id", self.request_id.encode()),
            (b"x-param-model", self.chosen.model.served.encode()),
            (b"x-param-arm", self.chosen.arm.value.encode()),
            *self.standing,
        ]

    async def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the status line of a stream."""
        self.has_begun = self.is_stream = True
        await self.send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*headers, *self.headers()],
            }
        )

    async def pass_on(self, data: bytes) -> None:
        """Send a part of a stream."""
        if self.first_byte is None:
            self.first_byte = time.perf_counter()
        self.sent.update(data)
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes) -> None:
        """Send the end of a stream; no receipt commits to these bytes."""
        await self.send({"type": "http.response.body", "body": data})

    def guarded(self, body: bytes, finish_reason: str) -> tuple[bytes, str]:
        """A whole answer as the policy lets it go, and how it ended then."""
        assert self.guarding is not None, "the policy is known before the engine is asked"
        passed = self.guarding.answer(body)
        stopped = any(one.action is Action.BLOCK for one in self.guarding.findings)
        return passed, FILTERED if stopped else finish_reason

    def counts(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Note the tokens as the engine counted them."""
        self.prompt_tokens, self.completion_tokens = prompt_tokens, completion_tokens

    def counts_stream(self, reader: StreamReader, request: ChatRequest) -> None:
        """Note the tokens of a stream, counted here where the engine never did."""
        if reader.prompt_tokens is not None:
            self.counts(reader.prompt_tokens, reader.completion_tokens)
            return
        self.is_estimated = True
        if reader.deltas:
            self.counts(request.prompt_bound // BYTES_PER_TOKEN, reader.deltas)

    def ended(self, status: Status, finish_reason: str, problem: str = "") -> Outcome:
        """The outcome, as of now."""
        assert self.tenant is not None, "only a known tenant's request has an outcome"
        assert self.actor is not None, "only a known key's request has an outcome"
        assert self.chosen is not None, "only a request with a model has an outcome"
        assert self.guarding is not None, "only a request with a policy has an outcome"
        now = time.perf_counter()
        first = self.first_byte
        return Outcome(
            request_id=self.request_id,
            tenant_id=self.tenant.id,
            actor=self.actor,
            chosen=self.chosen,
            stream=self.is_stream,
            received_at=self.received_at,
            completed_at=utcnow(),
            request_digest=self.request_digest,
            response_digest=self.sent.digest(),
            status=status,
            finish_reason=finish_reason if finish_reason in FINISH_REASONS else "other",
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            latency_ms=round((now - self.began) * 1000),
            ttft_ms=None if first is None else round((first - self.began) * 1000),
            is_estimated=self.is_estimated,
            problem=problem,
            policy_version=self.guarding.guards.version,
            policy_digest=self.guarding.guards.digest,
            findings=tally(tuple(self.guarding.findings)),
        )


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """What the gateway reads of an answer that came in one piece."""

    prompt_tokens: int
    completion_tokens: int
    finish_reason: str


def whole_answer(body: bytes) -> WholeAnswer:
    """Read usage and ending of an answer.

    Raises:
        EngineUnavailable: It is no chat completion, or the engine did not count its tokens: what
            cannot be metered is not answered.
    """
    try:
        answer: dict[str, Any] = orjson.loads(body)
        usage = answer["usage"]
        reasons = [choice.get("finish_reason") for choice in answer["choices"]]
        prompt = token_count(usage["prompt_tokens"])
        completion = token_count(usage.get("completion_tokens"))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineUnavailable("the engine answered without choices or usage") from error
    return WholeAnswer(prompt, completion, str(reasons[-1]) if reasons and reasons[-1] else "stop")
