"""Several adapters on the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.db import Database
from services.errors import InvalidInput, NotFound, NotPermitted
from services.evaluation.comparing import Comparisons
from services.evaluation.comparison import BASE, Comparison, Contender, compare
from services.evaluation.findings import Verdict
from services.evaluation.models import Evaluation, PairScore
from services.evaluation.statistics import mcnemar_exact
from services.preferences.labels import PairLabel
from tests.services.evaluation.world import (
    ENGINEER,
    GAINED,
    LOST,
    RIGHT,
    STRANGER,
    WRONG,
    build,
    finished,
    score,
)

KINDS = {"+": GAINED, "-": LOST, "1": RIGHT, "0": WRONG}


class _Order:
    """An evaluation, as far as a comparison looks at one."""

    def __init__(self, adapter: str, base_digest: str = "b") -> None:
        self.adapter, self.base_digest = adapter, base_digest


def contender(name: str, scores: Sequence[PairScore], base_digest: str = "b") -> Contender:
    return Contender(cast(Evaluation, _Order(name, base_digest)), scores)


def of(name: str, right: str) -> Contender:
    """An adapter that gets pair i right where the i-th letter is 1; the base is always wrong."""
    return contender(
        name, [score(i, *(GAINED if letter == "1" else WRONG)) for i, letter in enumerate(right)]
    )


def names(found: Comparison) -> list[str]:
    return [row.adapter for row in found.rows]


def test_each_adapter_stands_against_the_base_with_holms_p() -> None:
    found = compare([of("a-1", "1" * 12 + "0" * 20), of("b-2", "1" * 6 + "0" * 26)], {})
    assert (found.against, found.n_prompts, found.n_left_out) == (BASE, 32, 0)
    assert names(found) == ["a-1", "b-2"]
    first, second = found.rows
    assert (first.accuracy, first.against, first.gained, first.lost) == (12 / 32, 0.0, 12, 0)
    assert first.p_adjusted == pytest.approx(2 * mcnemar_exact(12, 0))
    assert second.p_value == pytest.approx(mcnemar_exact(6, 0)) == pytest.approx(0.03125)
    assert second.p_adjusted == pytest.approx(0.03125)
    assert (first.verdict, second.verdict) == (Verdict.BETTER, Verdict.BETTER)


def test_holm_takes_back_what_only_several_tries_made_significant() -> None:
    lucky = of("a-1", "1" * 6 + "0" * 26)
    found = compare([lucky, of("b-2", "1" * 6 + "0" * 26), of("c-3", "0" * 32)], {})
    assert [row.p_value < 0.05 for row in found.rows] == [True, True, False]
    assert [row.verdict for row in found.rows][:2] == [Verdict.NON_INFERIOR, Verdict.NON_INFERIOR]


def test_adapters_are_compared_with_one_of_them() -> None:
    found = compare([of("a-1", "1" * 30), of("b-2", "0" * 15 + "1" * 15)], {}, against="b-2")
    (row,) = found.rows
    assert (row.adapter, row.accuracy, row.against, row.gained, row.lost) == (
        "a-1", 1.0, 0.5, 15, 0,
    )  # fmt: skip
    assert row.margin.mean == pytest.approx(1.0)
    assert found.prompts[0].margins.keys() == {"a-1", BASE}


def test_the_worst_regressions_come_first() -> None:
    scores = [score(i, *KINDS[kind]) for i, kind in enumerate("1+-0+")]
    better = [score(i, *KINDS[kind]) for i, kind in enumerate("11+++")]
    # The base is the same model each time.
    better = [
        replace(new, base_chosen=old.base_chosen, base_rejected=old.base_rejected)
        for new, old in zip(better, scores, strict=True)
    ]
    found = compare([contender("a-1", scores), contender("b-2", better)], {})
    assert found.prompts[0].prompt_key == "prompt-0002"
    changes = [one.worst for one in found.prompts]
    assert changes == sorted(changes)
    assert found.prompts[0].change("a-1") == found.prompts[0].worst


def test_only_pairs_that_all_scored_with_the_same_texts_count() -> None:
    first = [score(i, *GAINED) for i in range(10)]
    edited = replace(score(3, *GAINED), chosen_tokens=11)
    reworded = replace(score(4, *GAINED), base_chosen=-2.5)
    second = [score(i, *GAINED) for i in range(2, 12) if i not in {3, 4}] + [edited, reworded]
    found = compare([contender("a-1", first), contender("b-2", second)], {})
    assert (found.n_pairs, found.n_left_out) == (6, 6)


@pytest.mark.parametrize(
    ("language", "topic", "count"), [("tr", None, 10), (None, "law", 6), ("tr", "law", 4)]
)
def test_filters_keep_what_they_name(language: str | None, topic: str | None, count: int) -> None:
    labels = {
        f"pair-{i:04}": PairLabel(
            "tr" if i < 10 else "en", "law" if i in {0, 1, 2, 3, 20, 21} else "", "x"
        )
        for i in range(25)
    }
    both = [of("a-1", "1" * 30), of("b-2", "0" * 30)]
    assert compare(both, labels, language=language, topic=topic).n_pairs == count


@pytest.mark.parametrize(
    ("contenders", "against", "said"),
    [
        ([of("a-1", "1")], BASE, "2 to 6 adapters to compare, found 1"),
        ([of(f"a-{i}", "1") for i in range(7)], BASE, "2 to 6 adapters to compare, found 7"),
        ([of("a-1", "1"), of("a-1", "0")], BASE, "different adapters, found a-1 twice"),
        ([of("a-1", "1"), of("b-2", "0")], "c-3", "compared with 'c-3': expected 'base' or one"),
        ([of("a-1", "1"), contender("b-2", [score(9, *GAINED)])], BASE, "found none$"),
        ([of("a-1", "1"), contender("b-2", [score(0)], "other")], BASE, "of one base model"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    contenders: list[Contender], against: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        compare(contenders, {}, against=against)


def test_a_filter_that_leaves_nothing_says_so() -> None:
    with pytest.raises(InvalidInput, match="found none in this selection"):
        compare([of("a-1", "11"), of("b-2", "11")], {}, language="tr")


@given(some.lists(some.tuples(some.booleans(), some.booleans()), min_size=1, max_size=40))
def test_swapping_two_adapters_turns_the_difference_round(right: list[tuple[bool, bool]]) -> None:
    one = of("a-1", "".join("1" if a else "0" for a, _b in right))
    other = of("b-2", "".join("1" if b else "0" for _a, b in right))
    (forward,) = compare([one, other], {}, against="b-2").rows
    (backward,) = compare([one, other], {}, against="a-1").rows
    assert forward.difference == pytest.approx(-backward.difference)
    assert (forward.low, forward.high) == (
        pytest.approx(-backward.high, abs=1e-9), pytest.approx(-backward.low, abs=1e-9),
    )  # fmt: skip
    assert forward.p_value == backward.p_value
    assert (forward.gained, forward.lost) == (backward.lost, backward.gained)


def test_a_comparison_stays_within_the_tenant(database: Database, tmp_path: Path) -> None:
    world = build(database, tmp_path)
    one = finished(world, [score(i) for i in range(25)])
    comparisons = Comparisons(world.evaluations)
    assert list(comparisons.finished(ENGINEER, "legal")) == [one.adapter]
    for refused in (
        lambda: comparisons.compare(STRANGER, [one, one]),
        lambda: comparisons.texts(STRANGER, [one]),
    ):
        with pytest.raises((NotFound, NotPermitted)):
            refused()
    with pytest.raises(InvalidInput, match="of one tenant, found those of 2"):
        comparisons.compare(ENGINEER, [one, replace(one, tenant_id="medical")])


def test_labels_come_from_the_pairs_themselves(database: Database, tmp_path: Path) -> None:
    world = build(database, tmp_path)
    pairs = world.preferences.pairs(ENGINEER, "legal", limit=3).pairs
    scores = [replace(score(i), pair_id=pair.id) for i, pair in enumerate(pairs)]
    one = finished(world, scores)
    labels = Comparisons(world.evaluations).labels(ENGINEER, [one])
    assert {label.language for label in labels.values()} == {"en"}
    assert {label.source for label in labels.values()} == {"made up"}
    assert len(labels) == 3
