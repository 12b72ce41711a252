import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidInput
from services.rollouts.policy import DEFAULT_SOURCE, Metric, default_policy, read_policy

GOOD = "steps: [{percent: 5, hold: 10m, min_requests: 9}]\nmetrics: {error_rate: {max_increase: 0.01}}\n"


def test_the_built_in_policy_watches_every_metric() -> None:
    policy = default_policy()
    assert {bound.metric for bound in policy.bounds} == set(Metric)
    assert [step.percent for step in policy.steps] == [5, 25, 50]
    assert policy.quality_gate
    assert policy.when_undecided == "rollback"
    assert len(policy.digest) == 64


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "expected names and values, found nothing"),
        ("a: [", "expected YAML, found an error"),
        ("[" * 5_000, "expected YAML, found an error"),
        ("x" * 30_000, "at most 20000 characters"),
        (GOOD + "surprise: 1\n", "found 'surprise'"),
        (
            GOOD.replace("percent: 5", "percent: 0"),
            "steps[1].percent: expected a whole number from 1",
        ),
        (GOOD.replace("percent: 5", "percent: 100"), "from 1 to 99"),
        (GOOD.replace("percent: 5", "percent: true"), "from 1 to 99, found 'True'"),
        (GOOD.replace("10m", "soon"), "expected a duration such as 30s"),
        (GOOD.replace("10m", "-1m"), "expected a duration such as 30s"),
        (GOOD.replace("10m", "30d"), "expected at most max_hold"),
        (GOOD.replace(", min_requests: 9", ""), "expected min_requests, found none"),
        (GOOD.replace("error_rate", "vibes"), "found 'vibes'"),
        (GOOD.replace("max_increase", "max_ratio"), "expected max_increase, required"),
        (GOOD.replace("0.01", ".nan"), "expected a number from"),
        (GOOD.replace("0.01}", "0.01, required: false}"), "at least one that is required"),
        (GOOD + "when_undecided: promote\n", "expected rollback or pause, found 'promote'"),
        (GOOD + "quality_gate: 1\n", "expected true or false"),
        ("steps: []\nmetrics: {}\n", "expected a list of 1 to 20 steps"),
        (
            GOOD.replace("[{", "[{percent: 9, hold: 1m, min_requests: 1}, {"),
            "expected shares that rise, found [9, 5]",
        ),
    ],
)
def test_a_wrong_policy_is_refused_by_name(source: str, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_policy(source)
    assert told in refused.value.message
    assert "\n" not in refused.value.message


@given(st.text(max_size=300))
def test_any_text_that_is_no_policy_is_refused_in_a_sentence(source: str) -> None:
    with pytest.raises(InvalidInput, match=r"^policy"):
        read_policy(source)


@given(st.integers(0, 100))
def test_every_share_belongs_to_a_step(percent: int) -> None:
    policy = read_policy(DEFAULT_SOURCE)
    index = policy.index_of(percent)
    assert 0 <= index < len(policy.steps)
    assert policy.steps[index].percent <= max(percent, policy.steps[0].percent)
