"""Text of tokens: whole characters only, nothing past a stop string, nothing lost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine.text import Detokenizer, StopFinder


def decode_bytes(ids: list[int]) -> str:
    """The hardest vocabulary: each token is one byte."""
    return bytes(ids).decode("utf-8", errors="replace")


def pieces_of(tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(decode_bytes)
    return [detokenizer.push(token) for token in tokens]


@given(st.text())
def test_text_comes_out_whole_however_its_bytes_are_split(text: str) -> None:
    assert "".join(pieces_of(list(text.encode()))) == text.removesuffix("\ufffd")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\ufffd")))
def test_half_a_character_is_never_shown(text: str) -> None:
    for piece in pieces_of(list(text.encode())):
        assert "\ufffd" not in piece


def test_turkish_letters_and_emoji_wait_until_they_are_whole() -> None:
    assert pieces_of(list("ğ🎉".encode())) == ["", "ğ", "", "", "", "🎉"]


@given(st.binary(max_size=60))
def test_bytes_that_are_no_text_are_shown_as_such_and_lose_nothing(raw: bytes) -> None:
    shown = "".join(pieces_of(list(raw)))
    whole = raw.decode("utf-8", errors="replace")
    assert shown in (whole, whole.removesuffix("\ufffd"))


def test_a_character_that_never_becomes_whole_is_left_out() -> None:
    assert "".join(pieces_of(list(b"iyi " + "🎉".encode()[:3]))) == "iyi "


def shown_of(text: str, stops: list[str], seed: int) -> tuple[str, str | None]:
    finder, rng, shown, at = StopFinder(stops), random.Random(seed), "", 0
    while at < len(text):
        step = rng.randint(1, 3)
        piece, met = finder.push(text[at : at + step])
        shown += piece
        at += step
        if met is not None:
            return shown, met
    return shown + finder.flush(), None


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
    st.integers(),
)
def test_the_text_ends_before_a_stop_string_however_it_is_split(
    text: str, stops: list[str], seed: int
) -> None:
    shown, met = shown_of(text, stops, seed)
    if met is None:
        assert shown == text
        assert not any(stop in text for stop in stops)
    else:
        assert text.startswith(shown + met)
        assert not any(stop in shown for stop in stops)


@pytest.mark.parametrize(
    ("pushed", "shown"), [("say s", "say "), ("say st", "say "), ("say sx", "say sx")]
)
def test_only_the_possible_beginning_of_a_stop_string_is_held_back(pushed: str, shown: str) -> None:
    assert StopFinder(["stop"]).push(pushed) == (shown, None)


def test_the_stop_string_that_was_met_is_told() -> None:
    finder = StopFinder(["###", "END"])
    assert finder.push("answer #") == ("answer ", None)
    assert finder.push("##more") == ("", "###")
