from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preferences.evidence import (
    INCONSISTENT,
    PLAIN,
    REMARKABLE,
    UNDECIDED,
    AiVerdict,
    ai_verdict,
    lottery,
    priority,
)  # fmt: skip
from services.preferences.models import Judgment, Response

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def response(name: str, version: int = 1, score: float | None = None) -> Response:
    identity = name if version == 1 else f"{name}{version}"
    extra = {} if score is None else {"score": score}
    return Response(identity, name, None, version, f"text {identity}", None, NOW, extra)


def judgment(first: str, second: str, preferred: str | None, **values: Any) -> Judgment:
    made: dict[str, Any] = {
        "id": f"{first}{second}", "pair_id": "p", "scores": {}, "reason": "", "judge": "j",
        "revision": "1", "created_at": NOW, **values,
    }  # fmt: skip
    return Judgment(
        first_response_id=first, second_response_id=second, preferred_response_id=preferred, **made
    )


A, B = response("a"), response("b")


def test_nothing_judged_says_nothing() -> None:
    assert ai_verdict([A, B]) is None
    assert ai_verdict([response("a", score=3), B]) is None
    assert ai_verdict([A, B], [judgment("x", "y", "x")]) is None


@pytest.mark.parametrize(
    ("low", "high", "strength"),
    [(5, 5, 0), (5, 5.49, 0), (5, 5.5, 1), (5, 6.5, 2), (5, 7.9, 2), (1, 4, 3), (0, 10, 3)],
)
def test_imported_scores_are_told_on_the_annotators_scale(
    low: float, high: float, strength: int
) -> None:
    for scores in ((low, high), (high, low)):
        found = ai_verdict([response("a", score=scores[0]), response("b", score=scores[1])])
        assert found is not None
        better = "a" if scores[0] > scores[1] else "b"
        assert found.preferred_response_id == (better if strength else None)
        assert (found.strength, found.judge, found.is_consistent) == (strength, "", None)
        assert found.margin == pytest.approx(high - low)


def test_orders_that_disagree_prefer_nothing() -> None:
    found = ai_verdict([A, B], [judgment("a", "b", "a"), judgment("b", "a", "b")])
    assert found == AiVerdict(None, 0, None, False, False, "j")
    assert priority(verdict=found, lints=()) == INCONSISTENT


def test_orders_that_agree_are_one_verdict() -> None:
    scores = {"a": {"clarity": 8, "safety": 10}, "b": {"clarity": 4, "safety": 6}}
    both = [judgment("a", "b", "a", scores=scores), judgment("b", "a", "a", scores=scores)]
    assert ai_verdict([A, B], both) == AiVerdict("a", 3, 4.0, True, False, "j")
    assert ai_verdict([A, B], both[:1]) == AiVerdict("a", 3, 4.0, None, False, "j")
    named = ai_verdict([A, B], [judgment("a", "b", "b")])
    assert named == AiVerdict("b", 2, None, None, False, "j")
    close = {"a": {"clarity": 5}, "b": {"clarity": 5.2}}
    found = ai_verdict([A, B], [judgment("a", "b", "b", scores=close)])
    assert found is not None
    assert (found.strength, found.preferred_response_id) == (1, "b")


def test_the_latest_judge_speaks_and_in_each_order_its_latest_word() -> None:
    old = judgment("a", "b", "a", judge="older", created_at=NOW - timedelta(days=1))
    first = judgment("a", "b", "a", id="1")
    repeated = judgment("a", "b", "b", id="2")
    other = judgment("b", "a", "b", id="3")
    found = ai_verdict([A, B], [other, repeated, old, first])
    assert found == AiVerdict("b", 2, None, True, False, "j")


def test_after_an_edit_the_verdict_is_stale_until_the_new_text_is_judged() -> None:
    edited = response("a", 2)
    of_old = judgment("a", "b", "a")
    found = ai_verdict([A, edited, B], [of_old])
    assert found == AiVerdict("a2", 2, None, None, True, "j")
    assert ai_verdict([edited, B], [of_old]) == found
    fresh = judgment("a2", "b", "b", created_at=NOW - timedelta(hours=1))
    assert ai_verdict([A, edited, B], [of_old, fresh]) == AiVerdict("b", 2, None, None, False, "j")
    scored = ai_verdict([response("a", score=9), edited, response("b", score=1)])
    assert scored == AiVerdict("a2", 3, 8, None, True, "")


def test_priority_goes_by_what_a_look_is_worth() -> None:
    def verdict(**values: Any) -> AiVerdict:
        known = {"preferred_response_id": "a", "strength": 3, "margin": 5.0, "is_consistent": True}
        return AiVerdict(**{**known, "is_stale": False, "judge": "j", **values})

    assert priority(verdict=None, lints=()) == PLAIN
    assert priority(verdict=None, lints=("refusal",)) == REMARKABLE
    assert priority(verdict=verdict(), lints=()) == PLAIN
    assert priority(verdict=verdict(), lints=["refusal"]) == REMARKABLE
    assert priority(verdict=verdict(margin=0.9, strength=1), lints=["refusal"]) == UNDECIDED
    assert priority(verdict=verdict(margin=None, strength=0), lints=()) == UNDECIDED
    assert priority(verdict=verdict(is_consistent=False), lints=()) == INCONSISTENT
    assert INCONSISTENT > UNDECIDED > REMARKABLE > PLAIN


@given(st.text())
def test_the_lottery_is_the_same_each_time_and_fits_a_column(pair_id: str) -> None:
    assert lottery(pair_id) == lottery(pair_id)
    assert 0 <= lottery(pair_id) < 2**31


def test_the_lottery_favours_nobody() -> None:
    drawn = [lottery(f"pair-{number}") for number in range(2_000)]
    assert len(set(drawn)) == 2_000
    assert 900 < sum(number < 2**30 for number in drawn) < 1_100
