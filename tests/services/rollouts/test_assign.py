from dataclasses import replace
from math import sqrt

from hypothesis import given
from hypothesis import strategies as st

from services.rollouts.assign import assign, bucket
from services.rollouts.models import Arm, Route

ROUTE = Route("acme", "chat", "chat-000000000001", "chat-000000000002", 10, "5a17", "rollout-1")
SUBJECTS = st.text(max_size=50)
PERCENTS = st.integers(0, 100)


@given(SUBJECTS, PERCENTS)
def test_a_subject_always_lands_on_the_same_arm(subject: str, percent: int) -> None:
    route = replace(ROUTE, percent=percent)
    assert assign(route, subject) is assign(replace(route), str(subject))


@given(SUBJECTS, PERCENTS, PERCENTS)
def test_a_larger_share_only_moves_subjects_to_the_candidate(
    subject: str, one: int, other: int
) -> None:
    low, high = sorted((one, other))
    if assign(replace(ROUTE, percent=low), subject) is Arm.CANARY:
        assert assign(replace(ROUTE, percent=high), subject) is Arm.CANARY


@given(SUBJECTS)
def test_none_and_all_mean_nobody_and_everybody(subject: str) -> None:
    assert assign(replace(ROUTE, percent=0), subject) is Arm.STABLE
    assert assign(replace(ROUTE, percent=100), subject) is Arm.CANARY
    assert assign(replace(ROUTE, percent=100, candidate=None), subject) is Arm.STABLE


@given(st.text(alphabet=st.characters(categories=["Cs"]), min_size=1, max_size=5))
def test_text_that_is_no_valid_unicode_still_lands_on_one_arm(subject: str) -> None:
    assert bucket(ROUTE, subject) == bucket(ROUTE, subject)


def test_the_observed_share_is_the_asked_one_within_binomial_bounds() -> None:
    n = 20_000
    for percent in (1, 10, 25, 50, 90):
        route = replace(ROUTE, percent=percent)
        found = sum(assign(route, f"user-{number}") is Arm.CANARY for number in range(n))
        share = percent / 100
        # Five standard deviations: this fixed set of users stays far inside.
        assert abs(found - n * share) < 5 * sqrt(n * share * (1 - share))


def test_two_rollouts_split_the_same_users_independently() -> None:
    n = 20_000
    one = replace(ROUTE, percent=50)
    other = replace(one, salt="another", rollout_id="rollout-2")
    both = sum(
        assign(one, str(number)) is assign(other, str(number)) is Arm.CANARY for number in range(n)
    )
    assert abs(both - n / 4) < 5 * sqrt(n * 0.25 * 0.75)


def test_parts_of_the_key_cannot_be_shifted_into_each_other() -> None:
    assert bucket(replace(ROUTE, salt="a", rollout_id="bc"), "x") != bucket(
        replace(ROUTE, salt="ab", rollout_id="c"), "x"
    )
