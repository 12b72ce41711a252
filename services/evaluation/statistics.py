"""Paired statistics for base against adapter on the same held-out pairs.

Pure functions. Both models answer to the same pairs, so every test here is paired: unpaired
tests on such data miss most real differences (Miller 2024, arXiv:2411.00640, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import stats

LEVEL = 0.95
BOOTSTRAP_FROM = 100
"""Sample size from which means get a bootstrap interval; below, its coverage is too low."""
RESAMPLES = 10_000
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: In the unit of the sample.
        low: Lower bound of the 95 % interval; None where the sample is too small for one.
        high: Upper bound, likewise.
        method: `t`, `bootstrap` or `none`.
    """

    mean: float
    low: float | None
    high: float | None
    method: str


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided exact McNemar test: do two models differ in how often they are right?

    Conditional on the pairs on which they disagree, each is a fair coin toss under the null
    hypothesis; this is also the two-sided sign test.

    Args:
        gained: Pairs that only the second model gets right.
        lost: Pairs that only the first model gets right.

    Returns:
        The p value, 1 where the models never disagree.

    Source: McNemar 1947, Psychometrika 12:153; Fay 2010, Biostatistics 11:373 (exact form).
    """
    _refuse_negative(gained, lost)
    if gained + lost == 0:
        return 1.0
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def sign_test(differences: Sequence[float]) -> float:
    """Two-sided sign test of a zero median; ties are left out.

    Args:
        differences: One number a pair, any unit.

    Returns:
        The p value, 1 where all are ties.

    Source: Conover 1999, Practical Nonparametric Statistics, section 3.4.
    """
    above = sum(difference > 0 for difference in differences)
    below = sum(difference < 0 for difference in differences)
    return mcnemar_exact(above, below)


def paired_difference_interval(
    gained: int, lost: int, n: int, *, level: float = LEVEL
) -> tuple[float, float]:
    """Score interval for the difference of two paired proportions.

    Unlike the Wald and bootstrap intervals it keeps its width where the models rarely or never
    disagree: no disagreement in 20 pairs is no proof that there is none.

    Args:
        gained: Pairs that only the second model gets right.
        lost: Pairs that only the first model gets right.
        n: All pairs.
        level: Confidence, between 0 and 1.

    Returns:
        Lower and upper bound of (second minus first) accuracy, within -1 to 1.

    Source: Tango 1998, Statistics in Medicine 17:891; recommended by Fagerland, Lydersen and
    Laake 2014, Statistics in Medicine 33:2850.
    """
    _refuse_negative(gained, lost)
    if n < 1 or gained + lost > n:
        raise ValueError(f"expected gained + lost of at most n >= 1, found {gained}, {lost}, {n}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    observed = (gained - lost) / n

    def outside(difference: float) -> bool:
        return abs(_score(gained, lost, n, difference)) > z

    return _edge(outside, observed, -1.0), _edge(outside, observed, 1.0)


def _score(gained: int, lost: int, n: int, difference: float) -> float:
    """Tango's score statistic for one supposed difference."""
    # With d = lost - gained the supposed difference, Tango's equations (b = lost, c = gained).
    d = -difference
    a = 2 * n
    b = -lost - gained + (2 * n - lost + gained) * d
    c = -gained * d * (1 - d)
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    q21 = (root - b) / (2 * a)  # probability of a gained pair, given the difference
    variance = n * (2 * q21 + d * (1 - d))
    distance = lost - gained - n * d
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _edge(outside: Callable[[float], bool], inside: float, end: float) -> float:
    """Where the interval ends between a point inside it and -1 or 1."""
    if not outside(end):
        return end
    for _ in range(60):
        middle = (inside + end) / 2
        if outside(middle):
            end = middle
        else:
            inside = middle
    return inside


def mean_estimate(values: Sequence[float], *, seed: int) -> Estimate:
    """The mean of one number a pair, with its 95 % interval.

    Student's t interval below 100 pairs, a bias-corrected and accelerated bootstrap of 10,000
    resamples from there on.

    Args:
        values: At least one, finite, any unit.
        seed: Of the bootstrap; the same seed gives the same interval.

    Source: Student 1908, Biometrika 6:1; Efron 1987, JASA 82:171.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"expected finite numbers, found {len(values)} with some that are not")
    mean = float(sample.mean())
    if sample.size == 1:
        return Estimate(mean, None, None, "none")
    if float(sample.std()) <= 1e-12 * max(1.0, abs(mean)):
        # Equal numbers: both methods divide by their spread.
        return Estimate(mean, mean, mean, "t")
    if sample.size < BOOTSTRAP_FROM:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, sample.size - 1)) * float(stats.sem(sample))
        return Estimate(mean, mean - half, mean + half, "t")
    found = stats.bootstrap(
        (sample,),
        np.mean,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        batch=1_000,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean, float(found.low), float(found.high), "bootstrap")


def pairs_needed(difference: float, discordant: float, *, power: float = POWER) -> float:
    """Pairs that a two-sided McNemar test at 5 % needs.

    Args:
        difference: True difference of both accuracies, above 0.
        discordant: True share of pairs on which the models disagree, at least the difference.
        power: Chance of finding the difference, between 0 and 1.

    Source: Connor 1987, Biometrics 43:207, page 209.
    """
    if not 0 < difference <= discordant <= 1:
        raise ValueError(
            f"expected 0 < difference <= discordant <= 1, found {difference}, {discordant}"
        )
    normal = NormalDist()
    of_error, of_power = normal.inv_cdf(0.5 + LEVEL / 2), normal.inv_cdf(power)
    spread = of_error * math.sqrt(discordant) + of_power * math.sqrt(discordant - difference**2)
    return (spread / difference) ** 2


def minimum_detectable_difference(n: int, discordant: float) -> float | None:
    """The smallest difference of accuracies that this many pairs show four times in five.

    Args:
        n: Held-out pairs.
        discordant: Observed share of pairs on which the models disagree. A difference larger
            than it is judged as if all disagreements pointed one way.

    Returns:
        A difference within 0 to 1, or None where not even the largest would be seen.
    """
    if n < 1 or pairs_needed(1.0, 1.0) > n:
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if pairs_needed(middle, max(middle, discordant)) > n:
            low = middle
        else:
            high = middle
    return high


def _refuse_negative(*counts: int) -> None:
    if min(counts) < 0:
        raise ValueError(f"expected counts of at least 0, found {counts}")
