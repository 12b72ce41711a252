"""How often a judge prefers an adapter's answers, and how often at equal lengths. Loads numpy.

The controlled rate asks: were both answers equally long, how often would the adapter win? It is
an own fit with an intercept and one term of length. AlpacaEval's function must not be used on
own prompts: it looks the difficulty of each prompt up in a table of its own 805.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
_PRIOR_SD = np.array([10.0, 2.5])
"""Of intercept and slope: keeps the fit finite where one side wins everything."""
_STEPS = 30
_LARGEST_STEP = 2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Controlled:
    """The win rate at equal lengths.

    Attributes:
        rate: 0 to 1, with its 95 % interval `low` to `high`.
        length_effect: Slope on tanh(length difference / its standard deviation).
    """

    rate: float
    low: float
    high: float
    length_effect: float


def length_controlled(
    wins: Sequence[float], longer_by: Sequence[float], *, seed: int, resamples: int = RESAMPLES
) -> Controlled:
    """Fit P(win) = sigmoid(b0 + b1 tanh(d / sd)) and read it at d = 0.

    Args:
        wins: 1 for a win of the adapter, 0.5 for a tie, 0 for a loss, one a prompt.
        longer_by: Length of the adapter's answer minus the base's, characters, as many.
        seed: Of the bootstrap over prompts; equal seeds give equal intervals.
        resamples: Refits of the bootstrap.

    Source: Dubois et al. 2024, arXiv:2404.04475, section 3, without the terms of other prompts
    and models; interval: percentile bootstrap of the whole fit.
    """
    y = np.asarray(wins, dtype=np.float64)
    d = np.asarray(longer_by, dtype=np.float64)
    if y.size == 0 or y.size != d.size or not ((y >= 0) & (y <= 1)).all():
        raise ValueError(f"expected as many wins of 0 to 1 as lengths, found {y.size}, {d.size}")
    whole = np.ones((1, y.size))
    b0, b1 = _fit(y, d, whole)[0]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(y.size, [1 / y.size] * y.size, size=resamples).astype(np.float64)
    low, high = np.quantile(_sigmoid(_fit(y, d, weights)[:, 0]), [0.025, 0.975])
    return Controlled(float(_sigmoid(b0)), float(low), float(high), float(b1))


def _fit(y: Floats, d: Floats, weights: Floats) -> Floats:
    """Intercept and slope for each row of weights, shape (rows, 2), by Newton's method."""
    mean = weights @ d / weights.sum(1)
    spread = np.sqrt(np.maximum(weights @ (d * d) / weights.sum(1) - mean**2, 0))
    x = np.tanh(d / np.where(spread > 0, spread, 1.0)[:, None])
    found = np.zeros((len(weights), 2))
    precision = 1 / _PRIOR_SD**2
    for _ in range(_STEPS):
        p = _sigmoid(found[:, :1] + found[:, 1:] * x)
        off, curve = weights * (y - p), weights * p * (1 - p)
        slope = np.stack([off.sum(1), (off * x).sum(1)], axis=1) - found * precision
        h00 = curve.sum(1) + precision[0]
        h01 = (curve * x).sum(1)
        h11 = (curve * x * x).sum(1) + precision[1]
        det = h00 * h11 - h01**2
        step = np.stack(
            [(h11 * slope[:, 0] - h01 * slope[:, 1]) / det,
             (h00 * slope[:, 1] - h01 * slope[:, 0]) / det], axis=1,
        )  # fmt: skip
        found += np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(step).max() < 1e-9:
            break
    return found


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))
