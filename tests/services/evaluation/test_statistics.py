"""Against worked examples that others published, and against what must always hold."""

import random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from services.evaluation.statistics import (
    mcnemar_exact,
    mean_estimate,
    minimum_detectable_difference,
    paired_difference_interval,
    pairs_needed,
    sign_test,
)

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Student 1908: additional hours of sleep of ten patients, one drug against the other."""


@pytest.mark.parametrize(
    ("gained", "lost", "published"),
    [
        (9, 2, 0.06543),  # Fay, vignette of the R package exact2x2
        (7, 1, 0.0703),  # Fagerland, Lydersen and Laake 2013, airway hyper-responsiveness
        (16, 6, 0.052479),  # Cavo et al. 2012, in the R package contingencytables
    ],
)
def test_mcnemar_is_the_published_value(gained: int, lost: int, published: float) -> None:
    assert mcnemar_exact(gained, lost) == pytest.approx(published, abs=5e-5)
    assert mcnemar_exact(lost, gained) == mcnemar_exact(gained, lost)


@pytest.mark.parametrize(("wins", "n"), [(9, 10), (15, 20), (21, 30), (33, 50), (61, 100)])
def test_these_wins_and_not_one_fewer_are_significant(wins: int, n: int) -> None:
    assert mcnemar_exact(wins, n - wins) < 0.05
    assert mcnemar_exact(wins - 1, n - wins + 1) >= 0.05


def test_models_that_never_disagree_do_not_differ() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert sign_test([0.0, 0.0]) == 1.0


def test_the_sign_test_leaves_ties_out() -> None:
    assert sign_test([1.0, 2.0, 0.0, -1.0]) == mcnemar_exact(2, 1)


def test_tangos_interval_is_the_published_one() -> None:
    # Cavo et al. 2012: 59, 6, 16, 80; contingencytables gives -0.1240 to -0.0054.
    low, high = paired_difference_interval(6, 16, 161)
    assert (low, high) == pytest.approx((-0.1240, -0.0054), abs=5e-5)


def test_without_any_disagreement_the_interval_keeps_its_width() -> None:
    z2 = 1.959964**2
    low, high = paired_difference_interval(0, 0, 20)
    assert (low, high) == pytest.approx((-z2 / (20 + z2), z2 / (20 + z2)), abs=1e-6)


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))
def test_the_interval_holds_the_estimate_and_mirrors(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same
    assume(n > 0)
    low, high = paired_difference_interval(gained, lost, n)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    mirrored = paired_difference_interval(lost, gained, n)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 100))
def test_the_interval_excludes_zero_exactly_where_the_score_test_does(
    gained: int, lost: int, same: int
) -> None:
    low, high = paired_difference_interval(gained, lost, gained + lost + same)
    chi = (gained - lost) ** 2 / (gained + lost) if gained + lost else 0.0
    assume(abs(chi - 3.841459) > 1e-6)
    assert (low > 0 or high < 0) == (chi > 3.841459)


def test_the_t_interval_is_students_own() -> None:
    found = mean_estimate(SLEEP, seed=0)
    assert found.method == "t"
    assert found.mean == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


def test_from_a_hundred_on_the_bootstrap_repeats_by_its_seed_and_agrees_with_t() -> None:
    randomness = random.Random(1)
    sample = [randomness.gauss(0.3, 1.0) for _ in range(200)]
    found = mean_estimate(sample, seed=7)
    assert found.method == "bootstrap"
    assert found == mean_estimate(sample, seed=7)
    assert found != mean_estimate(sample, seed=8)
    half = stats.t.ppf(0.975, 199) * np.std(sample, ddof=1) / np.sqrt(200)
    assert (found.low, found.high) == pytest.approx(
        (found.mean - half, found.mean + half), abs=0.02
    )


def test_one_number_has_no_interval_and_equal_numbers_have_no_width() -> None:
    assert mean_estimate([2.0], seed=0).low is None
    for n in (3, 150):
        found = mean_estimate([0.5] * n, seed=0)
        assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_no_sample_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_estimate(values, seed=0)


def test_connors_sample_size_is_the_published_one() -> None:
    # powerandsamplesize.com, McNemar two-sided: p01 0.45, p10 0.05, power 0.8 gives 23.
    assert 22 < pairs_needed(0.40, 0.50) <= 23


def test_the_detectable_difference_is_that_for_which_the_pairs_just_suffice() -> None:
    for n, discordant in ((20, 0.3), (100, 0.18), (400, 0.2)):
        found = minimum_detectable_difference(n, discordant)
        assert found is not None
        assert pairs_needed(found, max(found, discordant)) == pytest.approx(n, rel=1e-3)


def test_more_pairs_show_smaller_differences_and_few_pairs_show_none() -> None:
    found = [minimum_detectable_difference(n, 0.2) for n in (20, 50, 200, 1000)]
    assert found == sorted(found, reverse=True)
    assert minimum_detectable_difference(3, 0.2) is None
    assert minimum_detectable_difference(0, 0.0) is None


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    n, gain, loss = 200, 0.14, 0.04
    expected = minimum_detectable_difference(n, gain + loss)
    assert expected is not None
    randomness = np.random.default_rng(3)
    shares = ((gain + loss + expected) / 2, (gain + loss - expected) / 2)
    draws = randomness.multinomial(n, [*shares, 1 - gain - loss], size=2000)
    found = np.mean([mcnemar_exact(int(a), int(b)) < 0.05 for a, b, _ in draws])
    # The exact test is a little more careful than Connor's approximation.
    assert 0.70 < found < 0.85


@pytest.mark.parametrize("counts", [(-1, 0), (0, -1)])
def test_negative_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar_exact(*counts)
    with pytest.raises(ValueError, match="at least 0"):
        paired_difference_interval(*counts, n=5)


def test_more_disagreements_than_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at most n"):
        paired_difference_interval(3, 3, 5)
