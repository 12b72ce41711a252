"""What the hot route looks up, in memory: keys, routes and adapters, renewed twice a second.

The refresher reads in a thread of its own and swaps the whole snapshot at once, so no request
waits for the database and none sees half of a change. A snapshot that could not be renewed for
`STALE_AFTER_S` is no longer trusted: a revoked key must not work on because a database is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy.exc import SQLAlchemyError

from services.errors import (
    ConsoleError,
    InvalidInput,
    MissingModel,
    NotFound,
    NotSignedIn,
    Unavailable,
)
from services.gateway.answers import model_not_found
from services.gateway.local_limits import LocalLimiter
from services.gateway.outcome import Chosen, Model
from services.gateway.parts import Parts
from services.guardrails.guards import Guards, compile_guards
from services.guardrails.policy import default_policy
from services.inference.model_store import resolve
from services.metering.models import Price, PriceTable
from services.registry.models import NAME_RULE, Adapter
from services.rollouts.assign import place
from services.rollouts.models import Arm, Route
from services.tenants.models import UNLIMITED, Actor, KeyLimits, Tenant

log = logging.getLogger(__name__)

REFRESH_S = 0.5
STALE_AFTER_S = 10.0
RENEWAL_PATIENCE_S = 4 * REFRESH_S
SYSTEM = Actor.system("gateway")
_NOBODY = "expected a valid API key, found one that is unknown or revoked"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent view of who may ask and what answers.

    Attributes:
        callers: Who asks, by the hex SHA-256 of the key.
        routes: What an alias is served by, by tenant id and alias.
        adapters: The adapters that the routes name, by tenant id and name.
        base: The base model alone.
        guards: What is checked, by tenant id, where a tenant has a policy of its own.
        key_limits: What a key may ask for, by the key's id, where it has limits of its own.
        prices: The newest price table.
        keep_days: For how long a tenant keeps texts, by tenant id, where it does.
        read_at: When it was read, monotonic seconds.
    """

    callers: Mapping[str, tuple[Actor, Tenant]]
    routes: Mapping[tuple[str, str], Route]
    adapters: Mapping[tuple[str, str], Adapter]
    base: Model
    guards: Mapping[str, Guards]
    key_limits: Mapping[str, KeyLimits]
    prices: PriceTable
    keep_days: Mapping[str, int]
    read_at: float


class Directory:
    """The present snapshot, and what keeps it fresh.

    Args:
        parts: Where keys, aliases, rollouts and adapters are kept.
        limiter: Is told what each tenant has used before its first request.
    """

    def __init__(self, parts: Parts, limiter: LocalLimiter) -> None:
        self._parts = parts
        self._limiter = limiter
        self._adapters: dict[tuple[str, str], Adapter] = {}
        self._base = base_model(parts)
        self._default = compile_guards(0, default_policy().source)
        self._guards: dict[str, Guards] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gateway-directory")
        self._snapshot = self._read()
        self._task: asyncio.Task[None] | None = None
        self._swapped = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to renew the snapshot; needs a running event loop."""
        self._task = asyncio.create_task(self._refresh_forever())

    async def stop(self) -> None:
        """Stop renewing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=True)

    def snapshot(self) -> Snapshot:
        """The present view.

        Raises:
            Unavailable: It could not be renewed for too long.
        """
        age = time.monotonic() - self._snapshot.read_at
        if age > STALE_AFTER_S:
            raise Unavailable(f"keys and routes could not be read for {age:.0f} s")
        return self._snapshot

    @property
    def age_s(self) -> float:
        """How long ago the view was read, seconds."""
        return time.monotonic() - self._snapshot.read_at

    @property
    def is_fresh(self) -> bool:
        """Whether the view is young enough to be trusted."""
        return self.age_s <= STALE_AFTER_S

    async def caller(self, authorization: bytes | None) -> tuple[Actor, Tenant]:
        """Who sends this Authorization header.

        The key is looked up by its hash, so the time of the look-up tells nothing about any key.
        An unknown one waits for the next snapshot: it may have been created a moment ago, and
        whoever guesses keys is slowed down.

        Raises:
            NotSignedIn: No header, another scheme, or a key that is unknown or revoked.
        """
        if authorization is None or authorization[:7].lower() != b"bearer ":
            raise NotSignedIn("expected the header Authorization: Bearer KEY, found none")
        digest = sha256(authorization[7:].strip()).hexdigest()
        found = self.snapshot().callers.get(digest)
        if found is None:
            await self._renewed()
            found = self.snapshot().callers.get(digest)
        if found is None:
            raise NotSignedIn(_NOBODY)
        return found

    async def _renewed(self) -> None:
        """Wait until the snapshot was read after this call, but not for long."""
        asked_at = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RENEWAL_PATIENCE_S):
                while self._snapshot.read_at < asked_at:
                    await self._swapped.wait()

    def aliases(self, tenant_id: str) -> list[Route]:
        """The tenant's aliases, by name."""
        routes = self.snapshot().routes
        return sorted(
            (route for key, route in routes.items() if key[0] == tenant_id),
            key=lambda route: route.alias,
        )

    def needed(self) -> list[Adapter]:
        """The adapters that some route may send a request to."""
        return list(self._snapshot.adapters.values())

    def known(self, tenant_id: str, name: str) -> Adapter:
        """An adapter that was seen before.

        Raises:
            Unavailable: A route names it, but the registry does not know it.
        """
        found = self._adapters.get((tenant_id, name))
        if found is None:
            raise Unavailable(f"adapter {name} is not registered; the alias cannot be served")
        return found

    async def choose(self, tenant: Tenant, asked: str, subject: str) -> Chosen:
        """Which model answers.

        Args:
            asked: The request's model: an alias, an adapter of the tenant, or empty or `default`
                or the tenant's id for the default alias.
            subject: Who asks, stable over a conversation; decides the arm.

        Raises:
            Refused: There is no such model for this tenant (404).
            Unavailable: The alias means an adapter that is not registered.
        """
        found = self.known_choice(tenant, asked, subject)
        if found is not None:
            return found
        adapter = await self._pinned(tenant.id, asked)
        return Chosen(adapter.alias, self._model(adapter), Arm.PINNED)

    def known_choice(self, tenant: Tenant, asked: str, subject: str) -> Chosen | None:
        """Like `choose`, but None for a name that has to be looked up first.

        What is priced before it is asked for must be chosen without waiting for anything.
        """
        snapshot = self.snapshot()
        alias = tenant.id if asked in {"", "default"} else asked
        route = snapshot.routes.get((tenant.id, alias))
        if route is None:
            adapter = self._adapters.get((tenant.id, asked))
            if adapter is None:
                return None
            return Chosen(adapter.alias, self._model(adapter), Arm.PINNED)
        if route.is_split_outside:
            model = Model(alias, None, snapshot.base.base_model, "")
            return Chosen(alias, model, Arm.STABLE, is_split_outside=True)
        arm, found = place(route, subject)
        name = route.candidate if arm is Arm.CANARY else route.stable
        model = snapshot.base if name is None else self._model(self.known(tenant.id, name))
        return Chosen(alias, model, arm, route.rollout_id, route.percent, found)

    async def _pinned(self, tenant_id: str, name: str) -> Adapter:
        """An adapter that the client names itself; the same 404 for unknown and foreign."""
        found = self._adapters.get((tenant_id, name))
        if found is None and NAME_RULE.fullmatch(name):
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, self._adapter, tenant_id, name)
        if found is None:
            raise model_not_found(name)
        return found

    def _adapter(self, tenant_id: str, name: str) -> Adapter | None:
        """An adapter; asked once, because nothing of it ever changes."""
        if (tenant_id, name) not in self._adapters:
            try:
                found = self._parts.registry.get(SYSTEM, tenant_id, name)
            except (NotFound, InvalidInput):
                return None
            self._adapters[tenant_id, name] = found
        return self._adapters[tenant_id, name]

    def _model(self, adapter: Adapter) -> Model:
        return Model(adapter.name, adapter.digest, adapter.base_model, adapter.base_digest)

    def guards(self, tenant_id: str) -> Guards:
        """What is checked for a tenant.

        Raises:
            Unavailable: See `snapshot`.
        """
        return self.snapshot().guards.get(tenant_id, self._default)

    def tenants(self) -> list[Tenant]:
        """The tenants that have a live key, as of the last look."""
        return list({tenant.id: tenant for _, tenant in self._snapshot.callers.values()}.values())

    def key_limits(self, key_id: str) -> KeyLimits:
        """What one key may ask for, within what its tenant may."""
        return self._snapshot.key_limits.get(key_id, UNLIMITED)

    def price(self, served: str) -> tuple[str, Price]:
        """Version of the newest price table, and its price of a model; needs no database."""
        table = self._snapshot.prices
        return table.version, table.price(served)

    def keep_days(self, tenant_id: str) -> int:
        """For how long a tenant keeps texts; 0 for not at all."""
        return self._snapshot.keep_days.get(tenant_id, 0)

    def _compiled(self) -> dict[str, Guards]:
        """The tenants' own guards; those of a policy that has not changed are kept."""
        found: dict[str, Guards] = {}
        for tenant_id, (version, source) in self._parts.guardrails.live().items():
            known = self._guards.get(tenant_id)
            is_same = known is not None and known.version == version
            found[tenant_id] = known if is_same and known else compile_guards(version, source)
        self._guards = found
        return found

    def _read(self) -> Snapshot:
        read_at = time.monotonic()
        callers = self._parts.tenants.live_keys()
        routes = self._parts.rollouts.routes()
        for _, tenant in callers.values():
            if not self._limiter.knows(tenant.id):
                self._limiter.learn(tenant, self._parts.metering.used(tenant))
        adapters = {}
        for tenant_id, route in ((key[0], route) for key, route in routes.items()):
            if route.is_split_outside:
                continue  # A cluster loads its own.
            for name in (route.stable, route.candidate):
                if name is not None and (found := self._adapter(tenant_id, name)) is not None:
                    adapters[tenant_id, name] = found
        if not self._base.base_digest:
            self._base = base_model(self._parts)
        limits, prices = self._parts.tenants.key_limits(), self._parts.metering.prices_now()
        guards = self._compiled()
        keep_days = self._parts.evidence.retention.live()
        return Snapshot(
            callers, routes, adapters, self._base, guards, limits, prices, keep_days, read_at
        )

    async def _refresh_forever(self) -> None:
        loop = asyncio.get_running_loop()
        is_failing = False
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                fresh = await loop.run_in_executor(self._thread, self._read)
            except (ConsoleError, SQLAlchemyError) as error:
                if not is_failing:
                    log.error("keys and routes could not be read: %s", error)
                is_failing = True
                continue
            is_failing = False
            changed = fresh.routes != self._snapshot.routes
            self._snapshot = fresh
            self._swapped.set()
            self._swapped = asyncio.Event()
            if changed:
                self.on_change()


def base_model(parts: Parts) -> Model:
    """The installation's base model; without a digest where its files are not on this machine.

    An engine elsewhere may serve a model that this machine never saw; receipts then name the
    model and leave its digest empty instead of guessing one.
    """
    settings = parts.settings
    try:
        found = resolve(settings.base_model, settings.models_dir)
    except MissingModel:
        return Model(settings.base_model, None, settings.base_model, "")
    return Model(found.name, None, found.name, found.digest)
