"""Each check finds what it should in the labelled cases, and hardly anything else."""

from __future__ import annotations

import pytest

from services.guardrails.policy import CHECKS, read_policy
from services.guardrails.regression import Score, case_policy, cases, run

SCORES = {score.check: score for score in run(case_policy())}


@pytest.mark.parametrize("check", CHECKS)
def test_precision_and_recall_are_high(check: str) -> None:
    score = SCORES[check]
    assert min(score.precision, score.recall) >= 0.97, "\n".join(score.failed)


@pytest.mark.parametrize("check", CHECKS)
def test_the_cases_are_many_in_both_languages_and_a_third_is_clean(check: str) -> None:
    found = cases(check)
    clean = sum(not case.expected for case in found)
    turkish = sum(case.language == "tr" for case in found)
    assert len(found) >= 45
    assert len({case.text for case in found}) == len(found)
    assert 3 * clean >= len(found)
    assert 0.4 <= turkish / len(found) <= 0.6


def test_together_there_are_enough() -> None:
    assert sum(score.cases for score in SCORES.values()) >= 450


def test_every_expected_kind_is_one_that_the_check_knows() -> None:
    for rule in case_policy().rules:
        if rule.kinds:
            expected = frozenset[str]().union(*(case.expected for case in cases(rule.check)))
            assert expected <= set(rule.kinds)


def test_a_policy_is_measured_by_what_it_chose() -> None:
    narrow = read_policy(
        "version: 1\nchecks: {pii: {places: [input], kinds: [email]}, length: {places: [output], max_characters: 9}}"
    )
    pii, length = run(narrow)
    assert 0 < pii.cases < SCORES["pii"].cases
    assert pii.precision == pii.recall == 1
    assert length.recall == 1


def test_figures_are_of_their_counts() -> None:
    score = Score("x", 10, 3, 1, 2, 5)
    assert score.precision == pytest.approx(0.75)
    assert score.recall == pytest.approx(0.6)
    assert Score("x", 1, 0, 0, 0, 1).precision == 1


def test_no_check_gives_no_scores() -> None:
    assert run(read_policy("version: 1\nchecks: {}")) == []
