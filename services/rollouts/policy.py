"""The policy of a rollout: how it goes forward, and what makes it go back.

A policy is YAML that people write or a form makes; it is kept with the rollout exactly as it was
given, and its digest stands in every signed step. Refuses what it does not know, by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal

import yaml

from services.errors import InvalidInput

MAX_SOURCE = 20_000
"""Characters of a policy."""

MAX_STEPS = 20

_DURATION = re.compile(r"([1-9][0-9]{0,6}) ?(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

DEFAULT_SOURCE = """\
# How the candidate goes forward. Each step lasts at least `hold`, and until each arm has
# answered `min_requests` and every metric below has passed.
steps:
  - {percent: 5, hold: 10m, min_requests: 200}
  - {percent: 25, hold: 10m, min_requests: 500}
  - {percent: 50, hold: 10m, min_requests: 500}

interval: 30s             # how often the arms are compared
max_hold: 24h             # a step that is undecided for so long ...
when_undecided: rollback  # ... goes back; or: pause
preload: 10m              # how long the candidate may take to load
quality_gate: true        # the last step also asks for a passed evaluation
false_alarms: 0.05        # at most so many rollouts of an equal candidate go back by chance

# How much worse than the stable arm, at the same time, the candidate may be.
metrics:
  error_rate: {max_increase: 0.01}
  latency_p95: {max_ratio: 1.2}
  latency_p50: {max_ratio: 1.3}
  ttft_p95: {max_ratio: 1.2, required: false}
  refusal_rate: {max_increase: 0.02}
  guardrail_rate: {max_increase: 0.02}
  cost_per_request: {max_ratio: 1.25}
  thumbs_down_rate: {max_increase: 0.1, required: false}
"""


class Metric(StrEnum):
    """What is compared between the arms."""

    ERROR_RATE = "error_rate"
    LATENCY_P95 = "latency_p95"
    LATENCY_P50 = "latency_p50"
    TTFT_P95 = "ttft_p95"
    REFUSAL_RATE = "refusal_rate"
    GUARDRAIL_RATE = "guardrail_rate"
    COST = "cost_per_request"
    THUMBS_DOWN = "thumbs_down_rate"

    @property
    def is_rate(self) -> bool:
        """Whether it is a share, compared by difference; others are compared by ratio."""
        return self in _RATES


_RATES = {
    Metric.ERROR_RATE,
    Metric.REFUSAL_RATE,
    Metric.GUARDRAIL_RATE,
    Metric.THUMBS_DOWN,
}


@dataclass(frozen=True)
class Bound:
    """How much worse one metric may be.

    Attributes:
        limit: Largest allowed difference of shares (0.01 is one percentage point), or largest
            allowed ratio (1.2 is a fifth more).
        required: Whether a step waits until this metric has passed. One that is not required is
            judged once both arms have the step's `min_requests` of it.
    """

    metric: Metric
    limit: float
    required: bool = True

    def allows(self, value: float) -> bool:
        """Whether a difference or ratio is within the limit."""
        return value <= self.limit


@dataclass(frozen=True)
class StepPolicy:
    """One degree.

    Attributes:
        percent: Share of the candidate, 1 to 99: the stable arm must go on beside it.
        min_requests: Answers that each arm must have given.
    """

    percent: int
    hold: timedelta
    min_requests: int


@dataclass(frozen=True)
class Policy:
    """All of it.

    Attributes:
        false_alarms: Chance that an equal candidate is rolled back, over the whole rollout.
        source: The YAML as it was given.
    """

    steps: tuple[StepPolicy, ...]
    interval: timedelta
    max_hold: timedelta
    when_undecided: Literal["rollback", "pause"]
    preload: timedelta
    quality_gate: bool
    false_alarms: float
    bounds: tuple[Bound, ...]
    source: str = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the source, hex."""
        return sha256(self.source.encode()).hexdigest()

    def index_of(self, percent: int) -> int:
        """Which degree a share belongs to: the last one that is not above it, else the first."""
        reached = [number for number, one in enumerate(self.steps) if one.percent <= percent]
        return reached[-1] if reached else 0


def default_policy() -> Policy:
    """The policy that the form begins with."""
    return read_policy(DEFAULT_SOURCE)


def read_policy(source: str) -> Policy:
    """Read a policy.

    Raises:
        InvalidInput: It is no YAML, lacks something, has something unknown, or a value cannot
            be; the message names the place.
    """
    if len(source) > MAX_SOURCE:
        raise InvalidInput(
            f"policy: expected at most {MAX_SOURCE} characters, found {len(source)}"
        ).because("too_long", field="policy", most=MAX_SOURCE, found=len(source))
    try:
        found = yaml.safe_load(source)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise InvalidInput(f"policy: expected YAML, found an error{where}").because(
            "no_yaml", field="policy", line=mark.line + 1 if mark else 1
        ) from error
    top = _mapping(found, "policy")
    known = {
        "steps", "interval", "max_hold", "when_undecided", "preload", "quality_gate",
        "false_alarms", "metrics",
    }  # fmt: skip
    _refuse_unknown(top, known, "policy")
    steps = _steps(top.get("steps"))
    policy = Policy(
        steps=steps,
        interval=_duration(top.get("interval", "30s"), "interval"),
        max_hold=_duration(top.get("max_hold", "24h"), "max_hold"),
        when_undecided=_undecided(top.get("when_undecided", "rollback")),
        preload=_duration(top.get("preload", "10m"), "preload"),
        quality_gate=_flag(top.get("quality_gate", True), "quality_gate"),
        false_alarms=_number(top.get("false_alarms", 0.05), "false_alarms", 0.0001, 0.5),
        bounds=_bounds(top.get("metrics")),
        source=source,
    )
    for number, step in enumerate(steps, 1):
        if step.hold > policy.max_hold:
            raise InvalidInput(
                f"policy: steps[{number}].hold: expected at most max_hold, found a longer one"
            ).because("hold_too_long", number=number)
    return policy


def _steps(found: Any) -> tuple[StepPolicy, ...]:
    if not isinstance(found, list) or not 1 <= len(found) <= MAX_STEPS:
        raise InvalidInput(
            f"policy: steps: expected a list of 1 to {MAX_STEPS} steps, found {_kind(found)}"
        ).because("steps_needed", most=MAX_STEPS)
    steps = tuple(_step(one, f"steps[{number}]") for number, one in enumerate(found, 1))
    shares = [step.percent for step in steps]
    if shares != sorted(set(shares)):
        raise InvalidInput(f"policy: steps: expected shares that rise, found {shares}").because(
            "shares_rise"
        )
    return steps


def _step(found: Any, where: str) -> StepPolicy:
    fields = _mapping(found, where)
    _refuse_unknown(fields, {"percent", "hold", "min_requests"}, where)
    if missing := sorted({"percent", "hold", "min_requests"} - set(fields)):
        raise InvalidInput(f"policy: {where}: expected {missing[0]}, found none").because(
            "missing_at", place=where, name=missing[0]
        )
    return StepPolicy(
        percent=int(_number(fields["percent"], f"{where}.percent", 1, 99, whole=True)),
        hold=_duration(fields["hold"], f"{where}.hold"),
        min_requests=int(
            _number(fields["min_requests"], f"{where}.min_requests", 1, 10**7, whole=True)
        ),
    )


def _bounds(found: Any) -> tuple[Bound, ...]:
    metrics = _mapping(found, "metrics")
    _refuse_unknown(metrics, {one.value for one in Metric}, "metrics")
    bounds = tuple(_bound(one, metrics[one.value]) for one in Metric if one.value in metrics)
    if not any(bound.required for bound in bounds):
        raise InvalidInput(
            "policy: metrics: expected at least one that is required, found none"
        ).because("metric_needed")
    return bounds


def _bound(metric: Metric, found: Any) -> Bound:
    where = f"metrics.{metric.value}"
    fields = _mapping(found, where)
    name = "max_increase" if metric.is_rate else "max_ratio"
    _refuse_unknown(fields, {name, "required"}, where)
    if name not in fields:
        raise InvalidInput(f"policy: {where}: expected {name}, found none").because(
            "missing_at", place=where, name=name
        )
    low, high = (0.0001, 1.0) if metric.is_rate else (1.001, 100.0)
    limit = _number(fields[name], f"{where}.{name}", low, high)
    return Bound(metric, limit, _flag(fields.get("required", True), f"{where}.required"))


def _mapping(found: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise InvalidInput(
            f"policy: {where}: expected names and values, found {_kind(found)}"
        ).because("names_and_values", place=where)
    return found


def _refuse_unknown(found: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := [name for name in found if name not in known]:
        raise InvalidInput(
            f"policy: {where}: expected {', '.join(sorted(known))}, found {str(unknown[0])[:40]!r}"
        ).because("unknown_name", place=where, allowed=sorted(known), found=str(unknown[0])[:40])


def _number(found: Any, where: str, low: float, high: float, *, whole: bool = False) -> float:
    kinds = (int,) if whole else (int, float)
    if isinstance(found, bool) or not isinstance(found, kinds) or not low <= found <= high:
        kind = "a whole number" if whole else "a number"
        raise InvalidInput(
            f"policy: {where}: expected {kind} from {low:g} to {high:g}, found {str(found)[:40]!r}"
        ).because("range_at", place=where, low=low, high=high, found=str(found)[:40])
    return float(found)


def _duration(found: Any, where: str) -> timedelta:
    matched = _DURATION.fullmatch(found.strip()) if isinstance(found, str) else None
    if matched is None:
        raise InvalidInput(
            f"policy: {where}: expected a duration such as 30s, 10m or 24h, "
            f"found {str(found)[:40]!r}"
        ).because("duration_at", place=where, found=str(found)[:40])
    return timedelta(seconds=int(matched[1]) * _UNITS[matched[2]])


def _flag(found: Any, where: str) -> bool:
    if not isinstance(found, bool):
        raise InvalidInput(
            f"policy: {where}: expected true or false, found {str(found)[:40]!r}"
        ).because("one_of_at", place=where, allowed=("true", "false"), found=str(found)[:40])
    return found


def _undecided(found: Any) -> Literal["rollback", "pause"]:
    if found == "rollback" or found == "pause":
        choice: Literal["rollback", "pause"] = found
        return choice
    raise InvalidInput(
        f"policy: when_undecided: expected rollback or pause, found {str(found)[:40]!r}"
    ).because(
        "one_of_at", place="when_undecided", allowed=("rollback", "pause"), found=str(found)[:40]
    )


def _kind(found: Any) -> str:
    return "nothing" if found is None else f"{type(found).__name__} {str(found)[:40]!r}"
