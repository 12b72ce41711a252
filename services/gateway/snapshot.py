"""What the hot route looks up, in memory: keys, routes and adapters, renewed twice a second.

The ledger looks, in another process where it has one, and only what has changed comes here. The
whole snapshot is swapped at once, so no request waits for the database and none sees half of a
change. A snapshot that could not be renewed for
`STALE_AFTER_S` is no longer trusted: a revoked key must not work on because a database is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256

from sqlalchemy.exc import SQLAlchemyError

from services.errors import ConsoleError, NotSignedIn, Unavailable
from services.gateway.answers import model_not_found
from services.gateway.ledger import Ledger
from services.gateway.local_limits import LocalLimiter
from services.gateway.looking import Looker, Seen, find_adapter
from services.gateway.outcome import Chosen, Model
from services.gateway.parts import Parts
from services.guardrails.guards import Guards, compile_guards
from services.guardrails.policy import default_policy
from services.metering.models import Price
from services.registry.models import NAME_RULE, Adapter
from services.rollouts.assign import place
from services.rollouts.models import Arm, Route
from services.tenants.models import UNLIMITED, Actor, KeyLimits, Tenant

log = logging.getLogger(__name__)

REFRESH_S = 0.5
STALE_AFTER_S = 10.0
RENEWAL_PATIENCE_S = 4 * REFRESH_S
_NOBODY = "expected a valid API key, found one that is unknown or revoked"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent view of who may ask and what answers.

    Attributes:
        seen: What was read.
        guards: What is checked, by tenant id, where a tenant has a policy of its own.
        read_at: When it was read, monotonic seconds.
    """

    seen: Seen
    guards: Mapping[str, Guards]
    read_at: float


class Directory:
    """The present snapshot, and what keeps it fresh.

    Args:
        parts: Where adapters are kept that no route names, and what tenants have used.
        limiter: Is told what each tenant has used before its first request.
        ledger: Looks at keys, aliases, rollouts and the rest.
    """

    def __init__(self, parts: Parts, limiter: LocalLimiter, ledger: Ledger) -> None:
        self._parts = parts
        self._limiter = limiter
        self._ledger = ledger
        self._adapters: dict[tuple[str, str], Adapter] = {}
        self._default = compile_guards(0, default_policy().source)
        self._guards: dict[str, Guards] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gateway-directory")
        read_at, seen = time.monotonic(), Looker(parts).look()
        assert seen is not None, "there is something to see at the first look"
        self._snapshot = self._made_of(seen, read_at)
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
        found = self.snapshot().seen.callers.get(digest)
        if found is None:
            await self._renewed()
            found = self.snapshot().seen.callers.get(digest)
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
        routes = self.snapshot().seen.routes
        return sorted(
            (route for key, route in routes.items() if key[0] == tenant_id),
            key=lambda route: route.alias,
        )

    def needed(self) -> list[Adapter]:
        """The adapters that some route may send a request to."""
        return list(self._snapshot.seen.adapters.values())

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
        seen = self.snapshot().seen
        alias = tenant.id if asked in {"", "default"} else asked
        route = seen.routes.get((tenant.id, alias))
        if route is None:
            adapter = self._adapters.get((tenant.id, asked))
            if adapter is None:
                return None
            return Chosen(adapter.alias, self._model(adapter), Arm.PINNED)
        if route.is_split_outside:
            model = Model(alias, None, seen.base.base_model, "")
            return Chosen(alias, model, Arm.STABLE, is_split_outside=True)
        arm, found = place(route, subject)
        name = route.candidate if arm is Arm.CANARY else route.stable
        model = seen.base if name is None else self._model(self.known(tenant.id, name))
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
        found = find_adapter(self._parts, tenant_id, name)
        if found is not None:
            self._adapters[tenant_id, name] = found
        return found

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
        return list(
            {tenant.id: tenant for _, tenant in self._snapshot.seen.callers.values()}.values()
        )

    def key_limits(self, key_id: str) -> KeyLimits:
        """What one key may ask for, within what its tenant may."""
        return self._snapshot.seen.key_limits.get(key_id, UNLIMITED)

    def price(self, served: str) -> tuple[str, Price]:
        """Version of the newest price table, and its price of a model; needs no database."""
        table = self._snapshot.seen.prices
        return table.version, table.price(served)

    def keep_days(self, tenant_id: str) -> int:
        """For how long a tenant keeps texts; 0 for not at all."""
        return self._snapshot.seen.keep_days.get(tenant_id, 0)

    def _made_of(self, seen: Seen, read_at: float) -> Snapshot:
        """A snapshot, with all that it needs learnt and compiled; reads the database for that."""
        for _, tenant in seen.callers.values():
            if not self._limiter.knows(tenant.id):
                self._limiter.learn(tenant, self._parts.metering.used(tenant))
        self._adapters.update(seen.adapters)
        return Snapshot(seen, self._compiled(seen.policies), read_at)

    def _compiled(self, policies: Mapping[str, tuple[int, str]]) -> dict[str, Guards]:
        """The tenants' own guards; those of a policy that has not changed are kept."""
        found: dict[str, Guards] = {}
        for tenant_id, (version, source) in policies.items():
            known = self._guards.get(tenant_id)
            is_same = known is not None and known.version == version
            found[tenant_id] = known if is_same and known else compile_guards(version, source)
        self._guards = found
        return found

    async def _refresh_forever(self) -> None:
        is_failing = False
        unmade: Seen | None = None
        while True:
            await asyncio.sleep(REFRESH_S)
            read_at = time.monotonic()
            try:
                # What could not be made use of would not come again: nothing of it has changed.
                unmade = await self._ledger.look() or unmade
                fresh = await self._renewed_by(unmade, read_at)
            except (ConsoleError, SQLAlchemyError) as error:
                if not is_failing:
                    log.error("keys and routes could not be read: %s", error)
                is_failing = True
                continue
            unmade, is_failing = None, False
            changed = fresh.seen.routes != self._snapshot.seen.routes
            self._snapshot = fresh
            self._swapped.set()
            self._swapped = asyncio.Event()
            if changed:
                self.on_change()

    async def _renewed_by(self, seen: Seen | None, read_at: float) -> Snapshot:
        """The snapshot after a look; in a thread where the look has found something new."""
        if seen is None:
            return replace(self._snapshot, read_at=read_at)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._made_of, seen, read_at)
