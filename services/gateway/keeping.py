"""What a gateway does beside answering: budgets' warnings, refusals' counts, dead neighbours."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from services.errors import ConsoleError
from services.gateway.intents import Journal
from services.gateway.local_limits import LocalLimiter
from services.gateway.parts import Parts
from services.gateway.recovery import recover, recover_dead, recover_told
from services.gateway.refusals import Refusals
from services.gateway.snapshot import Directory
from services.gateway.writer import Writer
from services.metering.models import WARNED_AT

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often budgets are looked at."""

NEIGHBOURS_S = 5.0
"""How often other gateways' journals are looked at, and outcomes that could not be recorded."""

REFUSALS_S = 60.0
"""How often the counts of refused requests are written."""


class Keeper:
    """Keeps the books in a task of its own; what fails is tried again.

    Args:
        refusals_s: Pause between two writings of the refusals' counts, seconds.
    """

    def __init__(
        self,
        parts: Parts,
        directory: Directory,
        limiter: LocalLimiter,
        journal: Journal,
        writer: Writer,
        refusals: Refusals,
        *,
        refusals_s: float = REFUSALS_S,
    ) -> None:
        self._parts, self._directory, self._limiter = parts, directory, limiter
        self._journal, self._writer, self._refusals = journal, writer, refusals
        self._refusals_s = refusals_s
        self._warned: set[tuple[str, str, int, int]] = set()
        self._failing: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._task = asyncio.create_task(self._keep_for_ever())

    async def stop(self) -> None:
        """Write what is left to write, then stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._warn()
        await self._write_refusals()
        await self._recover_own()

    async def _keep_for_ever(self) -> None:
        looked = written = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            await self._warn()
            now = time.monotonic()
            if now - looked >= NEIGHBOURS_S:
                looked = now
                await self._recover_own()
                await self._recover_neighbours()
            if now - written >= self._refusals_s:
                written = now
                await self._write_refusals()

    async def _warn(self) -> None:
        """Have warnings written for budgets that reached a share since the last look."""
        for tenant in self._directory.tenants():
            budget = tenant.limits.monthly_micro
            if budget is None:
                continue
            month, spent = self._limiter.spent_this_month(tenant.id)
            share = max((at for at in WARNED_AT if 100 * spent >= at * budget), default=0)
            said = (tenant.id, month, budget, share)
            if share and said not in self._warned:
                write = partial(
                    self._parts.metering.warn,
                    tenant.id,
                    month,
                    budget_micro=budget,
                    spent_micro=spent,
                )
                if await self._tried("budget warnings", write):
                    self._warned.add(said)

    async def _write_refusals(self) -> None:
        found, since = self._refusals.take()
        if found:
            await self._tried("refusals", lambda: self._refusals.write(found, since))

    async def _recover_own(self) -> None:
        """Make requests known whose outcome the writer could not record."""
        found = self._journal.orphans()
        if found and await self._tried("outcomes", lambda: recover(self._parts, found)):
            self._journal.recovered(found)
        for one in self._writer.refused():
            # Each by itself: what it is that the database refuses must not hold up the others.
            if await self._tried(
                f"the outcome of request {one.request_id}",
                partial(recover_told, self._parts, [one]),
            ):
                self._writer.recovered(one)

    async def _recover_neighbours(self) -> None:
        path = self._journal.path
        await self._tried("journals", lambda: recover_dead(self._parts, path.parent, path))

    async def _tried(self, what: str, write: Callable[[], object]) -> bool:
        """Whether something was written; a failure is logged once until it works again."""
        try:
            await asyncio.to_thread(write)
        except (ConsoleError, SQLAlchemyError, OSError) as error:
            if what not in self._failing:
                log.error("%s cannot be written: %s", what, error)
            self._failing.add(what)
            return False
        self._failing.discard(what)
        return True
