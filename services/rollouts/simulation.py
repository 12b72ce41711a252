"""Rollouts of made-up traffic whose truth is known: what a policy would do, before it does it.

No clock, no database: intervals of virtual time are drawn one after another and given to the same
decision that the driver makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from statistics import median

import numpy as np
import numpy.typing as npt

from services.rollouts.deciding import Move, Progress, Window, decide
from services.rollouts.judging import Arms, Samples
from services.rollouts.models import Arm
from services.rollouts.policy import Policy

Floats = npt.NDArray[np.float64]

_SPREAD = 0.5
"""Standard deviation of the logarithm of latencies and costs: the 95th percentile is 2.3 medians."""


@dataclass(frozen=True)
class Truth:
    """What the candidate really is, and how much is asked of it.

    Attributes:
        per_second: Requests a second of both arms together.
        error_rate: Of the stable arm.
        errors: The candidate's error rate, as a multiple of the stable one's.
        latency: The candidate's latency, as a multiple; likewise the cost.
        refusal_rate: Of both arms, unless `refusals` multiplies the candidate's.
        breaks_at: When the candidate begins to fail every request; never by default.
    """

    name: str
    per_second: float = 20.0
    error_rate: float = 0.02
    errors: float = 1.0
    latency: float = 1.0
    cost: float = 1.0
    refusal_rate: float = 0.02
    refusals: float = 1.0
    breaks_at: timedelta | None = None


@dataclass(frozen=True)
class Ended:
    """How one simulated rollout ended.

    Attributes:
        move: `PROMOTE`, `ROLL_BACK` or `PAUSE`.
        after: Virtual time until then.
        bad_requests: Requests that the candidate answered in that time.
    """

    move: Move
    after: timedelta
    bad_requests: int
    reason: str


@dataclass(frozen=True)
class Row:
    """What became of many rollouts of one truth; shares in whole percent.

    Attributes:
        hours: Median virtual time until the end.
        bad_requests: Median requests that the candidate answered in that time.
    """

    name: str
    runs: int
    promoted: int
    rolled_back: int
    paused: int
    hours: float
    bad_requests: int


def truths(*, per_second: float = 20.0, error_rate: float = 0.02) -> tuple[Truth, ...]:
    """The candidates that every policy should be tried on.

    Args:
        error_rate: Of the stable arm.
    """
    usual = partial(Truth, per_second=per_second, error_rate=error_rate)
    return (
        usual("the same"),
        usual("better", errors=0.5, latency=0.9),
        usual("2x errors", errors=2.0),
        usual("30 % slower", latency=1.3),
        usual("breaks after 30 min", breaks_at=timedelta(minutes=30)),
        replace(usual("the same, low traffic"), per_second=per_second / 1000),
        replace(usual("2x errors, low traffic", errors=2.0), per_second=per_second / 1000),
    )


def table(policy: Policy, found: Sequence[Truth], *, runs: int, seed: int = 0) -> list[Row]:
    """Try a policy on each truth; the same seed gives the same table."""
    return [_row(truth, [simulate(policy, truth, seed=seed + n) for n in range(runs)])
            for truth in found]  # fmt: skip


def _row(truth: Truth, ended: Sequence[Ended]) -> Row:
    def share(move: Move) -> int:
        return round(100 * sum(one.move is move for one in ended) / len(ended))

    return Row(
        name=truth.name,
        runs=len(ended),
        promoted=share(Move.PROMOTE),
        rolled_back=share(Move.ROLL_BACK),
        paused=share(Move.PAUSE),
        hours=round(median(one.after.total_seconds() for one in ended) / 3600, 2),
        bad_requests=round(median(one.bad_requests for one in ended)),
    )


@dataclass
class _Arm:
    """What one arm has answered since the step began, as growing lists of arrays."""

    requests: int = 0
    errors: int = 0
    refusals: int = 0
    latencies: list[Floats] = field(default_factory=list)
    costs: list[Floats] = field(default_factory=list)

    def add(self, other: _Arm) -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.refusals += other.refusals
        self.latencies += other.latencies
        self.costs += other.costs

    def samples(self) -> Samples:
        return Samples(
            requests=self.requests,
            errors=self.errors,
            refusals=self.refusals,
            latencies_ms=np.concatenate(self.latencies) if self.latencies else (),
            costs_micro=np.concatenate(self.costs) if self.costs else (),
        )


def simulate(policy: Policy, truth: Truth, *, seed: int) -> Ended:
    """One rollout from its first step to its end; the same seed gives the same one."""
    random = np.random.default_rng(seed)
    progress, clock, since, touched = Progress(), timedelta(), timedelta(), 0
    whole = _fresh()
    while True:
        clock += policy.interval
        step = policy.steps[progress.step]
        broken = truth.breaks_at is not None and clock > truth.breaks_at
        recent = _interval(random, policy, truth, step.percent, broken=broken)
        touched += recent[Arm.CANARY].requests
        for arm, found in recent.items():
            whole[arm].add(found)
        window = Window(
            elapsed=clock - since,
            smaller=min(found.requests for found in whole.values()),
            whole=partial(_arms, whole),
            recent=partial(_arms, recent),
        )
        decision = decide(policy, progress, window)
        progress = decision.progress
        if decision.move is Move.NEXT:
            progress, since = progress.at_step(progress.step + 1), clock
            whole = _fresh()
        elif decision.move is not Move.HOLD:
            return Ended(decision.move, clock, touched, decision.reason)


def _fresh() -> dict[Arm, _Arm]:
    return {Arm.STABLE: _Arm(), Arm.CANARY: _Arm()}


def _interval(
    random: np.random.Generator, policy: Policy, truth: Truth, percent: int, *, broken: bool
) -> dict[Arm, _Arm]:
    requests = int(random.poisson(truth.per_second * policy.interval.total_seconds()))
    canary = int(random.binomial(requests, percent / 100))
    errors = 1.0 if broken else min(1.0, truth.error_rate * truth.errors)
    return {
        Arm.STABLE: _draw(random, requests - canary, truth.error_rate, truth.refusal_rate),
        Arm.CANARY: _draw(
            random, canary, errors, min(1.0, truth.refusal_rate * truth.refusals),
            latency=truth.latency, cost=truth.cost,
        ),
    }  # fmt: skip


def _draw(
    random: np.random.Generator,
    requests: int,
    error_rate: float,
    refusal_rate: float,
    *,
    latency: float = 1.0,
    cost: float = 1.0,
) -> _Arm:
    errors = int(random.binomial(requests, error_rate))
    answers = requests - errors
    return _Arm(
        requests,
        errors,
        int(random.binomial(answers, refusal_rate)),
        [np.exp(random.normal(np.log(400 * latency), _SPREAD, answers))],
        [np.exp(random.normal(np.log(60 * cost), _SPREAD, answers))],
    )


def _arms(found: dict[Arm, _Arm]) -> Arms:
    return {arm: one.samples() for arm, one in found.items()}
