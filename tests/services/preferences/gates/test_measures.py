from __future__ import annotations

import pytest

from services.preferences.gates.measures import Measures, is_doubtful
from services.preferences.gates.models import Agreement


def measures(
    lengths: list[tuple[int, int]], chosen_by: str = "", rejected_by: str = ""
) -> Measures:
    made = Measures()
    for chosen, rejected in lengths:
        made.add(chosen, rejected, chosen_by, rejected_by)
    return made


def test_the_share_and_the_effect_of_length() -> None:
    facts = measures([(10, 5), (10, 15), (10, 10), (30, 10)]).length()
    assert facts["p_chosen_longer"] == 0.625
    assert facts["chosen_mean"] == 15.0
    # Means 15 and 10, variances 75 and 12.5: 5 / sqrt(43.75).
    assert facts["cohens_d"] == pytest.approx(0.7559, abs=1e-4)
    assert measures([]).length()["p_chosen_longer"] is None


@pytest.mark.parametrize(
    ("lengths", "is_biased"),
    [
        ([(20, 10), (10, 20)] * 20, False),
        ([(20, 10), (20, 10), (10, 20)] * 20, True),
        ([(11, 10)] * 10, False),
        ([(100, 10)] * 20 + [(10, 12)] * 20, True),
    ],
)
def test_a_bias_is_told_from_few_pairs_and_from_balance(
    lengths: list[tuple[int, int]], is_biased: bool
) -> None:
    assert measures(lengths).has_length_bias() is is_biased


def test_one_writer_of_the_better_answers_is_told() -> None:
    lengths = [(10, 10)] * 40
    assert measures(lengths, "gpt", "llama").has_one_source()
    assert not measures(lengths, "gpt", "gpt").has_one_source()
    assert not measures(lengths).has_one_source()
    assert not measures(lengths[:10], "gpt", "llama").has_one_source()


@pytest.mark.parametrize(
    ("alpha", "expected"), [(None, True), (0.2, True), (0.667, False), (0.9, False)]
)
def test_agreement_is_doubtful_below_the_floor(alpha: float | None, expected: bool) -> None:
    assert is_doubtful(Agreement(alpha, None, None, 40)) is expected
