"""The one writer: usage rows, audit records and receipts become durable here, many at a time.

Requests hand their outcomes over and wait. One task takes whatever has gathered, has the ledger
write it in one transaction (usage, log entry, signed receipt) and wakes the requests after the
commit, so the price of one `fsync` is shared by all that wait for it. Nothing is answered to its
end, and no receipt is shown, before that commit.

When a commit fails, everything in it is refused, and for a moment every new request as well:
a gateway that cannot record must not answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from services.errors import ConsoleError, Unavailable
from services.gateway.ledger import Ledger
from services.gateway.outcome import Outcome

log = logging.getLogger(__name__)

BATCH = 256
MAX_WAITING = 4096
"""Outcomes that may wait; beyond that requests are refused before the engine is asked."""

DRAIN_S = 0.5
"""How often the audit outbox of all processes is put in sequence."""

CHECKPOINT_S = 60.0
"""How often the log's head is signed, if anything was added."""

PAUSE_AFTER_FAILURE_S = 1.0

_STOPPED = "the audit writer has stopped; the gateway must be restarted"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of an outcome.

    Attributes:
        cost_micro: Price of the request, micro-units.
        audit_seq: Its place in the log.
    """

    cost_micro: int
    audit_seq: int


@dataclass(slots=True)
class _Waiting:
    outcome: Outcome
    future: asyncio.Future[Recorded]


class Writer:
    """Takes outcomes and has them committed, one batch after another; lives in one event loop.

    Args:
        ledger: What commits them; asked by the writer alone.
        on_batch: Is told the size and the seconds of each commit.
    """

    def __init__(self, ledger: Ledger, on_batch: Callable[[int, float], None]) -> None:
        self._ledger = ledger
        self._on_batch = on_batch
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed_at = -PAUSE_AFTER_FAILURE_S
        self._drained_at = self._signed_at = 0.0
        self._is_log_failing = False
        self._is_failing = False
        self._is_open = False
        self._is_stopping = False

    def start(self) -> None:
        """Begin to write; needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="gateway-writer")

    async def stop(self) -> None:
        """Write what waits, then stop."""
        self._is_stopping = True
        self._news.set()
        if self._task is not None:
            await self._task
        await self._ledger.close()

    @property
    def waiting(self) -> int:
        """Outcomes that wait for their commit."""
        return len(self._waiting)

    @property
    def is_healthy(self) -> bool:
        """Whether it runs, its ledger is open and its latest commit did not fail."""
        return self._runs and self._is_open and not self._is_failing

    def check(self) -> None:
        """Refuse early what could not be recorded.

        Raises:
            Unavailable: The latest commit failed a moment ago, or too many outcomes wait.
        """
        if not self._runs:
            raise Unavailable(_STOPPED)
        if time.monotonic() - self._failed_at < PAUSE_AFTER_FAILURE_S:
            raise Unavailable("the answer could not be recorded; nothing is answered until it can")
        if len(self._waiting) >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} answers wait to be recorded; try again")

    async def record(self, outcome: Outcome) -> Recorded:
        """Make one outcome durable.

        A caller that is cancelled meanwhile does not undo it.

        Raises:
            Unavailable: It could not be recorded; nothing of it was.
        """
        if not self._runs:
            raise Unavailable(_STOPPED)
        future: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        # Looked at once more here, so that a failure nobody waits for is no warning.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting.append(_Waiting(outcome, future))
        self._news.set()
        return await asyncio.shield(future)

    @property
    def _runs(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _run(self) -> None:
        await self._drain()
        self._is_open = True
        while self._waiting or not self._is_stopping:
            batch = await self._next_batch()
            if batch:
                await self._commit(batch)
            if not batch or time.monotonic() - self._drained_at > DRAIN_S:
                await self._drain()

    async def _next_batch(self) -> list[_Waiting]:
        """What has gathered, after waiting for the first; empty if there was none for a while."""
        if not self._waiting:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._news.wait()
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        began = time.monotonic()
        try:
            written = await self._ledger.write([waiting.outcome for waiting in batch])
        except (ConsoleError, SQLAlchemyError, OSError) as error:
            self._fail(batch, error)
        except Exception as error:
            # A bug must not leave requests waiting for ever; it is logged with its place.
            log.exception("a batch of %d outcomes could not be recorded", len(batch))
            self._fail(batch, error)
        else:
            self._is_failing = False
            self._on_batch(len(batch), time.monotonic() - began)
            _resolve(batch, [Recorded(cost, seq) for cost, seq in written])

    def _fail(self, batch: Sequence[_Waiting], error: Exception) -> None:
        if not self._is_failing:
            log.error("answers cannot be recorded: %s", error)
        self._failed_at, self._is_failing = time.monotonic(), True
        reason = str(error) if isinstance(error, ConsoleError) else "the database refused it"
        _reject(batch, f"the answer could not be recorded: {reason}")

    async def _drain(self) -> None:
        """Put the events of all processes into the log, and sign its head now and then."""
        self._drained_at = time.monotonic()
        try:
            is_due = self._drained_at - self._signed_at > CHECKPOINT_S
            await self._ledger.tend(sign=is_due)
            if is_due:
                self._signed_at = self._drained_at
        except (ConsoleError, SQLAlchemyError, OSError) as error:
            if not self._is_log_failing:
                log.error("the audit log cannot be kept: %s", error)
            self._is_log_failing = True
        else:
            self._is_log_failing = False


def _resolve(batch: Sequence[_Waiting], recorded: Sequence[Recorded]) -> None:
    for waiting, result in zip(batch, recorded, strict=True):
        if not waiting.future.done():
            waiting.future.set_result(result)


def _reject(batch: Sequence[_Waiting], message: str) -> None:
    for waiting in batch:
        if not waiting.future.done():
            waiting.future.set_exception(Unavailable(message))
