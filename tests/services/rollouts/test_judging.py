"""Intervals that hold, verdicts that follow from them, and what policies do to known truths."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rollouts import intervals
from services.rollouts.deciding import Move, Progress, Window, decide
from services.rollouts.judging import Arms, Outcome, Samples, is_due, judge, level_of
from services.rollouts.models import Arm
from services.rollouts.policy import Metric, read_policy
from services.rollouts.simulation import table, truths

QUICK = """\
steps:
  - {percent: 20, hold: 5m, min_requests: 100}
  - {percent: 50, hold: 5m, min_requests: 100}
interval: 60s
max_hold: 12h
metrics:
  error_rate: {max_increase: 0.02}
  latency_p95: {max_ratio: 1.25}
  latency_p50: {max_ratio: 1.2}
"""


def _arm(n: int, errors: int = 0, latency: float = 100.0, costs: int = 0) -> Samples:
    return Samples(
        requests=n,
        errors=errors,
        latencies_ms=np.linspace(0.5, 1.5, n - errors) * latency,
        costs_micro=[5.0] * costs,
    )


def _arms(stable: Samples, canary: Samples) -> Arms:
    return {Arm.STABLE: stable, Arm.CANARY: canary}


def test_shares_agree_with_published_limits() -> None:
    # Clopper-Pearson, 95 %: 0 of 20 and 4 of 20, as R's binom.test gives them.
    none = intervals.share(0, 20, level=0.025)
    some = intervals.share(4, 20, level=0.025)
    assert none is not None
    assert some is not None
    assert (none.low, none.high) == (0.0, pytest.approx(0.1684335, abs=1e-6))
    assert some.low == pytest.approx(0.05733400, abs=1e-6)
    assert some.high == pytest.approx(0.4366140, abs=1e-6)


def test_quantiles_agree_with_published_ranks() -> None:
    # Hahn and Meeker, section 5.2: the 95 % limits of a median of 100 values are ranks 40 and 61.
    found = intervals.quantile(range(1, 101), 0.5, level=0.025)
    assert found is not None
    assert (found.value, found.low, found.high) == (50, 40, 61)


def test_too_few_values_leave_a_side_open() -> None:
    found = intervals.quantile([1.0, 2.0, 3.0], 0.95, level=0.01)
    assert found is not None
    assert found.high is None
    assert intervals.quantile([], 0.5, level=0.01) is None
    assert intervals.share(0, 0, level=0.01) is None
    few = intervals.mean([1.0] * 10, level=0.01)
    assert few is not None
    assert (few.low, few.high) == (None, None)


@given(
    st.integers(1, 400), st.integers(1, 400), st.floats(0, 1), st.floats(0, 1),
    st.sampled_from([0.05, 0.001, 1e-5]),
)  # fmt: skip
def test_limits_enclose_their_estimate(n: int, m: int, p: float, q: float, level: float) -> None:
    stable = intervals.share(round(p * n), n, level=level)
    canary = intervals.share(round(q * m), m, level=level)
    assert stable is not None
    assert canary is not None
    found = intervals.difference(stable, canary)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


def test_no_data_and_one_arm_alone_are_inconclusive() -> None:
    policy = read_policy(QUICK)
    for arms in ({}, _arms(_arm(5_000), Samples()), _arms(Samples(), _arm(5_000))):
        found = judge(policy, 0, arms, look=1)
        assert found.outcome is Outcome.INCONCLUSIVE
        assert found.short_of


def test_equal_arms_with_much_data_pass_and_worse_ones_fail() -> None:
    policy = read_policy(QUICK)
    assert judge(policy, 0, _arms(_arm(5_000, 50), _arm(5_000, 50)), look=1).outcome is Outcome.PASS
    worse = judge(policy, 0, _arms(_arm(5_000, 50), _arm(5_000, 250)), look=1)
    assert [one.metric for one in worse.failed] == [Metric.ERROR_RATE]
    slow = judge(policy, 0, _arms(_arm(5_000), _arm(5_000, latency=140)), look=1)
    assert {one.metric for one in slow.failed} == {Metric.LATENCY_P95, Metric.LATENCY_P50}


def test_one_failure_of_three_is_no_verdict() -> None:
    found = judge(read_policy(QUICK), 0, _arms(_arm(1_000), _arm(3, 1)), look=1)
    assert found.outcome is Outcome.INCONCLUSIVE


def test_a_pass_needs_the_steps_requests_whatever_the_intervals_say() -> None:
    policy = read_policy(QUICK.replace("min_requests: 100", "min_requests: 6000"))
    found = judge(policy, 0, _arms(_arm(5_000), _arm(5_000)), look=1)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.short_of[0] == "expected 6000 requests of each arm, found 5000"


def test_a_metric_that_is_not_required_neither_blocks_nor_is_ignored() -> None:
    policy = read_policy(QUICK + "  thumbs_down_rate: {max_increase: 0.1, required: false}\n")
    arms = _arms(_arm(5_000), _arm(5_000))
    assert judge(policy, 0, arms, look=1).outcome is Outcome.PASS
    stable = Samples(5_000, thumbs=300, thumbs_down=20, latencies_ms=arms[Arm.STABLE].latencies_ms)
    canary = Samples(5_000, thumbs=300, thumbs_down=150, latencies_ms=arms[Arm.STABLE].latencies_ms)
    found = judge(policy, 0, _arms(stable, canary), look=1)
    assert [one.metric for one in found.failed] == [Metric.THUMBS_DOWN]


def test_all_looks_together_spend_no_more_than_the_policy_allows() -> None:
    policy = read_policy(QUICK)
    metrics, steps = len(policy.bounds), len(policy.steps)
    spent = sum(level_of(policy, look=k, family="step") for k in range(1, 20_000))
    spent_alone = sum(level_of(policy, look=k, family="interval") for k in range(1, 20_000))
    assert metrics * (steps * spent + spent_alone) <= policy.false_alarms


def test_a_step_is_looked_at_again_only_once_it_has_grown() -> None:
    assert [is_due(0, 0), is_due(0, 1), is_due(100, 124), is_due(100, 125)] == [
        False, True, False, True,
    ]  # fmt: skip


def test_a_facts_of_a_verdict_hold_no_floats() -> None:
    def check(value: object) -> None:
        assert not isinstance(value, float)
        for one in value.values() if isinstance(value, dict) else []:
            check(one)
        for one in value if isinstance(value, list) else []:
            check(one)

    check(judge(read_policy(QUICK), 0, _arms(_arm(50), _arm(50, 5)), look=1).facts())


@given(
    last=st.sampled_from([None, *Outcome]), seconds=st.integers(0, 60_000),
    errors=st.integers(0, 300), n=st.integers(0, 300),
)  # fmt: skip
def test_nothing_but_a_pass_ever_goes_forward(
    last: Outcome | None, seconds: int, errors: int, n: int
) -> None:
    policy = read_policy(QUICK)
    arms = _arms(_arm(300), _arm(n, min(errors, n)))
    window = Window(timedelta(seconds=seconds), min(300, n), lambda: arms, lambda: arms)
    found = decide(policy, Progress(step=1, looks=2, seen=40, last=last), window)
    if found.move in {Move.NEXT, Move.PROMOTE}:
        assert found.progress.last is Outcome.PASS
        assert window.elapsed >= policy.steps[1].hold


def test_known_truths_end_as_they_should() -> None:
    """A seeded twentieth of what `python -m bench.rollouts` prints."""
    left_out = {"the same, low traffic", "breaks after 30 min"}
    kinds = [one for one in truths() if one.name not in left_out]
    rows = {row.name: row for row in table(read_policy(QUICK), kinds, runs=4)}
    for good in ("the same", "better"):
        assert rows[good].promoted == 100, good
    for bad in ("2x errors", "30 % slower", "2x errors, low traffic"):
        assert rows[bad].rolled_back == 100, bad
