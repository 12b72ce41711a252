"""How far people agree: alpha, kappa and shares, each with its interval.

Pure functions over counts. A preference has no natural direction: which of a pair's answers is
called the first is an accident. The functions for preferences therefore count everything in both
directions ("mirrored"), so that the result is the same whichever answer came first.

Alpha is computed here because the maintained library (`krippendorff`) is under the GPL, which
this program is not, and because no library resamples a hundred thousand pairs at once; the tests
hold the results against that library and against published examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
RESAMPLES = 1_000
ENOUGH = 30
"""Pairs with two votes from which on a figure is shown; below, it would mislead."""
_CELLS_AT_ONCE = 2_000_000

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, or the lack of one.

    Attributes:
        value: None where there is too little data, or nothing that varies.
        low: Lower bound; None likewise.
        high: Upper bound; None likewise.
        n: On how many units (pairs, votes) it rests.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def is_known(self) -> bool:
        """Whether there is a figure at all."""
        return self.value is not None

    @classmethod
    def unknown(cls, n: int) -> Estimate:
        """Insufficient data."""
        return cls(None, None, None, n)


def ordinal_alpha(
    counts: Counts,
    *,
    seed: int,
    is_mirrored: bool = False,
    enough: int = ENOUGH,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Krippendorff's alpha for ordered values, with a bootstrap interval over units.

    Args:
        counts: How often each unit got each value, shape (units, values), the values in order.
            Units with fewer than two values say nothing and are left out.
        seed: Of the bootstrap; the same seed gives the same interval.
        is_mirrored: Count each unit in both directions; see the module.
        enough: Units below which there is no figure.
        resamples: Of the units, with replacement.

    Returns:
        1 for full agreement, 0 for what chance gives, below 0 for worse; `n` counts units.

    Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability (ordinal metric);
    percentile interval: Zapf et al. 2016, BMC Medical Research Methodology 16:93.
    """
    usable = counts[counts.sum(axis=1) >= 2]
    n = len(usable)
    if n < max(enough, 1):
        return Estimate.unknown(n)
    kinds, times = _kinds(usable, is_mirrored=is_mirrored)
    coincidences = _coincidences(kinds)
    if is_mirrored:
        coincidences = coincidences + coincidences[:, ::-1, ::-1]
    per_unit = 2 if is_mirrored else 1

    def figure(weights: Floats) -> Floats:
        summed = np.tensordot(weights, coincidences, axes=1)
        return _alpha(summed, small_sample_n=summed.sum(axis=(1, 2)) / per_unit)

    value = float(figure(times[None, :].astype(np.float64))[0])
    if np.isnan(value):
        return Estimate.unknown(n)
    if not _off_diagonal(coincidences).any():
        whole = np.tensordot(times.astype(np.float64), coincidences, axes=1)
        return Estimate(value, _low_of_full_agreement(whole, n), value, n)
    return _resampled(value, times, figure, n=n, seed=seed, resamples=resamples)


def _kinds(counts: Counts, *, is_mirrored: bool) -> tuple[Counts, Counts]:
    """The different rows of counts and how often each occurs.

    Units with the same counts are alike: a resample only has to say how many there are of each.
    A mirrored unit is like its mirror image too.
    """
    base, places = int(counts.max()) + 1, counts.shape[1]
    if base**places >= 2**62:  # Dozens of votes on one unit; numbers for whole rows run out.
        found, times = np.unique(counts, axis=0, return_counts=True)
        return found, times.astype(np.int64)
    powers = base ** np.arange(places, dtype=np.int64)
    codes = counts @ powers
    if is_mirrored:
        codes = np.minimum(codes, counts @ powers[::-1])
    kinds, times = np.unique(codes, return_counts=True)
    return kinds[:, None] // powers % base, times.astype(np.int64)


def _coincidences(counts: Counts) -> Floats:
    """Coincidence matrix of each unit, shape (units, values, values)."""
    exact = counts.astype(np.float64)
    pairs = exact[:, :, None] * exact[:, None, :]
    pairs -= exact[:, :, None] * np.eye(counts.shape[1])
    found: Floats = pairs / (exact.sum(axis=1) - 1)[:, None, None]
    return found


def _alpha(coincidences: Floats, *, small_sample_n: Floats) -> Floats:
    """Alpha of each of several coincidence matrices, shape (resamples, values, values).

    The ordinal distance of two values is that of their mid-ranks: so many values lie between.
    """
    totals = coincidences.sum(axis=2)
    ranks = np.cumsum(totals, axis=1) - totals / 2
    distances = (ranks[:, :, None] - ranks[:, None, :]) ** 2
    observed = (coincidences * distances).sum(axis=(1, 2))
    expected = (totals[:, :, None] * totals[:, None, :] * distances).sum(axis=(1, 2))
    n = totals.sum(axis=1)
    # Krippendorff's n - 1 is of the values that were given, not of their mirror images.
    correction = n * (small_sample_n - 1) / small_sample_n
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = 1 - correction * observed / expected
    return found


def _off_diagonal(matrices: Floats) -> Floats:
    found: Floats = matrices * (1 - np.eye(matrices.shape[-1]))
    return found


def _low_of_full_agreement(whole: Floats, n: int) -> float:
    """Lower bound where no pair disagrees, which a bootstrap cannot see beyond.

    As many pairs as chance may have hidden (Clopper and Pearson's bound for none in n) are
    supposed to disagree as far as two values drawn by chance do.
    """
    share = whole.sum(axis=1) / whole.sum()
    hidden = float(stats.beta.ppf(0.5 + LEVEL / 2, 1, n))
    return 1 - hidden / float(1 - (share**2).sum())


def weighted_kappa(
    table: Counts,
    *,
    seed: int,
    is_mirrored: bool = False,
    enough: int = ENOUGH,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Cohen's kappa of two raters with quadratic weights, with a bootstrap interval.

    Args:
        table: How often the first rater gave the row's value and the second the column's, shape
            (values, values), the values in order and evenly spaced.
        seed: Of the bootstrap.
        is_mirrored: Count each unit in both directions; see the module.
        enough: Units below which there is no figure.
        resamples: Of the units, with replacement.

    Source: Cohen 1968, Psychological Bulletin 70:213; Fleiss and Cohen 1973, Educational and
    Psychological Measurement 33:613.
    """
    n = int(table.sum())
    if n < max(enough, 1):
        return Estimate.unknown(n)
    cells, times = np.argwhere(table > 0), table[table > 0]
    x, y = (cells - (len(table) - 1) / 2).T
    # All that kappa needs of a unit; in a mirrored table both means are 0.
    moments = np.stack([(x - y) ** 2, x * x + y * y, x * (not is_mirrored), y * (not is_mirrored)])
    kinds, place = np.unique(moments, axis=1, return_inverse=True)
    times = np.bincount(place.ravel(), times).astype(np.int64)

    def figure(drawn: Floats) -> Floats:
        apart, spread, first, second = (drawn @ kinds.T).T
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = 1 - n * apart / (n * spread - 2 * first * second)
        return found

    value = float(figure(times[None, :].astype(np.float64))[0])
    if np.isnan(value):
        return Estimate.unknown(n)
    if not kinds[0].any():
        whole = (table + table[::-1, ::-1] if is_mirrored else table).astype(np.float64)
        return Estimate(value, _low_of_full_agreement(whole, n), value, n)
    return _resampled(value, times, figure, n=n, seed=seed, resamples=resamples)


def _resampled(
    value: float,
    times: Counts,
    figure: Callable[[Floats], Floats],
    *,
    n: int,
    seed: int,
    resamples: int,
) -> Estimate:
    """The percentile interval of a figure over resampled units.

    Args:
        times: How often each kind of unit occurs, shape (kinds,).
        figure: From weights of the kinds, shape (resamples, kinds), to figures.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // len(times))
    drawn = [
        figure(rng.multinomial(n, times / n, size=min(at_once, resamples - start)).astype(float))
        for start in range(0, resamples, at_once)
    ]
    figures = np.concatenate(drawn)
    # A resample in which nothing varies has no figure.
    figures = figures[~np.isnan(figures)]
    if not len(figures):
        return Estimate(value, None, None, n)
    low, high = np.quantile(figures, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Estimate(value, float(low), float(high), n)


def departs(found: Estimate, usual: float, *, among: int = 1) -> bool:
    """Whether a share differs from what is usual by more than chance explains.

    Args:
        found: As `share` gives it.
        usual: The share that chance gives.
        among: How many shares are looked at together: one in twenty would stand out by chance
            alone, so each has to stand out that much more (Bonferroni).
    """
    if found.value is None:
        return False
    hits = round(found.value * found.n)
    p_value = float(stats.binomtest(hits, found.n, usual).pvalue)
    return p_value < (1 - LEVEL) / max(1, among)


def share(hits: int, n: int) -> Estimate:
    """A share of votes with its exact binomial interval; unknown only where there are none.

    Source: Clopper and Pearson 1934, Biometrika 26:404.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"expected 0 <= hits <= n, found {hits} of {n}")
    if n == 0:
        return Estimate.unknown(0)
    tail = 0.5 - LEVEL / 2
    low = float(stats.beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Estimate(hits / n, low, high, n)
