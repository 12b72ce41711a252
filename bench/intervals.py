"""How often the statistics of evaluations are right: `python bench/intervals.py [--experiments N]`.

Each row simulates experiments whose truth is known and counts how often the 95 % interval holds it,
how often an adapter that is no better is called better, and how often one that is better is found.
No model runs: the numbers are drawn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.evaluation.findings import Verdict
from services.evaluation.statistics import (
    mcnemar_exact,
    mean_estimate,
    paired_difference_interval,
)
from services.evaluation.summary import decide
from services.evaluation.winrate import length_controlled

SEED = 20_261_121


@dataclass(frozen=True)
class Row:
    """One kind of experiment.

    Attributes:
        covered: Share whose interval holds the truth.
        better: Share that is called better; None where no verdict is given.
    """

    name: str
    n: int
    truth: float
    covered: float
    better: float | None


def pairs(rng: np.random.Generator, n: int, gained: float, lost: float) -> tuple[int, int]:
    """How many of n prompts the adapter gains and loses."""
    found = rng.multinomial(n, [gained, lost, 1 - gained - lost])
    return int(found[0]), int(found[1])


def accuracy(experiments: int, n: int, gained: float, lost: float, *, name: str) -> Row:
    """Differences of accuracy: Tango's interval, exact McNemar, the verdict."""
    rng = np.random.default_rng(SEED)
    truth, covered, better = gained - lost, 0, 0
    for _ in range(experiments):
        won, gone = pairs(rng, n, gained, lost)
        low, high = paired_difference_interval(won, gone, n)
        covered += low <= truth <= high
        better += decide(n, low, high, mcnemar_exact(won, gone)) is Verdict.BETTER
    return Row(name, n, truth, covered / experiments, better / experiments)


def mean(
    experiments: int,
    n: int,
    draw: Callable[[np.random.Generator, int], np.ndarray],
    truth: float,
    *,
    name: str,
) -> Row:
    """Means: Student's t below 100 prompts, a BCa bootstrap from there on."""
    rng = np.random.default_rng(SEED)
    covered = 0
    for number in range(experiments):
        found = mean_estimate(draw(rng, n).tolist(), seed=number)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    return Row(name, n, truth, covered / experiments, None)


def controlled(experiments: int, n: int, *, name: str) -> Row:
    """Win rates at equal lengths of a judge that likes length: the truth is what it leaves."""
    rng = np.random.default_rng(SEED)
    intercept, slope, shift = 0.4, 1.5, 60.0
    truth = float(1 / (1 + np.exp(-intercept)))
    covered = 0
    for number in range(experiments):
        lengths = rng.normal(shift, 100.0, n)
        x = np.tanh(lengths / lengths.std())
        wins = (rng.random(n) < 1 / (1 + np.exp(-intercept - slope * x))).astype(float)
        found = length_controlled(wins.tolist(), lengths.tolist(), seed=number, resamples=300)
        covered += found.low <= truth <= found.high
    return Row(name, n, truth, covered / experiments, None)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Margins with a long tail, mean 0.5."""
    return rng.gamma(2.0, 0.5, n) - 0.5


def measured(experiments: int) -> list[Row]:
    """All rows."""
    slow = max(experiments // 4, 100)
    return [
        accuracy(experiments, 200, 0.20, 0.05, name="accuracy, better by 15 points"),
        accuracy(experiments, 200, 0.12, 0.05, name="accuracy, better by 7 points"),
        accuracy(experiments, 200, 0.10, 0.10, name="accuracy, no difference"),
        accuracy(experiments, 50, 0.10, 0.10, name="accuracy, no difference, few"),
        accuracy(experiments, 200, 0.05, 0.15, name="accuracy, worse by 10 points"),
        mean(experiments, 30, lambda rng, n: rng.normal(0.3, 1.0, n), 0.3, name="mean, t"),
        mean(slow, 200, lambda rng, n: rng.normal(0.3, 1.0, n), 0.3, name="mean, bootstrap"),
        mean(slow, 200, skewed, 0.5, name="mean, bootstrap, skewed"),
        controlled(slow, 150, name="win rate at equal lengths"),
    ]  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows as they are printed."""
    lines = [f"{'experiment':34}{'n':>6}{'truth':>9}{'covered':>10}{'better':>9}"]
    for row in rows:
        better = "–" if row.better is None else f"{row.better:.1%}"
        lines.append(f"{row.name:34}{row.n:>6}{row.truth:>9.3f}{row.covered:>10.1%}{better:>9}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; exit status 1 where an interval is off."""
    parser = argparse.ArgumentParser(prog="python bench/intervals.py", description=__doc__)
    parser.add_argument("--experiments", type=int, default=2_000)
    rows = measured(parser.parse_args(arguments).experiments)
    print(table(rows))
    return int(not all(0.93 <= row.covered <= 0.97 for row in rows if row.n >= 100))


if __name__ == "__main__":
    sys.exit(main())
