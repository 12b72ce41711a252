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
from services.gateway.intents import Intent
from services.gateway.limits import Hold
from services.gateway.outcome import Chosen, Outcome, Status
from services.gateway.sse import StreamReader, token_count
from services.guardrails.models import Action, tally
from services.metering.models import Price
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
        bytes_in: Of the request's body; `bytes_out` likewise of the answer.
        detour: Why another engine answers than the one that was chosen.
        prices: Of what may answer, as of its admission: the table's version and the price, by the
            served model's name.
        is_recorded: Its outcome will be in the log, whatever happens to this process.
        is_given_up: Its outcome was refused by the writer, so nobody else will record it.
        keep_days: For how long the tenant keeps texts; 0 for not at all.
        asked: The request's body, and `answered` the pieces of the answer's, where it does.
        marked: When the journal was last told how far a stream is, monotonic seconds.
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
    bytes_in: int = 0
    bytes_out: int = 0
    detour: str = ""
    prices: dict[str, tuple[str, Price]] = field(default_factory=dict)
    is_recorded: bool = False
    is_given_up: bool = False
    marked: float = 0.0
    keep_days: int = 0
    asked: bytes = b""
    answered: list[bytes] = field(default_factory=list)
    is_estimated: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sent: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def key_id(self) -> str:
        """Id of the API key that asks."""
        assert self.actor is not None, "a key is known before anything else is"
        return self.actor.id.removeprefix("key:")

    def is_from(self, actor: Actor, tenant: Tenant) -> None:
        """Note who asks."""
        self.actor, self.tenant = actor, tenant

    def is_received(self, body: bytes) -> None:
        """Note that the whole request is here; latency counts from now."""
        self.request_digest = hashlib.sha256(body).digest()
        self.bytes_in = len(body)
        if self.keep_days:
            self.asked = body
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
        receipt = self.request_id.encode()
        self.has_begun = True
        await self.send(
            {
                "type": "http.response.start",
                "status": 200,
                # The id is known; the receipt itself is there once its record is durable.
                "headers": [*headers, *self.headers(), (b"x-param-receipt", receipt)],
            }
        )

    async def pass_on(self, data: bytes) -> None:
        """Send a part of a stream."""
        if self.first_byte is None:
            self.first_byte = time.perf_counter()
        self.answers(data)
        self.bytes_out += len(data)
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes) -> None:
        """Send the end of a stream; no receipt commits to these bytes."""
        await self.send({"type": "http.response.body", "body": data})

    def answers(self, data: bytes) -> None:
        """Note what the answer consists of: its hash, and the text where the tenant keeps it."""
        self.sent.update(data)
        if self.keep_days:
            self.answered.append(data)

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
        self.is_estimated = reader.prompt_tokens is None
        self.counts(*counted(reader, request))

    def intent(self) -> Intent:
        """What is about to go to the engine."""
        assert self.tenant is not None, "only a known tenant's request goes to the engine"
        assert self.actor is not None, "only a known key's request goes to the engine"
        assert self.chosen is not None, "only a request with a model goes to the engine"
        assert self.guarding is not None, "only a request with a policy goes to the engine"
        chosen = self.chosen
        version, price = self.prices[chosen.model.served]
        return Intent(
            request_id=self.request_id,
            tenant_id=self.tenant.id,
            actor_id=self.actor.id,
            actor_name=self.actor.name,
            alias=chosen.alias,
            served=chosen.model.served,
            adapter_digest=chosen.model.adapter_digest,
            arm=chosen.arm.value,
            rollout_id=chosen.rollout_id,
            percent=chosen.percent,
            stream=self.is_stream,
            policy_version=self.guarding.guards.version,
            price_version=version,
            prompt_price=price.prompt_micro_per_mtok,
            completion_price=price.completion_micro_per_mtok,
            received_at=self.received_at.isoformat(),
        )

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
            problem=problem or self.detour,
            price=self.prices[self.chosen.model.served],
            texts=(self.asked, b"".join(self.answered), self.keep_days) if self.keep_days else None,
            policy_version=self.guarding.guards.version,
            policy_digest=self.guarding.guards.digest,
            findings=tally(tuple(self.guarding.findings)),
        )


def counted(reader: StreamReader, request: ChatRequest) -> tuple[int, int]:
    """Prompt and completion tokens of a stream so far; estimated where the engine never counts."""
    if reader.prompt_tokens is not None:
        return reader.prompt_tokens, reader.completion_tokens
    return (request.prompt_bound // BYTES_PER_TOKEN, reader.deltas) if reader.deltas else (0, 0)


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
