"""Noticing that the client went away, so that nobody computes for nobody."""

from __future__ import annotations

import asyncio
from types import TracebackType

from services.gateway.answers import ClientGone, Receive

PATIENCE_S = 0.02
"""How long a block may take before anybody looks: an answer that is there by then needs no task
that watches for its client."""


class ClientWatch:
    """While entered, a client that goes away ends the block with `ClientGone`.

    The block is cancelled wherever it waits; its own clean-up runs first, so the engine's
    connection is closed and the engine stops.
    """

    __slots__ = ("_is_gone", "_owner", "_receive", "_task", "_timer")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_gone = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ClientWatch:
        owner = asyncio.current_task()
        assert owner is not None, "a request runs in a task"
        self._owner = owner
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._begin)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._is_gone:
            self._owner.uncancel()
            if kind is asyncio.CancelledError:
                raise ClientGone from error

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._wait_for_the_end())

    async def _wait_for_the_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._is_gone = True
        self._owner.cancel()
