"""Reasons of gates are read in the reader's language, all of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
import streamlit as st

from console import state
from console.components import gate_reason
from services.preferences.gates.pii import PERSONAL, SECRETS
from tests.support import ROOT

MADE_OF_PARTS = {
    "rejected in review", "disputed", "unreviewed", "no preference", "chosen", "rejected",
    "prompt: repeats an evaluation prompt", "answer: repeats an evaluation prompt",
    "prompt: nearly the same as an evaluation prompt", "chosen much longer", "rejected much longer",
    "held out, and nearly the same prompt is trained on", "more than 8 pairs of one prompt",
    "the opposite was decided too", "part of a circle of preferences", "the same in 1024 tokens",
    *(f"prompt: {kind}" for kind in PERSONAL),
}  # fmt: skip
"""Those whose words are not in one place of the source."""


def written() -> Iterator[str]:
    """The reasons that stand in the source as they are."""
    for path in (ROOT / "services" / "preferences").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                reason = node.args[1]
                if isinstance(reason, ast.Constant):
                    yield str(reason.value)


@pytest.fixture(params=["en", "tr"])
def language(request: pytest.FixtureRequest) -> Iterator[str]:
    spoken: str = request.param
    st.session_state[state.LANGUAGE] = spoken
    yield spoken
    del st.session_state[state.LANGUAGE]


def test_every_reason_is_read_in_the_readers_language(language: str) -> None:
    reasons = {*written(), *MADE_OF_PARTS}
    assert len(reasons) > 30
    same = {reason for reason in reasons if gate_reason.shown(reason) == reason}
    assert same == (reasons if language == "en" else set())


def test_numbers_and_kinds_stay() -> None:
    assert "8" in gate_reason.shown("more than 8 pairs of one prompt")
    assert gate_reason.shown("a reason of another day").startswith("a reason")
    for kind in SECRETS:
        assert gate_reason.shown(f"chosen: {kind}")
