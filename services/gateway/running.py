"""What one gateway process runs."""

from __future__ import annotations

import asyncio
import time

from services.gateway.chat import ChatRoute
from services.gateway.limits import LocalLimiter
from services.gateway.metrics import Metrics
from services.gateway.parts import Parts
from services.gateway.preload import Preloader
from services.gateway.snapshot import Directory
from services.gateway.upstream import Engine
from services.gateway.writer import Writer

LAST_ANSWERS_S = 10.0
"""How long requests that were cut off at shutdown may take to be recorded."""


class Gateway:
    """Everything that one gateway process runs; made inside its event loop.

    Args:
        parts: The domains that it stands on.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.metrics = Metrics()
        self.limiter = LocalLimiter()
        self.directory = Directory(parts, self.limiter)
        self.engine = Engine(parts.settings.engine_url)
        self.preloader = Preloader(self.engine, self.directory, parts.registry)
        self.writer = Writer(parts, self.metrics.committed)
        self.chat = ChatRoute(
            self.directory, self.limiter, self.engine, self.preloader, self.writer, self.metrics
        )
        self.metrics.watch(
            "param_gateway_in_flight", "Chat requests that run now", lambda: self.chat.in_flight
        )
        self.metrics.watch(
            "param_gateway_waiting_commits", "Outcomes that wait", lambda: self.writer.waiting
        )

    def start(self) -> None:
        """Start the writer, the refresher and the preloader."""
        self.writer.start()
        self.directory.start()
        self.preloader.start()

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
        await self.engine.close()
        return has_ended
