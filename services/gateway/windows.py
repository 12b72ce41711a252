"""Sliding windows over requests: constant time and memory, never more than the limit.

A window of a second or a minute is kept as 61 counts of a sixtieth each: the one that runs now and
the sixty before it. A request is therefore counted for its whole window and at most a sixtieth
longer (17 ms of a second, 1 s of a minute): no window of that length ever holds more than the
limit, and a place becomes free up to a sixtieth late. That is the whole error.
"""

from __future__ import annotations

SLOTS = 60
_RING = SLOTS + 1


class Window:
    """How many requests were admitted in the last so many seconds.

    Args:
        span_s: Its length, seconds.
    """

    __slots__ = ("_counts", "_head", "_slot_s", "_total")

    def __init__(self, span_s: float) -> None:
        self._slot_s = span_s / SLOTS
        self._counts = [0] * _RING
        self._head = 0
        self._total = 0

    def count(self, now: float) -> int:
        """How many are counted now.

        Args:
            now: Seconds that never go back.
        """
        self._advance(now)
        return self._total

    def wait(self, now: float, limit: int) -> float:
        """Seconds until one more request fits; 0 if it fits now."""
        self._advance(now)
        if self._total < limit:
            return 0.0
        to_free = self._total - limit + 1
        for slot in range(self._head - SLOTS, self._head + 1):
            to_free -= self._counts[slot % _RING]
            if to_free <= 0:
                return (slot + _RING) * self._slot_s - now
        return _RING * self._slot_s

    def take(self, now: float) -> None:
        """Count one request."""
        self._advance(now)
        self._counts[self._head % _RING] += 1
        self._total += 1

    def empty_in(self, now: float) -> float:
        """Seconds until nothing is counted any more."""
        self._advance(now)
        if not self._total:
            return 0.0
        newest = self._head
        while not self._counts[newest % _RING]:
            newest -= 1
        return (newest + _RING) * self._slot_s - now

    def _advance(self, now: float) -> None:
        slot = int(now / self._slot_s)
        if slot <= self._head:
            return
        if slot - self._head > SLOTS:
            self._counts = [0] * _RING
            self._total = 0
        else:
            for passed in range(self._head + 1, slot + 1):
                self._total -= self._counts[passed % _RING]
                self._counts[passed % _RING] = 0
        self._head = slot
