from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preferences.models import Turn
from services.preferences.text import (
    defect,
    detect_language,
    folded,
    pair_key,
    prompt_key,
    text_key,
)

TURNS = st.lists(
    st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), st.text()), max_size=4
)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of Turkey?", "en"),
        ("Türkiye'nin başkenti neresidir?", "tr"),
        ("Bir saatte kaç dakika vardır?", "tr"),
        ("Ayran neden yapılır?", "tr"),
        ("İSTANBUL'UN NÜFUSU KAÇTIR?", "tr"),
        ('What does "teşekkür ederim" mean in English?', "en"),
        ("2 + 2 = ?", "other"),
        ("Qu'est-ce que c'est?", "other"),
        ("東京はどこですか", "other"),
        ("", "other"),
    ],
)
def test_turkish_and_english_are_told_apart(text: str, language: str) -> None:
    assert detect_language(text) == language


def test_search_finds_every_i() -> None:
    assert folded("İSTANBUL") == folded("istanbul") == folded("ıstanbul") == folded("ISTANBUL")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_storable_text_has_no_defect_and_composes(text: str) -> None:
    assert (defect(text) is None) == ("\x00" not in text)
    assert text_key(unicodedata.normalize("NFD", text)) == text_key(text)


@given(TURNS, st.text(), st.text())
def test_swapped_answers_are_the_same_pair(turns: list[Turn], one: str, other: str) -> None:
    prompt = prompt_key(turns)
    first, second = text_key(one), text_key(other)
    assert pair_key(prompt, first, second) == pair_key(prompt, second, first)


@given(TURNS, TURNS)
def test_other_turns_are_another_prompt(one: list[Turn], other: list[Turn]) -> None:
    def plain(turns: list[Turn]) -> list[tuple[str, str]]:
        return [(t.role, unicodedata.normalize("NFC", t.content).strip()) for t in turns]

    assert (prompt_key(one) == prompt_key(other)) == (plain(one) == plain(other))


def test_a_border_between_turns_counts() -> None:
    assert prompt_key([Turn("user", "ab")]) != prompt_key([Turn("user", "a"), Turn("user", "b")])
