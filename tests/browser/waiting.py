"""Waiting for a condition, with a deadline that only a broken program meets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 480.0
LOOK_EVERY_S = 0.1


def until(found: Callable[[], T], what: str, *, within_s: float = PATIENCE_S) -> T:
    """Ask again until the answer is neither None, False nor empty; the answer.

    Args:
        what: Ends the sentence "… did not happen: ".
    """
    deadline = time.monotonic() + within_s
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"within {within_s:.0f} s this did not happen: {what}")
        time.sleep(LOOK_EVERY_S)
    return answer
