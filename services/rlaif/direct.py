"""Direct calls: a few at a time, each sent once, in step with what the judge can take.

| what happens | what is done |
| --- | --- |
| 429, 529, 5xx, no connection | nothing is owed: all calls pause for as long as the judge asks, or ever longer, and the same call is sent again |
| a refusal | recorded; never asked again |
| cut off, malformed | recorded and paid for; asked again as a further repetition, up to `attempts` |
| sent, but no answer | recorded as lost at its highest cost; never asked again by itself |
| no credit, wrong key | everything stops; what is done is kept |
| the cap, or the month's budget | waits for what is on its way; then everything stops |
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from services.errors import BudgetExceeded
from services.rlaif.asking import Wanted
from services.rlaif.failures import CapReached, Halt, JudgeFailure, Later
from services.rlaif.judge import AnthropicJudge
from services.rlaif.ledger import Ledger
from services.rlaif.models import CallState

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
PATIENCE = 12
"""Failures in a row, no call among them that succeeded, after which the run gives up for now."""


class Direct:
    """Puts questions to the judge, several at a time.

    Args:
        should_leave: Whether to send no further call.
        show: Told after each call.
        first_pause_s: First pause where the judge names none, seconds; it doubles.
    """

    def __init__(
        self,
        judge: AnthropicJudge,
        ledger: Ledger,
        *,
        concurrency: int,
        should_leave: Callable[[], bool],
        show: Callable[[], None],
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._judge, self._ledger = judge, ledger
        self._concurrency = concurrency
        self._should_leave, self._show = should_leave, show
        self._first_pause_s = first_pause_s
        self._todo: deque[Wanted] = deque()
        self._changed = threading.Condition()
        self._on_their_way = 0
        self._failures = 0
        self._not_before = 0.0
        self._stopped: Exception | None = None

    def ask(self, wanted: Iterable[Wanted]) -> bool:
        """Put all the questions; returns early where the run is to be left.

        Returns:
            Whether any was skipped because another run is asking the same.

        Raises:
            CapReached: The run may not spend so much any more.
            BudgetExceeded: The tenant may not, this month.
            Halt: No request can succeed until a person acts.
            Later: The judge has been failing for long.
        """
        self._todo = deque(wanted)
        self._is_busy = False
        threads = [
            threading.Thread(target=self._work, name=f"judge-{number}", daemon=True)
            for number in range(min(self._concurrency, len(self._todo)))
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.2)
            with self._changed:
                self._changed.notify_all()
            self._show()
        if self._stopped is not None:
            raise self._stopped
        return self._is_busy

    def _work(self) -> None:
        while (wanted := self._next()) is not None:
            try:
                self._one(wanted)
            except Exception as error:  # noqa: BLE001 - handed to the thread that asked
                with self._changed:
                    self._stopped = self._stopped or error
            finally:
                with self._changed:
                    self._on_their_way -= 1
                    self._changed.notify_all()

    def _next(self) -> Wanted | None:
        """The next question, after the pause that the judge asked for; None at the end."""
        with self._changed:
            while True:
                if self._stopped is not None or self._should_leave() or not self._todo:
                    return None
                rest = self._not_before - time.monotonic()
                if rest <= 0:
                    self._on_their_way += 1
                    return self._todo.popleft()
                self._changed.wait(min(rest, 0.5))

    def _one(self, wanted: Wanted) -> None:
        call_id = self._begin(wanted)
        if call_id is None:
            return
        while True:
            try:
                found = self._judge.ask(wanted.params(self._judge), call_id=wanted.custom_id)
            except Later as later:
                self._ledger.mark(call_id, CallState.WAITING, later.message)
                if not self._pause(later):
                    return
                self._ledger.mark(call_id, CallState.SENT)
                continue
            except Halt as halt:
                self._ledger.mark(call_id, CallState.WAITING, halt.message)
                raise
            except JudgeFailure as failure:
                self._ledger.end(call_id, failure)
            else:
                self._ledger.end(call_id, found)
            with self._changed:
                self._failures = 0
            return

    def _begin(self, wanted: Wanted) -> str | None:
        """Write the call down; where the cap is near, only once the others have come back."""
        while True:
            try:
                call_id = self._ledger.begin(wanted)
            except (CapReached, BudgetExceeded):
                with self._changed:
                    if self._on_their_way <= 1 or self._stopped or self._should_leave():
                        raise
                    self._on_their_way -= 1
                    self._changed.wait(1.0)
                    self._on_their_way += 1
                continue
            if call_id is None:
                self._is_busy = True
            return call_id

    def _pause(self, later: Later) -> bool:
        """Let all calls wait; whether this one is to be sent again.

        Raises:
            Later: It has gone on for too long.
        """
        with self._changed:
            if time.monotonic() >= self._not_before:
                self._failures += 1  # those that fail while all wait belong to the same trouble
            if self._failures > PATIENCE:
                raise later
            doubled = self._first_pause_s * 2 ** (self._failures - 1)
            seconds = later.retry_after_s
            if seconds is None:
                seconds = min(doubled, LONGEST_PAUSE_S)
            self._not_before = max(self._not_before, time.monotonic() + seconds)
            while (rest := self._not_before - time.monotonic()) > 0:
                if self._stopped is not None or self._should_leave():
                    return False
                self._changed.wait(min(rest, 0.5))
        return True
