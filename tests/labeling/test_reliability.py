from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from labeling.reliability import (
    Counts,
    Estimate,
    departs,
    ordinal_alpha,
    share,
    weighted_kappa,
)

NONE = np.nan
# Three coders, fifteen units: nominal 0.691, interval 0.811, ordinal 0.807.
THREE_CODERS = [
    [NONE, NONE, NONE, NONE, NONE, 3, 4, 1, 2, 1, 1, 3, 3, NONE, 3],
    [1, NONE, 2, 1, 3, 3, 4, 3, NONE, NONE, NONE, NONE, NONE, NONE, NONE],
    [NONE, NONE, 2, 1, 3, 4, 4, NONE, 2, 1, 1, 3, 3, NONE, 4],
]
# Four coders, twelve units (Krippendorff 2011, section E): nominal 0.743, ordinal 0.815.
FOUR_CODERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
    [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
]
# Wives and husbands on one question (Agresti, Categorical Data Analysis; R package vcd,
# `SexualFun`): kappa with Fleiss-Cohen weights 0.332.
COUPLES = np.array([[7, 7, 2, 3], [2, 8, 3, 7], [1, 5, 4, 9], [2, 8, 9, 14]])

some_counts = arrays.arrays(np.int64, (12, 5), elements=st.integers(0, 3))
some_table = arrays.arrays(np.int64, (5, 5), elements=st.integers(0, 6))


def _counts(coders: list[list[float]], values: int) -> Counts:
    given = np.array(coders).T[:, :, None] == np.arange(1, values + 1)
    return given.sum(axis=1).astype(np.int64)


def _value(found: Estimate) -> float:
    assert found.value is not None
    return found.value


@pytest.mark.parametrize(
    ("coders", "values", "published"),
    [(THREE_CODERS, 4, 0.807), (FOUR_CODERS, 5, 0.815)],
    ids=["three coders", "four coders"],
)
def test_alpha_is_that_of_published_examples(
    coders: list[list[float]], values: int, published: float
) -> None:
    counts = _counts(coders, values)
    found = ordinal_alpha(counts, seed=0, enough=1)
    assert round(_value(found), 3) == published
    assert found.n == int((counts.sum(axis=1) > 1).sum())


def test_the_library_that_is_compared_with_knows_the_examples_too() -> None:
    def alpha(coders: list[list[float]], level: str) -> float:
        return round(float(krippendorff.alpha(coders, level_of_measurement=level)), 3)

    levels = ("nominal", "ordinal", "interval")
    assert [alpha(THREE_CODERS, level) for level in levels] == [0.691, 0.807, 0.811]
    assert [alpha(FOUR_CODERS, level) for level in levels[:2]] == [0.743, 0.815]


@given(some_counts)
def test_alpha_is_that_of_the_library(counts: Counts) -> None:
    usable = counts[counts.sum(axis=1) > 1]
    found = ordinal_alpha(counts, seed=0, enough=1, resamples=10)
    if (usable.sum(axis=0) > 0).sum() < 2:
        assert found.value is None
        return
    expected = krippendorff.alpha(value_counts=usable, level_of_measurement="ordinal")
    assert _value(found) == pytest.approx(float(expected), abs=1e-9)


@given(some_counts, st.lists(st.booleans(), min_size=12, max_size=12))
def test_a_mirrored_alpha_does_not_depend_on_which_answer_is_first(
    counts: Counts, turned: list[bool]
) -> None:
    other = np.where(np.array(turned)[:, None], counts[:, ::-1], counts)
    one, two = (
        ordinal_alpha(one, seed=0, is_mirrored=True, enough=1, resamples=10)
        for one in (counts, other)
    )
    assert one.n == two.n
    if one.value is None:
        assert two.value is None
    else:
        assert _value(two) == pytest.approx(one.value, abs=1e-9)


@given(some_table)
def test_kappa_is_that_of_the_library(table: Counts) -> None:
    found = weighted_kappa(table, seed=0, enough=1, resamples=10)
    cells = np.repeat(np.arange(25), table.ravel())
    rows, columns = cells // 5, cells % 5
    if len(set(rows) | set(columns)) < 2:
        assert found.value is None
        return
    expected = cohen_kappa_score(rows, columns, labels=range(5), weights="quadratic")
    assert _value(found) == pytest.approx(float(expected), abs=1e-9)


def test_kappa_is_that_of_a_published_example() -> None:
    found = weighted_kappa(COUPLES, seed=0)
    assert round(_value(found), 3) == 0.332
    assert found.n == 91


@given(some_table)
def test_a_mirrored_kappa_does_not_depend_on_who_or_which_is_first(table: Counts) -> None:
    found = [
        weighted_kappa(one, seed=0, is_mirrored=True, enough=1, resamples=10).value
        for one in (table, table.T, table[::-1, ::-1])
    ]
    if found[0] is None:
        assert found == [None] * 3
    else:
        assert found == pytest.approx([found[0]] * 3, abs=1e-9)


def _raters(rng: np.random.Generator, n: int, noise: int) -> Counts:
    """Two raters who see the same thing a little differently, values 0 to 6."""
    truth = rng.integers(0, 7, n)
    seen = np.clip(truth[:, None] + rng.integers(-noise, noise + 1, (n, 2)), 0, 6)
    counts = np.zeros((n, 7), dtype=np.int64)
    for rater in range(2):
        counts[np.arange(n), seen[:, rater]] += 1
    return counts


def test_the_interval_holds_the_true_alpha_about_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(3)
    truth = _value(ordinal_alpha(_raters(rng, 200_000, 2), seed=0, resamples=2))
    held = 0
    for seed in range(200):
        found = ordinal_alpha(_raters(rng, 80, 2), seed=seed, resamples=400)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 176 <= held <= 199


def test_an_interval_is_the_same_for_the_same_seed() -> None:
    counts = _raters(np.random.default_rng(1), 60, 2)
    assert ordinal_alpha(counts, seed=4) == ordinal_alpha(counts, seed=4)
    assert ordinal_alpha(counts, seed=4) != ordinal_alpha(counts, seed=5)


def test_too_few_pairs_have_no_figure() -> None:
    rng = np.random.default_rng(1)
    assert ordinal_alpha(_raters(rng, 29, 1), seed=0) == Estimate.unknown(29)
    assert ordinal_alpha(_raters(rng, 30, 1), seed=0).is_known
    assert weighted_kappa(COUPLES[:1, :1], seed=0) == Estimate.unknown(7)


def test_units_with_one_vote_are_not_counted() -> None:
    counts = _raters(np.random.default_rng(1), 40, 1)
    lone = np.zeros((100, 7), dtype=np.int64)
    lone[:, 2] = 1
    assert ordinal_alpha(np.concatenate([counts, lone]), seed=0) == ordinal_alpha(counts, seed=0)


def test_full_agreement_on_few_pairs_is_no_proof_of_full_agreement() -> None:
    def agreeing(n: int) -> Counts:
        counts = np.zeros((n, 7), dtype=np.int64)
        counts[np.arange(n), np.arange(n) % 7] = 2
        return counts

    few, many = (ordinal_alpha(agreeing(n), seed=0, is_mirrored=True) for n in (35, 7_000))
    assert (few.value, few.high) == (1.0, 1.0)
    assert few.low is not None
    assert 0.8 < few.low < 0.95
    assert many.low is not None
    assert many.low > 0.999
    table = np.diag([5] * 7)
    alike = weighted_kappa(table, seed=0)
    assert (alike.value, alike.high) == (1.0, 1.0)
    assert alike.low == pytest.approx(few.low, abs=0.02)


def test_where_nothing_varies_there_is_no_figure() -> None:
    ties = np.zeros((50, 7), dtype=np.int64)
    ties[:, 3] = 2
    assert ordinal_alpha(ties, seed=0, is_mirrored=True) == Estimate.unknown(50)
    same = np.zeros((7, 7), dtype=np.int64)
    same[3, 3] = 50
    assert weighted_kappa(same, seed=0, is_mirrored=True) == Estimate.unknown(50)


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (3, 12), (12, 12), (60, 100)])
def test_a_share_has_the_exact_binomial_interval(hits: int, n: int) -> None:
    found = share(hits, n)
    exact = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert found.value == hits / n
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_a_share_of_nothing_is_unknown_and_more_than_all_is_a_bug() -> None:
    assert share(0, 0) == Estimate.unknown(0)
    with pytest.raises(ValueError, match="found 3 of 2"):
        share(3, 2)


def test_somebody_who_leans_beyond_chance_is_told_from_a_team_of_coin_tossers() -> None:
    assert departs(share(68, 100), 0.5)
    assert not departs(share(56, 100), 0.5)
    assert not departs(share(0, 0), 0.5)
    # Of twenty fair coins tossed a hundred times, one often shows 61 heads.
    assert departs(share(61, 100), 0.5)
    assert not departs(share(61, 100), 0.5, among=20)
    assert departs(share(70, 100), 0.5, among=20)
