"""A circuit breaker: an engine that keeps failing is left alone for a while.

    closed     requests pass; `failures` failures in a row open it
    open       requests are refused at once, for `open_s` seconds
    half open  one request tries the engine; it closes the breaker or opens it again

What counts as a failure: no connection, no answer in time, an answer that broke off, a status
that speaks of the engine (502, 503, 504, a key that it does not take). What does not: a request
that the engine found wrong or failed at (500: one tenant's request must not shut out the others),
one that it is too busy for (429), a client that went away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import StrEnum

from services.errors import EngineUnavailable

log = logging.getLogger(__name__)


class State(StrEnum):
    """Whether requests pass."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class UpstreamFailed(EngineUnavailable):
    """The engine itself failed, whatever it was asked; another engine might answer.

    Attributes:
        reason: `connect`, `no_answer`, `silence`, `broke_off`, `busy`, `open` or `status_NNN`.
    """

    def __init__(self, message: str, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s

    @property
    def counts(self) -> bool:
        """Whether the breaker counts it."""
        return self.reason not in {"busy", "open", "status_500"}


class Breaker:
    """The breaker of one engine; lives in one event loop.

    Args:
        name: Of the engine, in messages.
        failures: How many in a row open it.
        open_s: How long it stays open.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        open_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._limit, self._open_s, self._monotonic = failures, open_s, monotonic
        self._opened_at: float | None = None
        self._probe: Ticket | None = None
        self.failures = 0
        self.times_opened = 0

    @property
    def state(self) -> State:
        """The present state."""
        if self._opened_at is None:
            return State.CLOSED
        return State.OPEN if self.retry_in_s > 0 else State.HALF_OPEN

    @property
    def retry_in_s(self) -> float:
        """Seconds until a request may try the engine; 0 where one may, or does."""
        if self._opened_at is None:
            return 0.0
        return max(0.0, self._opened_at + self._open_s - self._monotonic())

    def enter(self) -> Ticket:
        """Let one request pass.

        Raises:
            UpstreamFailed: The breaker is open, or another request is trying the engine; it says
                in how many seconds a request may try it.
        """
        if self._opened_at is None:
            return Ticket(self)
        if self._probe is not None or self.state is State.OPEN:
            raise UpstreamFailed(
                f"the {self.name} failed {self._limit} times in a row and is left alone for up to "
                f"{self._open_s:g} s",
                "open",
                retry_after_s=self.retry_in_s,
            )
        self._probe = Ticket(self)
        return self._probe

    def try_soon(self) -> None:
        """Let the next request try the engine: something says that it is back."""
        if self._opened_at is not None:
            self._opened_at = min(self._opened_at, self._monotonic() - self._open_s)

    def _begun(self, ticket: Ticket) -> None:
        if ticket is self._probe:
            self._close()
            # One more failure opens it again: that an answer began is no proof that it ends.
            self.failures = self._limit - 1

    def _ended(self, ticket: Ticket) -> None:
        if self._opened_at is None or ticket is self._probe:
            self._close()
            self.failures = 0

    def _failed(self, ticket: Ticket) -> None:
        if self._opened_at is not None and ticket is not self._probe:
            return  # It was let in before the breaker opened; the engine has been judged since.
        self.failures += 1
        if ticket is self._probe or self.failures >= self._limit:
            self._probe, self._opened_at = None, self._monotonic()
            self.times_opened += 1
            log.warning("the %s is left alone for %g s", self.name, self._open_s)

    def _abandoned(self, ticket: Ticket) -> None:
        if ticket is self._probe:
            self._probe = None

    def _close(self) -> None:
        if self._opened_at is not None:
            log.warning("the %s answers again", self.name)
        self._opened_at = self._probe = None


class Ticket:
    """One request's way through a breaker; the first of its ends counts, later ones do nothing."""

    __slots__ = ("_breaker", "_is_over")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._is_over = False

    def begun(self) -> None:
        """The first piece of an answer is there."""
        self._breaker._begun(self)

    def ended(self) -> None:
        """The answer came to its end, or the engine said what was wrong with the request."""
        self._finish(self._breaker._ended)

    def failed(self) -> None:
        """The engine failed."""
        self._finish(self._breaker._failed)

    def abandoned(self) -> None:
        """Nobody waits any more; the engine was not judged."""
        self._finish(self._breaker._abandoned)

    def _finish(self, end: Callable[[Ticket], None]) -> None:
        if not self._is_over:
            self._is_over = True
            end(self)
