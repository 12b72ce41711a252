"""What one gateway process runs."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from services.db import utcnow
from services.errors import ConsoleError
from services.gateway.asking import Asking, Fallback
from services.gateway.breaker import Breaker
from services.gateway.chat import ChatRoute
from services.gateway.intents import FOLDER, Journal
from services.gateway.keeping import Keeper
from services.gateway.ledger import Ledger, LocalLedger
from services.gateway.limits import LEASE_S
from services.gateway.local_limits import LocalLimiter
from services.gateway.logs import Lines, RequestLog
from services.gateway.metrics import Metrics
from services.gateway.parts import Parts
from services.gateway.preload import Preloader
from services.gateway.recovery import recover_dead
from services.gateway.refusals import Refusals
from services.gateway.snapshot import Directory
from services.gateway.upstream import Engine, Patience
from services.gateway.writer import Writer
from services.operations.token import admin_token

READY_S = 3.0
"""How long the database may take to say that it is there."""

LAST_ANSWERS_S = 10.0
"""How long requests that were cut off at shutdown may take to be recorded."""


class Gateway:
    """Everything that one gateway process runs; made inside its event loop.

    Args:
        parts: The domains that it stands on.
        lines: Where the lines of requests are written; None for nowhere.
        ledger: Makes outcomes durable; in this process unless given.
    """

    def __init__(
        self, parts: Parts, lines: Lines | None = None, ledger: Ledger | None = None
    ) -> None:
        self.parts = parts
        self.started, self.started_at = time.monotonic(), utcnow()
        self.admin_token = admin_token(parts.settings, make=True)
        self.requests = RequestLog(lines)
        self.metrics = Metrics()
        patience = parts.settings
        longest = max(
            patience.engine_answer_s, patience.engine_first_byte_s, patience.engine_between_bytes_s
        )
        self.limiter = LocalLimiter(lease_s=max(LEASE_S, 2.0 * longest))
        self.journal = Journal(parts.settings.home / FOLDER)
        # Before anything is counted: what a dead gateway left open is part of the counts.
        recover_dead(parts, self.journal.path.parent, self.journal.path)
        self.refusals = Refusals(parts.db)
        ledger = ledger or LocalLedger(parts)
        self.directory = Directory(parts, self.limiter, ledger)
        self.engine = _engine(parts, "engine", parts.settings.engine_url)
        self.fallback = _fallback(parts)
        self.preloader = Preloader(self.engine, self.directory, parts.registry)
        self.writer = Writer(
            ledger,
            self.journal,
            self.metrics.committed,
            waits=parts.settings.answer_after == "commit",
        )
        asking = Asking(
            self.directory,
            self.engine,
            self.preloader,
            self.fallback,
            on_failure=self.metrics.failed,
            on_fallback=self.metrics.fell_back,
        )
        self.chat = ChatRoute(
            self.directory,
            self.limiter,
            asking,
            self.preloader,
            self.writer,
            self.metrics,
            self.requests,
            self.journal,
            self.refusals,
        )
        self.keeper = Keeper(
            parts, self.directory, self.limiter, self.journal, self.writer, self.refusals
        )
        for engine in self.engines():
            self.metrics.watch_breaker(engine.breaker)
        self.metrics.watch(
            "param_gateway_in_flight", "Chat requests that run now", lambda: self.chat.in_flight
        )
        self.metrics.watch(
            "param_gateway_waiting_commits", "Outcomes that wait", lambda: self.writer.waiting
        )
        self.metrics.watch(
            "param_gateway_open_intents", "Requests in the journal without a committed outcome",
            lambda: self.journal.open_count,
        )  # fmt: skip
        self.metrics.watch(
            "param_gateway_draining", "1 while no new requests are taken",
            lambda: int(self.chat.is_draining),
        )  # fmt: skip
        self.metrics.watch(
            "param_gateway_log_lines_dropped", "Lines of the request log that were given up",
            lambda: self.requests.dropped,
        )  # fmt: skip

    def engines(self) -> list[Engine]:
        """The engine, and the second one where there is one."""
        return [self.engine] if self.fallback is None else [self.engine, self.fallback.engine]

    async def checks(self) -> dict[str, bool]:
        """What a chat request needs, and whether it is there now."""
        return {
            "database": await self._database_answers(),
            "disk": await asyncio.to_thread(_disk_takes, self.parts.settings.home),
            "engine": self.preloader.engine_is_up,
            "writer": self.writer.is_healthy,
            "directory": self.directory.is_fresh,
            "open": not self.chat.is_draining,
        }

    async def _database_answers(self) -> bool:
        def ask() -> None:
            with self.parts.db.read() as session:
                session.execute(text("SELECT 1"))

        try:
            await asyncio.wait_for(asyncio.to_thread(ask), READY_S)
        except (ConsoleError, SQLAlchemyError, TimeoutError):
            return False
        return True

    def start(self) -> None:
        """Start the writer, the refresher and the preloader."""
        self.writer.start()
        self.directory.start()
        self.preloader.start()
        self.keeper.start()

    async def stop(self) -> bool:
        """Record what was cut off, flush, let go of everything.

        Returns:
            Whether every request had ended before the writer did.
        """
        deadline = time.monotonic() + LAST_ANSWERS_S
        while self.chat.in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        has_ended = self.chat.in_flight == 0
        await self.preloader.stop()
        await self.directory.stop()
        await self.writer.stop()
        await self.keeper.stop()
        self.journal.close()
        for engine in self.engines():
            await engine.close()
        return has_ended


def _disk_takes(home: Path) -> bool:
    """Whether the disk of the journal takes another block."""
    probe = home / "run" / f".room-{os.getpid()}"
    try:
        probe.write_bytes(bytes(4096))
        probe.unlink()
    except OSError:
        return False
    return True


def _engine(parts: Parts, name: str, url: str, key: str = "") -> Engine:
    settings = parts.settings
    breaker = Breaker(name, failures=settings.breaker_failures, open_s=settings.breaker_open_s)
    return Engine(url, patience=Patience.of(settings), breaker=breaker, key=key)


def _fallback(parts: Parts) -> Fallback | None:
    """The second engine, where one is configured."""
    settings = parts.settings
    if not settings.fallback_url:
        return None
    engine = _engine(parts, "fallback", settings.fallback_url, settings.fallback_key)
    return Fallback(engine, settings.fallback_model, parts.operations.allows_fallback)
