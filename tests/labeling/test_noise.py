from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling.noise import error_rate


@given(st.floats(0, 0.48))
def test_the_error_explains_how_often_two_agree(error: float) -> None:
    agreeing = (1 - error) ** 2 + error**2
    assert error_rate(agreeing) == pytest.approx(error, abs=1e-6)


def test_people_who_disagree_more_than_chance_leave_nothing_to_learn_from() -> None:
    assert error_rate(0.3) == 0.49
    assert error_rate(1.0) == 0.0
