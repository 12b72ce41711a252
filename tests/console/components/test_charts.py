"""Charts write numbers as the reader's language does."""

from __future__ import annotations

from collections.abc import Iterator

import plotly.graph_objects as go
import pytest
import streamlit as st

from console import state
from console.components import charts, run_view


@pytest.fixture(params=["en", "tr"])
def language(request: pytest.FixtureRequest) -> Iterator[str]:
    spoken: str = request.param
    st.session_state[state.LANGUAGE] = spoken
    yield spoken
    del st.session_state[state.LANGUAGE]


def test_numbers_are_written_as_the_language_does(language: str) -> None:
    figure = go.Figure(go.Scatter(y=[2e-4, 2e-4]))
    figure.update_yaxes(rangemode="tozero")
    charts.draw(figure, key=f"test.{language}")
    assert figure.layout.separators == {"en": ".,", "tr": ",."}[language]
    # A number that never changes is drawn above nothing, not between -1 and 1.
    assert figure.layout.yaxis.rangemode == "tozero"


def test_percent_marks_are_written_as_the_language_does(language: str) -> None:
    marks = charts.percents(0, 50, 100, scale=100)
    assert marks["tickvals"] == [0, 0.5, 1]
    assert marks["ticktext"][1] == {"en": "50%", "tr": "%50"}[language]


def test_long_names_of_one_alias_stay_apart_and_are_no_markup() -> None:
    names = ["müşteri-hizmetleri-uzun-takma-ad-" + end for end in ("0a1b2c3d4e5f", "f5e4d3c2b1a0")]
    marks = charts.name_marks([*names, "<b>"])
    assert marks["tickvals"] == [*names, "<b>"]
    first, second, third = marks["ticktext"]
    assert (first[-12:], second[-12:]) == ("0a1b2c3d4e5f", "f5e4d3c2b1a0")
    assert len(first) <= 28
    assert third == "&lt;b>"


def test_the_mean_of_a_flat_curve_is_flat() -> None:
    assert set(run_view.smoothed([0.1] * 300, 8)) == {0.1}
