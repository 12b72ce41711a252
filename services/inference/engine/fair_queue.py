"""Who is next: requests wait in one line per model, and the lines take turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from services.errors import Unavailable

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """A bounded queue with one line per model.

    Adapters belong to tenants, so one tenant's flood fills its own line (at most half of all
    places) and the others still come next in turn. Not thread-safe.

    Args:
        limit: Most items that wait, all lines together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: dict[str, deque[Item]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, line: str, item: Item) -> None:
        """Wait at the end of a line.

        Raises:
            Unavailable: All places, or the line's share of them, are taken.
        """
        waiting = len(self._lines.get(line, ()))
        if self._size >= self._limit or waiting >= max(1, self._limit // 2):
            raise Unavailable(
                f"the engine is full: {self._size} requests wait (at most {self._limit}), "
                f"{waiting} of them for {line!r}; try again later"
            )
        self._lines.setdefault(line, deque()).append(item)
        self._size += 1

    def peek(self) -> Item | None:
        """The next item, left in its place."""
        for line in self._lines.values():
            return line[0]
        return None

    def pop(self) -> Item:
        """Take the next item; its line goes to the end of the turns."""
        name, line = next(iter(self._lines.items()))
        item = line.popleft()
        del self._lines[name]
        if line:
            self._lines[name] = line
        self._size -= 1
        return item

    def drop(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take out all items that are not wanted any more."""
        dropped = [item for line in self._lines.values() for item in line if unwanted(item)]
        if dropped:
            kept = {
                name: deque(item for item in line if not unwanted(item))
                for name, line in self._lines.items()
            }
            self._lines = {name: line for name, line in kept.items() if line}
            self._size -= len(dropped)
        return dropped
