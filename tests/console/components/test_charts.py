"""Charts write numbers as the reader's language does."""

from __future__ import annotations

from collections.abc import Iterator

import plotly.graph_objects as go
import pytest
import streamlit as st

from console import state
from console.components import charts


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
