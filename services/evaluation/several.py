"""Several comparisons at once, and how many prompts a difference of means needs. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from services.evaluation.statistics import LEVEL, POWER


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values so that all of them together err at most as often as one would.

    Args:
        p_values: One for each comparison, 0 to 1.

    Returns:
        The adjusted ones in the same order; compare them with the level as they are.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"expected p values from 0 to 1, found {p_values}")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def minimum_detectable_mean(spread: float, n: int, *, power: float = POWER) -> float | None:
    """The smallest difference of means that so many pairs show so often.

    Args:
        spread: Standard deviation of the differences, any unit, at least 0.
        n: Pairs.
        power: Chance of finding the difference.

    Returns:
        In the unit of the spread; None below two pairs.

    Source: Miller 2024, arXiv:2411.00640, section 5 (two-sided test at 5 %).
    """
    if n < 2:
        return None
    normal = NormalDist()
    return (normal.inv_cdf(0.5 + LEVEL / 2) + normal.inv_cdf(power)) * spread / math.sqrt(n)
