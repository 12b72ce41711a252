"""The hot route, `POST /v1/chat/completions`: plain ASGI, no framework between socket and engine.

A request passes, in this order: size, key, body, writer, limits, model and arm, policy, engine,
policy, record, answer. The body's `model` field stays what the engine says (the adapter or base that answered),
as vLLM does it; the alias that was asked for is in the receipt.

What a receipt commits to: the exact bytes of the request body, and the exact bytes of the response
body; of a stream, every byte before the line `: receipt`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from services.db import new_id
from services.errors import ConsoleError, DigestMismatch, EngineUnavailable, MissingModel
from services.gateway.answers import (
    ClientGone,
    Receive,
    Refused,
    Scope,
    Send,
    read_body,
    send_error,
    send_json,
)
from services.gateway.chat_request import DEFAULT_COMPLETION, ChatRequest, read_chat_request
from services.gateway.client import ClientWatch
from services.gateway.exchange import Exchange, whole_answer
from services.gateway.guarding import FILTERED, Blocked, Guarding
from services.gateway.limits import Ask, Limiter
from services.gateway.metrics import Metrics
from services.gateway.outcome import Chosen, Outcome, Status
from services.gateway.preload import Preloader
from services.gateway.snapshot import Directory
from services.gateway.sse import StreamReader, error_frame
from services.gateway.upstream import Answer, Engine, UnknownToEngine
from services.gateway.writer import Recorded, Writer

log = logging.getLogger(__name__)

AFTER_DONE_S = 2.0
"""How long an engine may take to close a stream that it has declared done."""

_SSE = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class ChatRoute:
    """Answers chat requests."""

    def __init__(
        self,
        directory: Directory,
        limiter: Limiter,
        engine: Engine,
        preloader: Preloader,
        writer: Writer,
        metrics: Metrics,
    ) -> None:
        self._directory = directory
        self._limiter = limiter
        self._engine = engine
        self._preloader = preloader
        self._writer = writer
        self._metrics = metrics
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from its headers to its last byte."""
        exchange = Exchange(new_id(), receive, send)
        self.in_flight += 1
        try:
            await self._admit(scope, exchange)
        except ClientGone:
            self._metrics.gone(exchange)
        except ConsoleError as error:
            self._metrics.refused(exchange, error)
            await send_error(send, error, exchange.request_id, exchange.standing)
        finally:
            self.in_flight -= 1

    async def _admit(self, scope: Scope, exchange: Exchange) -> None:
        headers = dict(scope["headers"])
        actor, tenant = await self._directory.caller(headers.get(b"authorization"))
        exchange.is_from(actor, tenant)
        body = await read_body(headers, exchange.receive)
        exchange.is_received(body)
        request = read_chat_request(body)
        self._writer.check()
        try:
            exchange.hold = await self._limiter.admit(tenant, self._ask(request))
        finally:
            exchange.standing = (await self._limiter.standing(tenant)).headers()
        try:
            subject = _subject(headers, request) or actor.id
            exchange.chosen = await self._directory.choose(tenant, request.model, subject)
            request = await self._guard(exchange, request)
            if request.stream:
                await self._stream(exchange, request)
            else:
                await self._whole(exchange, request)
        finally:
            # Where an outcome was recorded this changes nothing: it has settled the hold.
            await self._limiter.settle(exchange.hold, 0)

    async def _guard(self, exchange: Exchange, request: ChatRequest) -> ChatRequest:
        """The request as the tenant's policy lets it go to the engine."""
        assert exchange.tenant is not None, "the tenant is known before its policy is"
        guards = self._directory.guards(exchange.tenant.id)
        guarding = Guarding(guards, guards.formal if request.is_formal else guards.output)
        exchange.guarding = guarding
        try:
            return replace(request, fields=guarding.request(request.fields))
        except ConsoleError as error:
            await self._record_failure(exchange, error)
            raise

    def _ask(self, request: ChatRequest) -> Ask:
        return Ask(
            prompt_bound=request.prompt_bound,
            completion=request.max_completion or DEFAULT_COMPLETION,
            choices=request.choices,
            ceiling=self._preloader.served.context,
        )

    async def _whole(self, exchange: Exchange, request: ChatRequest) -> None:
        """Answer in one piece."""
        try:
            async with ClientWatch(exchange.receive):
                answer = await self._ask_engine(exchange, request)
                try:
                    body = await answer.read()
                finally:
                    answer.close()
            usage = whole_answer(body)
            exchange.counts(usage.prompt_tokens, usage.completion_tokens)
            body, reason = exchange.guarded(body, usage.finish_reason)
        except ClientGone:
            await self._record(exchange, exchange.ended(Status.PARTIAL, "client_gone"))
            raise
        except asyncio.CancelledError:
            await self._record(exchange, exchange.ended(Status.PARTIAL, "shutdown"))
            raise
        except ConsoleError as error:
            await self._record_failure(exchange, error)
            raise
        exchange.sent.update(body)
        recorded = await self._record(exchange, exchange.ended(Status.OK, reason))
        cost = (b"x-param-cost-micro", str(recorded.cost_micro).encode())
        receipt = (b"x-param-receipt", exchange.request_id.encode())
        await send_json(exchange.send, 200, body, [*exchange.headers(), receipt, cost])

    async def _stream(self, exchange: Exchange, request: ChatRequest) -> None:
        """Answer frame by frame; the end is sent after the record is durable."""
        assert exchange.guarding is not None, "the policy is known before the engine is asked"
        reader = StreamReader(
            request.wants_usage,
            request.wants_continuous_usage,
            guarded=exchange.guarding.stream(),
        )
        status, reason = Status.OK, "stop"
        try:
            async with ClientWatch(exchange.receive):
                await self._forward(exchange, request, reader)
            reason = reader.finish_reason or reason
        except ClientGone:
            await self._record(exchange, self._cut(exchange, request, reader, "client_gone"))
            raise
        except asyncio.CancelledError:
            await self._record(exchange, self._cut(exchange, request, reader, "shutdown"))
            raise
        except ConsoleError as error:
            if not exchange.has_begun:
                await self._record_failure(exchange, error)
                raise
            status, reason = Status.PARTIAL, "error"
        exchange.counts_stream(reader, request)
        await self._end_stream(exchange, exchange.ended(status, reason))

    def _cut(
        self, exchange: Exchange, request: ChatRequest, reader: StreamReader, reason: str
    ) -> Outcome:
        exchange.counts_stream(reader, request)
        return exchange.ended(Status.PARTIAL, reason)

    async def _forward(
        self, exchange: Exchange, request: ChatRequest, reader: StreamReader
    ) -> None:
        answer = await self._ask_engine(exchange, request)
        try:
            await exchange.begin(_SSE)
            async for piece in answer.pieces():
                if passed := reader.feed(piece):
                    await exchange.pass_on(passed)
                if reader.is_done or reader.failure:
                    break
            if reader.failure or not reader.is_done:
                raise EngineUnavailable(reader.failure or "the engine broke off while it answered")
            if reader.finish_reason != FILTERED:
                await answer.drain(AFTER_DONE_S)
        finally:
            answer.close()

    async def _end_stream(self, exchange: Exchange, outcome: Outcome) -> None:
        try:
            await self._record(exchange, outcome)
        except ConsoleError as error:
            await exchange.finish(error_frame(error))
            return
        receipt = f": receipt {exchange.request_id}\n\n".encode()
        if outcome.status is Status.OK:
            await exchange.finish(receipt + b"data: [DONE]\n\n")
        else:
            broken = EngineUnavailable("the engine broke off while it answered")
            await exchange.finish(receipt + error_frame(broken))

    async def _ask_engine(self, exchange: Exchange, request: ChatRequest) -> Answer:
        """The engine's answer; an engine that has forgotten the model is told it again, once.

        Raises:
            EngineUnavailable: It does not answer, failed, or does not take the model.
            Refused: It found the request wrong.
        """
        chosen = exchange.chosen
        assert chosen is not None, "the model is chosen before the engine is asked"
        try:
            return await self._engine.chat(self._upstream_body(exchange, chosen, request))
        except UnknownToEngine:
            await self._load(exchange, chosen)
        try:
            return await self._engine.chat(self._upstream_body(exchange, chosen, request))
        except UnknownToEngine as error:
            raise EngineUnavailable(
                f"the engine does not serve {chosen.model.served}, although it was loaded"
            ) from error

    async def _load(self, exchange: Exchange, chosen: Chosen) -> None:
        if chosen.model.adapter_digest is None:
            await self._preloader.look()
            return
        tenant = exchange.tenant
        assert tenant is not None, "the tenant is known before a model is chosen"
        try:
            await self._preloader.ensure(self._directory.known(tenant.id, chosen.model.served))
        except (DigestMismatch, MissingModel) as error:
            raise EngineUnavailable(
                f"adapter {chosen.model.served} cannot be loaded: {error.code}"
            ) from error

    def _upstream_body(self, exchange: Exchange, chosen: Chosen, request: ChatRequest) -> bytes:
        model = chosen.model.served
        if chosen.model.adapter_digest is None:
            # An engine may serve the base under a name of its own.
            model = self._preloader.served.base or model
        hold = exchange.hold
        assert hold is not None, "tokens are reserved before the engine is asked"
        ceiling = self._preloader.served.context
        # With neither a maximum of the client nor room for ours the context itself is the bound:
        # engines refuse a maximum that does not fit into it.
        fits = ceiling is None or request.prompt_bound + hold.completion <= ceiling
        sets = request.max_completion is not None or hold.is_clamped or fits
        return request.upstream_body(model, hold.completion if sets else None)

    async def _record(self, exchange: Exchange, outcome: Outcome) -> Recorded:
        """Settle the reservation and make the outcome durable, in this order."""
        assert exchange.hold is not None, "tokens are reserved before the engine is asked"
        await self._limiter.settle(exchange.hold, outcome.prompt_tokens + outcome.completion_tokens)
        recorded = await self._writer.record(outcome)
        self._metrics.answered(outcome, recorded)
        return recorded

    async def _record_failure(self, exchange: Exchange, error: ConsoleError) -> None:
        """Log a request that got no answer; its error is answered whether that works or not."""
        problem = error.code if not isinstance(error, Refused) else f"refused_{error.http_status}"
        if isinstance(error, Blocked):
            problem = error.problem
        try:
            await self._record(exchange, exchange.ended(Status.ERROR, "error", problem))
        except ConsoleError as failure:
            log.error("a failed request could not be recorded: %s", failure)


def _subject(headers: dict[bytes, bytes], request: ChatRequest) -> str | None:
    """Who asks, stable over a conversation: the header, else the body, else the conversation."""
    user = headers.get(b"x-param-user")
    if user:
        return user.decode("utf-8", "surrogateescape")
    if request.user:
        return request.user
    conversation = headers.get(b"x-param-conversation")
    return conversation.decode("utf-8", "surrogateescape") if conversation else None
