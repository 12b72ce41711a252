"""Noticing that the client went away, so that nobody computes for nobody."""

from __future__ import annotations

import asyncio
from types import TracebackType

from services.gateway.answers import ClientGone, Receive


class ClientWatch:
    """While entered, a client that goes away ends the block with `ClientGone`.

    The block is cancelled wherever it waits; its own clean-up runs first, so the engine's
    connection is closed and the engine stops.
    """

    __slots__ = ("_is_gone", "_owner", "_receive", "_task")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_gone = False

    async def __aenter__(self) -> ClientWatch:
        owner = asyncio.current_task()
        assert owner is not None, "a request runs in a task"
        self._owner = owner
        self._task = asyncio.create_task(self._wait_for_the_end())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        if self._is_gone:
            self._owner.uncancel()
            if kind is asyncio.CancelledError:
                raise ClientGone from error

    async def _wait_for_the_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._is_gone = True
        self._owner.cancel()
