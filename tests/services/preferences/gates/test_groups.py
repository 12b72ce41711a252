from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from services.preferences.gates.groups import Edge, contradictions, crowded


def edges(*arrows: str) -> list[Edge]:
    return [Edge(arrow, arrow[0].encode(), arrow[1].encode()) for arrow in arrows]


def test_two_opposite_decisions_contradict_each_other() -> None:
    found = contradictions(edges("ab", "ba", "ac"))
    assert {pair: one.reason for pair, one in found.items()} == {
        "ab": "the opposite was decided too", "ba": "the opposite was decided too",
    }  # fmt: skip


def test_a_circle_is_found_however_long() -> None:
    found = contradictions(edges("ab", "bc", "cd", "da", "xa", "dx2", "ay"))
    assert {"ab", "bc", "cd", "da"} <= set(found)
    assert "ay" not in found
    assert found["ab"].reason == "part of a circle of preferences"


def test_a_ranking_holds_no_contradiction() -> None:
    assert contradictions(edges("ab", "bc", "ac", "cd", "ad", "bd")) == {}
    assert contradictions([]) == {}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_without_the_pairs_that_are_found_no_circle_is_left(arrows: list[tuple[int, int]]) -> None:
    made = [
        Edge(str(number), bytes([one]), bytes([other]))
        for number, (one, other) in enumerate(arrows)
        if one != other
    ]
    found = contradictions(made)
    assert contradictions([edge for edge in made if edge.pair_id not in found]) == {}
    assert set(found) == {edge.pair_id for edge in made if _reaches(made, edge)}


def _reaches(made: list[Edge], edge: Edge) -> bool:
    """Whether a path leads from the worse answer back to the better one; the slow way."""
    seen, waiting = set[bytes](), [edge.rejected]
    while waiting:
        at = waiting.pop()
        seen.add(at)
        waiting += [one.rejected for one in made if one.chosen == at and one.rejected not in seen]
    return edge.chosen in seen


def test_a_hundred_thousand_pairs_of_one_prompt_take_no_time() -> None:
    chain = [
        Edge(str(number), number.to_bytes(4, "big"), (number + 1).to_bytes(4, "big"))
        for number in range(100_000)
    ]
    started = time.perf_counter()
    assert contradictions(chain) == {}
    assert time.perf_counter() - started < 10


def test_a_crowded_prompt_keeps_as_many_as_are_wanted_by_lot() -> None:
    ids = [f"pair-{number}" for number in range(20)]
    dropped = crowded(ids, limit=5, seed=0)
    assert len(dropped) == 15
    assert dropped == crowded(reversed(ids), limit=5, seed=0)
    assert set(dropped) != set(crowded(ids, limit=5, seed=1))
    assert crowded(ids, limit=20, seed=0) == {}
