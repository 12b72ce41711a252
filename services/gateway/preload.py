"""Adapters are in the engine before users are sent to them, and again after it was restarted."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from services.errors import ConsoleError, EngineUnavailable
from services.gateway.snapshot import Directory
from services.gateway.upstream import Engine, Served
from services.registry.models import Adapter
from services.registry.service import Registry

log = logging.getLogger(__name__)

LOOK_S = 2.0
UNSEEN = Served(base=None, adapters=frozenset(), context=None)


class Preloader:
    """Compares what the routes need with what the engine serves, and loads what is missing.

    Args:
        directory: Names the adapters that are needed.
        registry: Proves an adapter's digest before its weights are used; not every engine does.
    """

    def __init__(self, engine: Engine, directory: Directory, registry: Registry) -> None:
        self._engine = engine
        self._directory = directory
        self._registry = registry
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._look_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing: set[str] = set()
        self.served = UNSEEN
        self.engine_is_up = False

    def start(self) -> None:
        """Begin to look; a change of routes is looked at once."""
        self._directory.on_change = self._look_now.set
        self._task = asyncio.create_task(self._look_forever())

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def ensure(self, adapter: Adapter) -> None:
        """Have one adapter loaded; many requests that ask at once wait for one load.

        Raises:
            EngineUnavailable: The engine does not answer or refuses.
            DigestMismatch: The weights on disk are not those that the name promises.
            MissingModel: The adapter's folder is gone.
        """
        async with self._locks[adapter.name]:
            await self.look()
            if adapter.name in self.served.adapters:
                return
            await asyncio.to_thread(self._registry.verify_digest, adapter)
            await self._engine.load(adapter.name, str(adapter.path))
            await self.look()

    async def look(self) -> None:
        """Ask the engine what it serves.

        Raises:
            EngineUnavailable: It does not answer.
        """
        try:
            self.served = await self._engine.served()
        except EngineUnavailable:
            self.engine_is_up, self.served = False, UNSEEN
            raise
        self.engine_is_up = True

    async def _look_forever(self) -> None:
        while True:
            self._look_now.clear()
            try:
                await self.look()
                await self._load_missing()
            except EngineUnavailable as error:
                self._report("engine", error)
            else:
                self._failing.discard("engine")
            try:
                await asyncio.wait_for(self._look_now.wait(), LOOK_S)
            except TimeoutError:
                continue

    async def _load_missing(self) -> None:
        for adapter in self._directory.needed():
            if adapter.name in self.served.adapters:
                continue
            try:
                await self.ensure(adapter)
            except (ConsoleError, OSError) as error:
                self._report(adapter.name, error)
            else:
                self._failing.discard(adapter.name)
                log.info("adapter %s is loaded", adapter.name)

    def _report(self, what: str, error: Exception) -> None:
        """Log a failure once, not at each look."""
        if what not in self._failing:
            log.error("%s: %s", what, error)
        self._failing.add(what)
