"""How many of the labels are probably wrong, told from how often people disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labeling.agreement import Agreement

WORST = 0.49
"""At half, labels say nothing, and no loss can learn from them."""


@dataclass(frozen=True)
class Noise:
    """What a robust loss is told.

    Attributes:
        share: Of labels that are wrong, 0 to `WORST`.
        pairs: With two votes, on which it rests.
    """

    share: float
    pairs: int


def label_noise(found: Agreement) -> Noise | None:
    """The share of wrong labels that explains how often two people favour the same answer.

    If each errs by itself with the same probability e, two agree in (1 - e)^2 + e^2 of the cases;
    this solves for e. None where too few pairs have two votes.
    """
    same = found.overall.same_side
    if same.value is None:
        return None
    return Noise(error_rate(same.value), same.n)


def error_rate(agreeing: float) -> float:
    """The error e of one rater for which two of them agree in this share of the cases."""
    return min(WORST, (1 - math.sqrt(max(0.0, 2 * agreeing - 1))) / 2)
