"""What policies do with candidates whose truth is known: `python -m bench.rollouts`.

Simulates rollouts of the built-in policy under made-up traffic and prints one row for each kind of
candidate: how many were promoted, rolled back or paused, and how long it took in virtual time.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from services.rollouts.policy import default_policy
from services.rollouts.simulation import Row, Truth, table, truths


def rows(truth: Truth, *, runs: int, seed: int) -> Row:
    """The row of one truth."""
    return table(default_policy(), [truth], runs=runs, seed=seed)[0]


def main() -> int:
    """Print the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=43, help="rollouts of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    kinds = truths()
    began = time.perf_counter()
    with ProcessPoolExecutor(asked.processes) as pool:
        found = list(pool.map(partial(rows, runs=asked.runs, seed=asked.seed), kinds))
    print(f"{asked.runs * len(kinds)} rollouts in {time.perf_counter() - began:.0f} s, "
          f"20 requests/s, 2 % errors on the stable arm, built-in policy")  # fmt: skip
    print(f"{'candidate':<24} {'promoted':>9} {'rolled back':>12} {'paused':>7} "
          f"{'hours':>7} {'requests to it':>15}")  # fmt: skip
    for row in found:
        print(f"{row.name:<24} {row.promoted:>7} % {row.rolled_back:>10} % {row.paused:>5} % "
              f"{row.hours:>7} {row.bad_requests:>15}")  # fmt: skip
    return 0 if _reached(found) else 1


def _reached(found: list[Row]) -> bool:
    by = {row.name: row for row in found}
    good = [by["the same"], by["better"]]
    bad = [by["2x errors"], by["30 % slower"], by["breaks after 30 min"]]
    low = [by["the same, low traffic"], by["2x errors, low traffic"]]
    return (
        all(row.promoted >= 90 for row in good)
        and by["the same"].rolled_back <= 5
        and all(row.rolled_back >= 99 for row in bad)
        and all(row.promoted == 0 for row in low)
    )


if __name__ == "__main__":
    sys.exit(main())
