"""The one writer: usage rows, audit records and receipts become durable here, many at a time.

A request hands its outcome over before it is answered to its end. The outcome is a line in the
journal then (`services.gateway.intents`), which a killed process leaves to the next one; one task takes
whatever has gathered and has the ledger write it in one transaction: usage, log entry, signed
receipt. So no answer waits for an `fsync`, and no receipt can be shown before its commit.

Some wait for the commit itself: where the installation wants that (`PARAM_ANSWER_AFTER=commit`), for
tenants that keep texts, which no journal may hold, and everywhere while commits fail: a gateway
that cannot record must not answer. What was answered before that is tried again until it is
written.
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
from services.gateway.intents import Journal
from services.gateway.ledger import Ledger
from services.gateway.outcome import Outcome
from services.gateway.recording import Unrecordable

log = logging.getLogger(__name__)

BATCH = 64
MAX_WAITING = 4096
"""Outcomes that may wait; beyond that requests are refused before the engine is asked."""

CROWDED = 256
"""Outcomes that may be uncommitted before further ones wait until there are fewer: more is not
answered than can be recorded."""

GATHER_S = 0.03
"""How long outcomes gather where nobody waits for their commit."""

DRAIN_S = 0.5
"""How often the audit outbox of all processes is put in sequence."""

CHECKPOINT_S = 60.0
"""How often the log's head is signed, if anything was added."""

PAUSE_AFTER_FAILURE_S = 1.0
"""How long requests are refused after a failure; what has been answered is tried again sooner."""

PATIENCE_S = 5.0
"""How long whoever asks for a receipt waits for its commit."""

_STOPPED = "the audit writer has stopped; the gateway must be restarted"


@dataclass(slots=True)
class _Waiting:
    """An outcome on its way.

    Attributes:
        future: Of a request that waits for the commit; None where the journal vouches for it.
        is_again: It was tried before, and may have been written.
    """

    outcome: Outcome
    future: asyncio.Future[None] | None = None
    is_again: bool = False


class Writer:
    """Takes outcomes and has them committed, one batch after another; lives in one event loop.

    Args:
        ledger: What commits them.
        journal: Vouches for them until then.
        on_batch: Is told the size and the seconds of each commit.
        waits: Whether every request waits for its commit.
    """

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        on_batch: Callable[[int, float], None],
        *,
        waits: bool = False,
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._on_batch = on_batch
        self._waits = waits
        self._waiting: deque[_Waiting] = deque()
        self._uncommitted: set[str] = set()
        self._line: deque[asyncio.Future[None]] = deque()
        self._refused: dict[str, Outcome] = {}
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._went_on = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed_at = -PAUSE_AFTER_FAILURE_S
        self._drained_at = self._signed_at = 0.0
        self._is_log_failing = False
        self._is_failing = False
        self._is_open = False
        self._is_stopping = False

    def start(self) -> None:
        """Begin to write; needs a running event loop."""
        self._ledger.open()
        self._task = asyncio.create_task(self._run(), name="gateway-writer")

    async def stop(self) -> None:
        """Write what waits, then stop; what cannot be written stays in the journal."""
        self._is_stopping = True
        self._news.set()
        self._hurry.set()
        if self._task is not None:
            await self._task
        await self._ledger.close()

    @property
    def waiting(self) -> int:
        """How many outcomes are not committed, those that wait for room included."""
        return len(self._uncommitted) + len(self._line)

    @property
    def uncommitted(self) -> frozenset[str]:
        """The requests whose outcomes are not committed."""
        return frozenset(self._uncommitted)

    @property
    def is_healthy(self) -> bool:
        """Whether it runs, its ledger is open, and no commit has to be tried again.

        A moment after a failure that left nothing to try again it is healthy, so that a request may
        come and show whether commits work: it waits for its own.
        """
        is_waiting = self._is_failing and (self._waiting or self._has_just_failed)
        return self._runs and self._is_open and not is_waiting

    def check(self) -> None:
        """Refuse early what could not be recorded.

        Raises:
            Unavailable: The latest commit failed a moment ago, or too many outcomes wait.
        """
        if not self._runs:
            raise Unavailable(_STOPPED)
        if self._has_just_failed:
            raise Unavailable("the answer could not be recorded; nothing is answered until it can")
        if self.waiting >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} answers wait to be recorded; try again")

    async def record(self, outcome: Outcome) -> None:
        """Return when the outcome will be in the log, whatever happens to this process.

        A caller that is cancelled meanwhile does not undo it.

        Raises:
            Unavailable: It could not be recorded; nothing of it was.
        """
        if not self._runs:
            raise Unavailable(_STOPPED)
        if not (self._waits or outcome.texts):
            await self._room()
            if not self._is_failing:
                self._tell(outcome)
                return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Looked at once more here, so that a failure nobody waits for is no warning.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._take(_Waiting(outcome, future))
        self._hurry.set()
        await asyncio.shield(future)

    async def committed(self, request_id: str) -> None:
        """Wait until a request's rows are in the database, if it is one of this process.

        Raises:
            Unavailable: They cannot be written now.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while request_id in self._uncommitted and not self._is_failing:
                    self._hurry.set()
                    await self._went_on.wait()
        if request_id in self._uncommitted or request_id in self._refused:
            raise Unavailable(f"request {request_id}: it could not be recorded yet; try again")

    def refused(self) -> list[Outcome]:
        """Outcomes of answered requests that the database refuses, whatever is beside them."""
        return list(self._refused.values())

    def recovered(self, outcome: Outcome) -> None:
        """Note that one of the refused is written."""
        self._refused.pop(outcome.request_id, None)
        self._journal.end(outcome.request_id)

    async def _room(self) -> None:
        """Wait until there is room, behind those who came before."""
        if self._is_failing or not (self._line or len(self._uncommitted) >= CROWDED):
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        self._hurry.set()
        try:
            await place
        finally:
            if place.cancelled():
                self._line.remove(place)

    def _let_in(self) -> None:
        """Let those who wait go on as far as there is room; all of them while commits fail."""
        room = len(self._line) if self._is_failing else CROWDED - len(self._uncommitted)
        for _ in range(min(room, len(self._line))):
            self._line.popleft().set_result(None)

    def _tell(self, outcome: Outcome) -> None:
        try:
            self._journal.tell(outcome)
        except Unavailable as error:
            raise type(error)(f"the answer could not be recorded: {error.message}") from error
        self._take(_Waiting(outcome))

    def _take(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._uncommitted.add(waiting.outcome.request_id)
        self._news.set()

    @property
    def _has_just_failed(self) -> bool:
        return time.monotonic() - self._failed_at < PAUSE_AFTER_FAILURE_S

    @property
    def _runs(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _run(self) -> None:
        await self._drain()
        self._is_open = True
        while self._waiting or self._line or not self._is_stopping:
            batch = await self._next_batch()
            if batch:
                await self._commit(batch)
                self._went_on.set()
                self._went_on = asyncio.Event()
            else:
                self._journal.rest()
            self._let_in()
            if self._is_failing and self._waiting:
                if self._is_stopping:
                    self._leave()
                    return
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S / 2)
            if not batch or time.monotonic() - self._drained_at > DRAIN_S:
                await self._drain()

    async def _next_batch(self) -> list[_Waiting]:
        """What has gathered, after waiting for the first; empty if there was none for a while."""
        if not self._waiting:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._news.wait()
        if len(self._waiting) < BATCH and not self._is_stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._hurry.wait()
        self._hurry.clear()
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        began = time.monotonic()
        again = any(one.is_again for one in batch)
        try:
            await self._ledger.write([one.outcome for one in batch], again=again)
        except Unrecordable as error:
            await self._part(batch, error)
        except (ConsoleError, SQLAlchemyError, OSError) as error:
            self._fail(batch, error)
        except Exception as error:
            # A bug must not leave requests waiting for ever; it is logged with its place.
            log.exception("a batch of %d outcomes could not be recorded", len(batch))
            self._fail(batch, error)
        else:
            self._is_failing = False
            self._on_batch(len(batch), time.monotonic() - began)
            self._end(batch)

    def _end(self, batch: Sequence[_Waiting]) -> None:
        """Say that a batch is committed, to the journal and to whoever waits."""
        self._journal.end(*(one.outcome.request_id for one in batch))
        for one in batch:
            self._uncommitted.discard(one.outcome.request_id)
            if one.future is not None and not one.future.done():
                one.future.set_result(None)

    async def _part(self, batch: Sequence[_Waiting], error: Unrecordable) -> None:
        """Write the outcomes of a batch one by one, since the database refuses some of them."""
        if len(batch) > 1:
            for one in batch:
                await self._commit([one])
            return
        [one] = batch
        self._fail([one], error, is_final=True)

    def _fail(self, batch: Sequence[_Waiting], error: Exception, *, is_final: bool = False) -> None:
        """Refuse the requests that wait; keep for later what has been answered."""
        if not self._is_failing:
            log.error("answers cannot be recorded: %s", error)
        self._failed_at, self._is_failing = time.monotonic(), True
        reason = str(error) if isinstance(error, ConsoleError) else "the database refused it"
        for one in reversed(batch):
            if one.future is None and not is_final:
                one.is_again = True
                self._waiting.appendleft(one)
                continue
            self._uncommitted.discard(one.outcome.request_id)
            if one.future is None:
                log.error("request %s: answered, and %s", one.outcome.request_id, reason)
                self._refused[one.outcome.request_id] = one.outcome
            elif not one.future.done():
                said = f"the answer could not be recorded: {reason}"
                one.future.set_exception(Unavailable(said))

    def _leave(self) -> None:
        """Let go of what cannot be written: the next process finds what was answered in the journal."""
        for one in self._waiting:
            if one.future is not None and not one.future.done():
                one.future.set_exception(Unavailable(_STOPPED))

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
        except Exception:
            # A bug here must not end the task that records answers.
            log.exception("the audit log could not be kept")
            self._is_log_failing = True
        else:
            self._is_log_failing = False
