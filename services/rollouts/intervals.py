"""Intervals that hold at small samples and at small error rates; each is one-sided twice.

Every limit is valid at its own level: the chance that the truth lies below `low` is at most
`level`, and likewise above `high`. A limit that the data cannot give is None, never a guess.

Limits of two arms are put together by the method of variance estimates recovery (MOVER): each
arm's distance from its estimate to its limit, added as squares.
Source: Zou and Donner 2008, doi:10.1002/sim.3095.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# numpy and scipy are loaded where something is computed: every process knows what a verdict is, one
# of them makes any, and the two take a second to load.

Values: TypeAlias = "Sequence[float] | npt.NDArray[np.float64]"

FEWEST_FOR_MEANS = 30
"""Below so many values a mean of skewed costs has no interval worth the name."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its limits.

    Attributes:
        low: None where the data give no lower limit; likewise `high`.
    """

    value: float
    low: float | None
    high: float | None


def share(hits: int, n: int, *, level: float) -> Interval | None:
    """Exact limits of a share.

    Args:
        hits: 0 to `n`.
        level: Chance of missing on each side, above 0, below 0.5.

    Returns:
        Shares, 0 to 1; None without trials.

    Source: Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    from scipy import special

    if n == 0:
        return None
    low = 0.0 if hits == 0 else float(special.betaincinv(hits, n - hits + 1, level))
    high = 1.0 if hits == n else float(special.betaincinv(hits + 1, n - hits, 1 - level))
    return Interval(hits / n, low, high)


def is_larger(stable: tuple[int, int], canary: tuple[int, int], *, level: float) -> bool:
    """Whether the canary's share is shown to be the larger one, at any size of the samples.

    An interval of a difference is an approximation where one arm has few trials and the other no
    hit; this one-sided test is exact.

    Args:
        stable: Hits and trials; likewise the canary's.
        level: Chance of a wrong yes.

    Source: Fisher 1922, doi:10.2307/2340521.
    """
    import numpy as np

    hits, trials, drawn = stable[0] + canary[0], stable[1] + canary[1], canary[1]
    found = np.arange(canary[0], min(hits, drawn) + 1, dtype=np.float64)
    logs = (
        _log_choices(hits, found)
        + _log_choices(trials - hits, drawn - found)
        - _log_choices(trials, drawn)
    )
    return float(np.exp(logs).sum()) <= level


def quantile(values: Values, q: float, *, level: float) -> Interval | None:
    """A quantile with limits that assume nothing about the distribution.

    The limits are two of the values themselves, chosen by the binomial distribution of how many
    values lie below the true quantile. Too few values leave a side without a limit.

    Args:
        values: In any order.
        q: Above 0, below 1.
        level: Chance of missing on each side.

    Source: Hahn and Meeker 1991, Statistical Intervals, section 5.2.
    """
    import numpy as np

    n = len(values)
    if n == 0:
        return None
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    below = _binomial(level, n, q)
    above = _binomial(1 - level, n, q) + 1
    return Interval(
        float(ranked[min(n, max(1, ceil(n * q))) - 1]),
        float(ranked[below - 1]) if below >= 1 else None,
        float(ranked[above - 1]) if above <= n else None,
    )


def mean(values: Values, *, level: float) -> Interval | None:
    """A mean of positive, skewed values, with limits from Student's t on their logarithm's scale.

    The standard error of the logarithm of a mean is that of the mean divided by the mean.

    Returns:
        None without values; without limits below `FEWEST_FOR_MEANS` of them.
    """
    import numpy as np
    from scipy import special

    n = len(values)
    if n == 0:
        return None
    found = np.asarray(values, dtype=np.float64)
    middle = float(found.mean())
    if n < FEWEST_FOR_MEANS:
        return Interval(middle, None, None)
    if middle <= 0:
        return Interval(0.0, 0.0, 0.0)  # Nothing is charged at all.
    factor = exp(
        float(special.stdtrit(n - 1, 1 - level)) * float(found.std(ddof=1)) / sqrt(n) / middle
    )
    return Interval(middle, middle / factor, middle * factor)


def difference(stable: Interval, canary: Interval) -> Interval:
    """The canary's value minus the stable one's."""
    value = canary.value - stable.value
    low = high = None
    if canary.low is not None and stable.high is not None:
        low = value - sqrt((canary.value - canary.low) ** 2 + (stable.high - stable.value) ** 2)
    if canary.high is not None and stable.low is not None:
        high = value + sqrt((canary.high - canary.value) ** 2 + (stable.value - stable.low) ** 2)
    return Interval(value, low, high)


def ratio(stable: Interval, canary: Interval, *, least: float) -> Interval:
    """The canary's value divided by the stable one's.

    Args:
        least: What smaller values are taken for, so that nothing is divided by zero; the unit of
            measurement, such as 1 ms.
    """
    found = difference(_logs(stable, least), _logs(canary, least))
    return Interval(
        exp(found.value),
        None if found.low is None else exp(found.low),
        None if found.high is None else exp(found.high),
    )


def _binomial(chance: float, n: int, q: float) -> int:
    """The smallest number of hits that is reached or undercut with at least this chance."""
    from scipy import special

    found = max(0, ceil(float(special.bdtrik(chance, n, q))))
    below = max(0, found - 1)
    return below if special.bdtr(below, n, q) >= chance else found


def _log_choices(n: Any, k: Any) -> Any:
    """The logarithm of the number of ways to take `k` of `n`."""
    from scipy import special

    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def _logs(found: Interval, least: float) -> Interval:
    low = None if found.low is None else log(max(found.low, least))
    high = None if found.high is None else log(max(found.high, least))
    return Interval(log(max(found.value, least)), low, high)
