"""The verdict on a step: pass, fail or inconclusive, by intervals on concurrent arms.

A metric **fails** when the candidate is shown to be worse (shares by an exact test, ratios by a
lower limit above one) and its estimate is past the policy's limit. It **passes** when the upper limit is
within the policy's limit. All else is **inconclusive**, and so are no data. A step passes when
every required metric does and fails when any metric fails.

The arms are looked at again and again, so each look spends a part of the policy's `false_alarms`:
half goes to the looks at the whole step, half to the looks at the last interval, which notice what
breaks late. Each half is divided among metrics and steps; look number k takes the part
1/(k(k+1)) of what is left, which adds up to one however long a rollout lasts. By the union bound
an equal candidate is rolled back with at most that chance, whatever depends on what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from services.rollouts import intervals
from services.rollouts.intervals import Interval, Values
from services.rollouts.models import Arm
from services.rollouts.policy import Bound, Metric, Policy

Family = Literal["step", "interval"]

GROWTH = 1.25
"""A step is looked at again once its smaller arm has grown by so much: few looks, each worth it."""


class Outcome(StrEnum):
    """What a verdict says; `INCONCLUSIVE` never promotes."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Samples:
    """What one arm answered in one window.

    Requests that a policy stopped before the engine, that the engine found wrong, or whose
    client left are in none of these: no adapter is to blame for them.

    Attributes:
        requests: Answered or failed.
        errors: Failed.
        refusals: Answers that ended as `content_filter`.
        flagged: Answers in which the guardrails found something.
        latencies_ms: Of whole answers; likewise the other lists.
        thumbs: Answers that somebody judged.
        thumbs_down: Those of them that were judged bad.
    """

    requests: int = 0
    errors: int = 0
    refusals: int = 0
    flagged: int = 0
    thumbs: int = 0
    thumbs_down: int = 0
    latencies_ms: Values = field(default=(), repr=False)
    ttfts_ms: Values = field(default=(), repr=False)
    costs_micro: Values = field(default=(), repr=False)

    @property
    def answers(self) -> int:
        """Requests that got an answer."""
        return self.requests - self.errors


Arms = Mapping[Arm, Samples]


@dataclass(frozen=True)
class Comparison:
    """One metric of both arms.

    Attributes:
        stable_n: Observations of the stable arm; likewise the candidate's.
        stable: Value of the stable arm; None without observations.
        change: Difference of shares or ratio, candidate against stable, with its limits.
        limit: The policy's.
    """

    metric: Metric
    outcome: Outcome
    stable_n: int
    canary_n: int
    stable: float | None
    canary: float | None
    change: Interval | None
    limit: float
    required: bool

    def facts(self) -> dict[str, Any]:
        """As JSON without floats, for signed statements."""
        found = self.change
        return {
            "metric": self.metric.value,
            "outcome": self.outcome.value,
            "stableN": str(self.stable_n),
            "canaryN": str(self.canary_n),
            "stable": _decimal(self.stable),
            "canary": _decimal(self.canary),
            "change": _decimal(None if found is None else found.value),
            "low": _decimal(None if found is None else found.low),
            "high": _decimal(None if found is None else found.high),
            "limit": _decimal(self.limit),
            "required": self.required,
        }


@dataclass(frozen=True)
class Verdict:
    """What one look found.

    Attributes:
        family: Whether the whole step or only the last interval was looked at.
        look: Number of the look in its family, from 1.
        level: Chance of missing on each side of every interval.
        short_of: Why a verdict without failure is no pass, in words; empty for a pass.
    """

    outcome: Outcome
    family: Family
    look: int
    level: float
    stable_n: int
    canary_n: int
    comparisons: tuple[Comparison, ...]
    short_of: tuple[str, ...] = ()

    @property
    def failed(self) -> list[Comparison]:
        """The metrics that failed."""
        return [one for one in self.comparisons if one.outcome is Outcome.FAIL]

    def facts(self) -> dict[str, Any]:
        """As JSON without floats, for signed statements."""
        return {
            "outcome": self.outcome.value,
            "family": self.family,
            "look": str(self.look),
            "level": _decimal(self.level),
            "stableN": str(self.stable_n),
            "canaryN": str(self.canary_n),
            "comparisons": [one.facts() for one in self.comparisons],
            "shortOf": list(self.short_of),
        }

    def sentence(self) -> str:
        """What it says, in one sentence."""
        if self.outcome is Outcome.FAIL:
            where = "the last interval" if self.family == "interval" else "this step"
            return f"{where}: " + "; ".join(_told(one) for one in self.failed)
        if self.outcome is Outcome.PASS:
            return f"every metric passed on {self.stable_n} and {self.canary_n} requests"
        return "; ".join(self.short_of) or "not decided yet"


def judge(policy: Policy, step: int, arms: Arms, *, look: int, family: Family = "step") -> Verdict:
    """Compare the arms.

    Args:
        step: Index of the policy's step, from 0.
        arms: Both arms over the same time.
        look: Number of this look, from 1: at the step, or at intervals of the whole rollout.
    """
    stable, canary = arms.get(Arm.STABLE, Samples()), arms.get(Arm.CANARY, Samples())
    level = level_of(policy, look=look, family=family)
    least = policy.steps[step].min_requests
    found = tuple(_compare(bound, stable, canary, level, least) for bound in policy.bounds)
    short = tuple(_short_of(found, stable, canary, least))
    outcome = Outcome.INCONCLUSIVE if short else Outcome.PASS
    if any(one.outcome is Outcome.FAIL for one in found):
        outcome = Outcome.FAIL
    return Verdict(outcome, family, look, level, stable.requests, canary.requests, found, short)


@dataclass(frozen=True)
class Figure:
    """One metric of both arms as people look at it, each with its own 95 % interval."""

    metric: Metric
    stable: Interval | None
    stable_n: int
    canary: Interval | None
    canary_n: int
    limit: float


def figures(bounds: Sequence[Bound], arms: Arms) -> tuple[Figure, ...]:
    """The metrics of a policy, for a page; nothing is decided by these intervals."""
    found = []
    for bound in bounds:
        measure = _MEASURES[bound.metric]
        stable, stable_n = measure(arms.get(Arm.STABLE, Samples()), 0.025)
        canary, canary_n = measure(arms.get(Arm.CANARY, Samples()), 0.025)
        found.append(Figure(bound.metric, stable, stable_n, canary, canary_n, bound.limit))
    return tuple(found)


def level_of(policy: Policy, *, look: int, family: Family) -> float:
    """The chance of a false alarm that one metric may take at one look."""
    parts = len(policy.bounds) * (len(policy.steps) if family == "step" else 1)
    return policy.false_alarms / 2 / parts / (look * (look + 1))


def is_due(seen: int, found: int) -> bool:
    """Whether a step has grown enough since its last look.

    Args:
        seen: Requests of the smaller arm at the last look; 0 before the first.
        found: The same now.
    """
    return found >= 1 and found >= seen * GROWTH


def _short_of(
    found: Sequence[Comparison], stable: Samples, canary: Samples, least: int
) -> list[str]:
    fewest = min(stable.requests, canary.requests)
    short = [] if fewest >= least else [f"expected {least} requests of each arm, found {fewest}"]
    for one in found:
        is_needed = one.required or min(one.stable_n, one.canary_n) >= least
        if is_needed and one.outcome is Outcome.INCONCLUSIVE:
            short.append(_told(one))
    return short


def _compare(
    bound: Bound, stable: Samples, canary: Samples, level: float, least: int
) -> Comparison:
    measure = _MEASURES[bound.metric]
    (before, before_n), (after, after_n) = measure(stable, level), measure(canary, level)
    change, is_worse = None, False
    if before is not None and after is not None and bound.metric.is_rate:
        change = intervals.difference(before, after)
        hits = (round(before.value * before_n), before_n), (round(after.value * after_n), after_n)
        is_worse = intervals.is_larger(*hits, level=level)
    elif before is not None and after is not None:
        change = intervals.ratio(before, after, least=1.0)
        is_worse = change.low is not None and change.low > 1.0
    return Comparison(
        metric=bound.metric,
        outcome=_outcome(bound, change, is_worse=is_worse),
        stable_n=before_n,
        canary_n=after_n,
        stable=None if before is None else before.value,
        canary=None if after is None else after.value,
        change=change,
        limit=bound.limit,
        required=bound.required,
    )


def _outcome(bound: Bound, change: Interval | None, *, is_worse: bool) -> Outcome:
    if change is None:
        return Outcome.INCONCLUSIVE
    if is_worse and not bound.allows(change.value):
        return Outcome.FAIL
    if change.high is not None and bound.allows(change.high):
        return Outcome.PASS
    return Outcome.INCONCLUSIVE


_Measured = tuple[Interval | None, int]


def _rate(hits: Callable[[Samples], int], of: Callable[[Samples], int]) -> Any:
    def measure(arm: Samples, level: float) -> _Measured:
        return intervals.share(hits(arm), of(arm), level=level), of(arm)

    return measure


def _quantile(values: Callable[[Samples], Values], q: float) -> Any:
    def measure(arm: Samples, level: float) -> _Measured:
        return intervals.quantile(values(arm), q, level=level), len(values(arm))

    return measure


def _cost(arm: Samples, level: float) -> _Measured:
    return intervals.mean(arm.costs_micro, level=level), len(arm.costs_micro)


_MEASURES: Mapping[Metric, Callable[[Samples, float], _Measured]] = {
    Metric.ERROR_RATE: _rate(lambda arm: arm.errors, lambda arm: arm.requests),
    Metric.LATENCY_P95: _quantile(lambda arm: arm.latencies_ms, 0.95),
    Metric.LATENCY_P50: _quantile(lambda arm: arm.latencies_ms, 0.5),
    Metric.TTFT_P95: _quantile(lambda arm: arm.ttfts_ms, 0.95),
    Metric.REFUSAL_RATE: _rate(lambda arm: arm.refusals, lambda arm: arm.answers),
    Metric.GUARDRAIL_RATE: _rate(lambda arm: arm.flagged, lambda arm: arm.answers),
    Metric.COST: _cost,
    Metric.THUMBS_DOWN: _rate(lambda arm: arm.thumbs_down, lambda arm: arm.thumbs),
}


def _told(one: Comparison) -> str:
    """A comparison in words, with its numbers."""
    name = one.metric.value
    if one.change is None:
        return f"{name}: no data of both arms"
    shown = _shown_share if one.metric.is_rate else _shown_ratio
    low = "?" if one.change.low is None else shown(one.change.low)
    high = "?" if one.change.high is None else shown(one.change.high)
    return (
        f"{name}: {shown(one.change.value)} ({low} to {high}), allowed {shown(one.limit)}, "
        f"n {one.stable_n} and {one.canary_n}"
    )


def _shown_share(value: float) -> str:
    return f"{100 * value:+.2f} points"


def _shown_ratio(value: float) -> str:
    return f"×{value:.2f}"


def _decimal(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"
