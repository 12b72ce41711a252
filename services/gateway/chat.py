"""The hot route, `POST /v1/chat/completions`: plain ASGI, no framework between socket and engine.

A request passes, in this order: size, key, body, writer, model and arm, limits, policy, journal,
engine, policy, record, answer. The body's `model` field stays what the engine says (the adapter or base that answered),
as vLLM does it; the alias that was asked for is in the receipt.

What a receipt commits to: the exact bytes of the request body, and the exact bytes of the response
body; of a stream, every byte before the line `: receipt`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from services.db import new_id
from services.errors import ConsoleError, EngineUnavailable, Unavailable
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
from services.gateway.asking import Asking
from services.gateway.chat_request import DEFAULT_COMPLETION, ChatRequest, read_chat_request
from services.gateway.client import ClientWatch
from services.gateway.exchange import Exchange, counted, whole_answer
from services.gateway.guarding import FILTERED, Blocked, Guarding
from services.gateway.intents import Journal
from services.gateway.limits import Ask, Hold, Limiter, OverLimit, Who, dearest
from services.gateway.logs import RequestLog, request_id
from services.gateway.metrics import Metrics
from services.gateway.outcome import Outcome, Status
from services.gateway.preload import Preloader
from services.gateway.refusals import Refusals
from services.gateway.snapshot import Directory
from services.gateway.sse import StreamReader, error_frame
from services.gateway.writer import Writer

log = logging.getLogger(__name__)

AFTER_DONE_S = 2.0
"""How long an engine may take to close a stream that it has declared done."""

MARK_S = 1.0
"""How often the journal is told how far a stream is."""

GONE = 499
"""Logged for a client that left; nginx's number."""

_DRAINING = [(b"retry-after", b"5"), (b"connection", b"close")]
_BUG = ConsoleError("the gateway failed; its log says more under this request id")
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
        asking: Asking,
        preloader: Preloader,
        writer: Writer,
        metrics: Metrics,
        requests: RequestLog,
        journal: Journal,
        refusals: Refusals,
    ) -> None:
        self._directory = directory
        self._limiter = limiter
        self._asking = asking
        self._preloader = preloader
        self._writer = writer
        self._metrics = metrics
        self._requests = requests
        self._journal = journal
        self._refusals = refusals
        self.in_flight = 0
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from its headers to its last byte."""
        exchange = Exchange(new_id(), receive, send)
        request_id.set(exchange.request_id)
        self.in_flight += 1
        status, code = 200, ""
        try:
            await self._admit(scope, exchange)
        except ClientGone:
            status, code = GONE, "client_gone"
            self._metrics.gone(exchange)
        except ConsoleError as error:
            status, code = error.http_status, error.code
            self._metrics.refused(exchange, error)
            if not (exchange.is_recorded or exchange.is_given_up):
                self._refusals.note(exchange.tenant.id if exchange.tenant else None, error)
            await send_error(send, error, exchange.request_id, exchange.standing)
        except Exception as error:
            # A bug; clients still get an answer in their protocol, and a way to ask about it.
            status, code = 500, type(error).__name__
            log.exception("a request met a bug", exc_info=error)
            if exchange.has_begun:
                raise
            await send_error(send, _BUG, exchange.request_id)
        finally:
            self.in_flight -= 1
            self._requests.chat(exchange, status, code)

    async def _admit(self, scope: Scope, exchange: Exchange) -> None:
        if self.is_draining:
            exchange.standing = _DRAINING
            raise Unavailable("this gateway takes no new requests; it is about to stop")
        headers = dict(scope["headers"])
        actor, tenant = await self._directory.caller(headers.get(b"authorization"))
        exchange.is_from(actor, tenant)
        exchange.keep_days = self._directory.keep_days(tenant.id)
        body = await read_body(headers, exchange.receive)
        exchange.is_received(body)
        request = read_chat_request(body)
        exchange.is_stream = request.stream
        self._writer.check()
        subject = _subject(headers, request) or actor.id
        # A name that has to be looked up first is priced by itself: it is what will be served.
        exchange.chosen = self._directory.known_choice(tenant, request.model, subject)
        hold = await self._reserve(exchange, request)
        try:
            if exchange.chosen is None:
                exchange.chosen = await self._directory.choose(tenant, request.model, subject)
            request = await self._guard(exchange, request)
            with self._journal.covering(exchange.intent(), exchange):
                if request.stream:
                    await self._stream(exchange, request)
                else:
                    await self._whole(exchange, request)
        finally:
            # Where an outcome was recorded this changes nothing: it has settled the hold.
            await self._limiter.settle(hold)

    async def _reserve(self, exchange: Exchange, request: ChatRequest) -> Hold:
        """Take what the request may need at most, at the dearest price of what may answer it."""
        tenant, actor, chosen = exchange.tenant, exchange.actor, exchange.chosen
        assert tenant is not None, "only a known tenant's request is admitted"
        assert actor is not None, "only a known key's request is admitted"
        may_answer = {request.model if chosen is None else chosen.model.served}
        may_answer |= await self._asking.also_served(tenant.id)
        exchange.prices = {name: self._directory.price(name) for name in may_answer}
        who = Who(tenant, exchange.key_id, self._directory.key_limits(exchange.key_id))
        try:
            hold = exchange.hold = await self._limiter.admit(who, self._ask(exchange, request))
        except OverLimit as error:
            exchange.standing = error.standing.headers()
            raise
        exchange.standing = hold.standing.headers()
        return hold

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

    def _ask(self, exchange: Exchange, request: ChatRequest) -> Ask:
        return Ask(
            prompt_bound=request.prompt_bound,
            completion=request.max_completion or DEFAULT_COMPLETION,
            choices=request.choices,
            ceiling=self._preloader.served.context,
            price=dearest(price for _version, price in exchange.prices.values()),
            is_open=request.max_completion is None,
        )

    async def _whole(self, exchange: Exchange, request: ChatRequest) -> None:
        """Answer in one piece."""
        try:
            async with ClientWatch(exchange.receive):
                answer = await self._asking.ask(exchange, request)
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
        exchange.answers(body)
        exchange.bytes_out = len(body)
        outcome = exchange.ended(Status.OK, reason)
        await self._record(exchange, outcome)
        cost = (b"x-param-cost-micro", str(outcome.cost_micro()).encode())
        receipt = (b"x-param-receipt", exchange.request_id.encode())
        await send_json(exchange.send, 200, body, [*exchange.headers(), receipt, cost])

    async def _stream(self, exchange: Exchange, request: ChatRequest) -> None:
        """Answer frame by frame; the end is sent after the outcome is recorded."""
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
        answer = await self._asking.ask(exchange, request)
        try:
            await exchange.begin(_SSE)
            async for piece in answer.pieces():
                if passed := reader.feed(piece):
                    await self._keep(exchange, request, reader)
                    await exchange.pass_on(passed)
                if reader.is_done or reader.failure:
                    break
            if reader.failure or not reader.is_done:
                raise EngineUnavailable(reader.failure or "the engine broke off while it answered")
            if reader.finish_reason != FILTERED:
                await answer.drain(AFTER_DONE_S)
        finally:
            answer.close()

    async def _keep(self, exchange: Exchange, request: ChatRequest, reader: StreamReader) -> None:
        """Tell the journal how far a stream is, before anything is given and then once a second.

        Its reservation begins again as well.
        """
        now = time.monotonic()
        if now - exchange.marked < MARK_S:
            return
        assert exchange.hold is not None, "tokens are reserved before the engine is asked"
        if exchange.detour and not exchange.marked:
            self._journal.begin(exchange.intent())  # Another engine answers than was written.
        exchange.marked = now
        self._journal.progress(exchange.request_id, *counted(reader, request))
        await self._limiter.renew(exchange.hold)

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

    async def _record(self, exchange: Exchange, outcome: Outcome) -> None:
        """Settle the reservation and have the outcome recorded, in this order."""
        assert exchange.hold is not None, "tokens are reserved before the engine is asked"
        tokens = outcome.prompt_tokens + outcome.completion_tokens
        await self._limiter.settle(exchange.hold, tokens, outcome.cost_micro())
        try:
            await self._writer.record(outcome)
        except ConsoleError:
            exchange.is_given_up = True
            raise
        exchange.is_recorded = True
        self._metrics.answered(outcome)

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
