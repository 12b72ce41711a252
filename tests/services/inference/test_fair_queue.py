"""The waiting line: bounded, first come first served within a model, models in turn."""

from __future__ import annotations

import pytest

from services.errors import Unavailable
from services.inference.engine.fair_queue import FairQueue


def drained(queue: FairQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_models_take_turns_and_keep_their_own_order() -> None:
    queue: FairQueue[str] = FairQueue(20)
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.push(item[0], item)
    assert queue.peek() == "a1"
    assert drained(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert queue.peek() is None


def test_a_full_queue_refuses() -> None:
    queue: FairQueue[str] = FairQueue(2)
    queue.push("a", "a1")
    queue.push("b", "b1")
    with pytest.raises(Unavailable, match="2 requests wait"):
        queue.push("c", "c1")
    assert drained(queue) == ["a1", "b1"]


def test_one_models_flood_leaves_room_for_the_others() -> None:
    queue: FairQueue[str] = FairQueue(4)
    queue.push("a", "a1")
    queue.push("a", "a2")
    with pytest.raises(Unavailable, match="2 of them for 'a'"):
        queue.push("a", "a3")
    queue.push("b", "b1")
    assert drained(queue) == ["a1", "b1", "a2"]


def test_items_that_are_not_wanted_any_more_leave_at_once() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for item in ("a1", "a2", "b1"):
        queue.push(item[0], item)
    assert queue.drop(lambda item: item in {"a1", "b1"}) == ["a1", "b1"]
    assert (len(queue), drained(queue)) == (1, ["a2"])
