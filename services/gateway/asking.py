"""Asking an engine for an answer: the installation's own, or a second one where that fails.

A second engine is asked only where nothing has been sent to the client yet, the first one itself
failed (not the request, not an adapter), an operator has named one and the tenant allows it. What
it answers is recorded as what it is: another model, no adapter, the arm `fallback`, its own price.
For a rollout the request is a failure of the arm that should have answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from services.errors import (
    ConsoleError,
    DigestMismatch,
    EngineUnavailable,
    MissingModel,
)
from services.gateway.answers import Refused
from services.gateway.breaker import UpstreamFailed
from services.gateway.chat_request import ChatRequest
from services.gateway.exchange import Exchange
from services.gateway.outcome import Chosen, Model
from services.gateway.preload import Preloader
from services.gateway.snapshot import Directory
from services.gateway.upstream import Answer, Engine, UnknownToEngine
from services.operations.models import fallback_served
from services.rollouts.models import Arm

log = logging.getLogger(__name__)

KNOWN_S = 1.0
"""How long an answer to "does this tenant allow it" is used again."""


class Fallback:
    """The second engine, and who may be answered by it.

    Args:
        engine: The second engine.
        model: What it is asked for.
        allows: Whether a tenant lets its requests go there; may block.
    """

    def __init__(self, engine: Engine, model: str, allows: Callable[[str], bool]) -> None:
        self.engine = engine
        self.model = model
        self._allows = allows
        self._known: dict[str, tuple[float, bool]] = {}

    async def is_allowed(self, tenant_id: str) -> bool:
        """Whether a tenant's requests may go there; no, where that cannot be found out."""
        now = time.monotonic()
        known = self._known.get(tenant_id)
        if known is not None and now - known[0] < KNOWN_S:
            return known[1]
        try:
            found = await asyncio.to_thread(self._allows, tenant_id)
        except ConsoleError as error:
            log.error("whether tenant %s allows the fallback is not known: %s", tenant_id, error)
            return False
        self._known[tenant_id] = (now, found)
        return found

    def chosen(self, instead_of: Chosen) -> Chosen:
        """What answers, as the records name it; they keep which arm has failed."""
        served = fallback_served(self.model)
        model = Model(served, None, self.model, "")
        return Chosen(instead_of.alias, model, Arm.FALLBACK, instead_of=instead_of)


class Asking:
    """Asks engines.

    Args:
        on_failure: Is told the engine's name and why it failed.
        on_fallback: Is told the tenant's id.
    """

    def __init__(
        self,
        directory: Directory,
        engine: Engine,
        preloader: Preloader,
        fallback: Fallback | None,
        *,
        on_failure: Callable[[str, str], None],
        on_fallback: Callable[[str], None],
    ) -> None:
        self._directory, self._engine, self._preloader = directory, engine, preloader
        self._fallback = fallback
        self._on_failure, self._on_fallback = on_failure, on_fallback

    async def also_served(self, tenant_id: str) -> set[str]:
        """What may answer a tenant's requests beside what they ask for; they reserve its price."""
        fallback = self._fallback
        if fallback is None or not await fallback.is_allowed(tenant_id):
            return set()
        return {fallback_served(fallback.model)}

    async def ask(self, exchange: Exchange, request: ChatRequest) -> Answer:
        """The answer that an engine has begun to give.

        `exchange.chosen` says afterwards what answers.

        Raises:
            EngineUnavailable: No engine answers, or the engine does not take the model.
            Refused: An engine found the request wrong.
        """
        try:
            return await self._own(exchange, request)
        except UpstreamFailed as error:
            self._on_failure(self._engine.breaker.name, error.reason)
            answer = await self._elsewhere(exchange, request, error)
            if answer is None:
                raise
            return answer

    async def _elsewhere(
        self, exchange: Exchange, request: ChatRequest, error: UpstreamFailed
    ) -> Answer | None:
        """The second engine's answer; None where there is none to be had."""
        fallback, own = self._fallback, exchange.chosen
        assert own is not None, "the model is chosen before the engine is asked"
        assert exchange.tenant is not None, "the tenant is known before a model is chosen"
        if fallback is None or fallback_served(fallback.model) not in exchange.prices:
            return None  # What was not allowed at the beginning has no money reserved for it.
        if not await fallback.is_allowed(exchange.tenant.id):
            return None
        assert exchange.hold is not None, "tokens are reserved before the engine is asked"
        body = request.fallback_body(fallback.model, exchange.hold.completion)
        try:
            answer = await fallback.engine.chat(body, stream=request.stream)
        except UpstreamFailed as second:
            self._on_failure(fallback.engine.breaker.name, second.reason)
            return None
        except UnknownToEngine:
            log.error("the fallback does not know the model %s", fallback.model)
            self._on_failure(fallback.engine.breaker.name, "unknown_model")
            return None
        except Refused as refused:
            # It may not know a field that our engine knows: no reason to blame the client.
            log.warning("the fallback refused a request: status %d", refused.http_status)
            self._on_failure(fallback.engine.breaker.name, "refused")
            return None
        exchange.chosen = fallback.chosen(own)
        exchange.detour = f"fell_back_{error.reason}"
        self._on_fallback(exchange.tenant.id)
        return answer

    async def _own(self, exchange: Exchange, request: ChatRequest) -> Answer:
        """The engine's answer; an engine that has forgotten the model is told it again, once."""
        chosen, stream = exchange.chosen, request.stream
        assert chosen is not None, "the model is chosen before the engine is asked"
        try:
            body = self._body(exchange, chosen, request)
            return await self._engine.chat(body, stream=stream)
        except UnknownToEngine:
            await self._load(exchange, chosen)
        try:
            body = self._body(exchange, chosen, request)
            return await self._engine.chat(body, stream=stream)
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

    def _body(self, exchange: Exchange, chosen: Chosen, request: ChatRequest) -> bytes:
        model = chosen.model.served
        if chosen.model.adapter_digest is None and not chosen.is_split_outside:
            # An engine may serve the base under a name of its own.
            model = self._preloader.served.base or model
        return request.upstream_body(model, self._maximum(exchange, request))

    def _maximum(self, exchange: Exchange, request: ChatRequest) -> int | None:
        """How many tokens an answer may have; None leaves it to the engine."""
        hold = exchange.hold
        assert hold is not None, "tokens are reserved before the engine is asked"
        ceiling = self._preloader.served.context
        # With neither a maximum of the client nor room for ours the context itself is the bound:
        # engines refuse a maximum that does not fit into it.
        fits = ceiling is None or request.prompt_bound + hold.completion <= ceiling
        sets = request.max_completion is not None or hold.is_clamped or fits
        return hold.completion if sets else None
