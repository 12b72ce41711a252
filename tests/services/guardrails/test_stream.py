"""A text in pieces comes out as the whole text would."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.guardrails.guard import Guard
from services.guardrails.models import Action, Place
from services.guardrails.policy import read_policy
from services.guardrails.stream import StreamGuard

MASKING = Guard(
    read_policy("""
version: 1
checks:
  pii: {action: mask, places: [output]}
  secrets: {action: mask, places: [output]}
  disclaimers: {places: [output]}
  language: {places: [output], allow: [tr, en]}
"""),
    Place.OUTPUT,
)
STOPPING = Guard(
    read_policy("""
version: 1
checks:
  pii: {action: block, places: [output], kinds: [email, card]}
  toxicity: {action: block, places: [output]}
  topics: {places: [output], deny: {weather: [thunderstorm, "gök gürültüsü"]}}
"""),
    Place.OUTPUT,
)
PARTS = [
    "ali@example.com", "a.b+c@mail.example.co.uk", "@", "a@b", "şükrü@örnek.com", "ali＠example.com",
    "0532 416 27 93", "+90 212 318 45 60", "(415) 555-2671", "12.05.2026", "2026", "10000000146",
    "4111 1111 1111 1111", "4111-1111-1111-1112", "536-81-2047", "TR33 0006 1005 1978 6457 8413 26",
    "DE89370400440532013000", "password: hunter2-Fake!9", "api key: f4k3-0000-1234", "şifre: Kedi!8842",
    "AKIAFAKEFAKEFAKE1234", "ghp_" + "aB3d" * 9, "sk-proj-" + "Fak3" * 8, "postgres://u:p4ss(x@host/db",
    "-----BEGIN PRIVATE KEY-----\nMIIEfakefakefakefake\n-----END PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMIIEfakefakefakefake", "eyJhbGciOi.eyJzdWIiOj.c2lnbmF0dXJl",
    "\u200b", "\u00ad", "…", "ﬁ", "０５３２", "\ud800", "😀", "。", "漢字", "e\u0301",
    "is", "the", "merhaba", "take 500 mg of aspirin twice a day", "token", "api", "x",
    " ", " ", " ", "\n", ".", ",", ":", "-", "(", ")", '"', "0", "7",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PARTS), max_size=14).map("".join)


def streamed(guard: Guard, text: str, cuts: list[int]) -> tuple[str, StreamGuard]:
    stream = StreamGuard(guard)
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    out = "".join(
        stream.feed(text[start:end]) for start, end in zip(places, places[1:], strict=False)
    )
    return out + stream.finish(), stream


CUTS = st.lists(st.integers(0, 10_000), max_size=40)


@settings(max_examples=600)
@given(text=TEXTS, cuts=CUTS)
@example(text="şifre: Kedi!8842 api key: f4k3-0000-1234", cuts=list(range(60)))
@example(text="A" * 40 + "ﬁ" + "A" * 20 + "ali@example.comali@example.com", cuts=[])
@example(text="A" * 40 + "漢字" + "A" * 20 + "ali@example.comali@example.com", cuts=[])
def test_what_comes_out_is_what_the_whole_text_becomes(text: str, cuts: list[int]) -> None:
    out, stream = streamed(MASKING, text, cuts)
    assert out == MASKING.check(text).text
    assert stream.blocked_by is None


@settings(max_examples=300)
@given(text=TEXTS)
def test_letter_by_letter_it_is_the_same(text: str) -> None:
    out, stream = streamed(MASKING, text, list(range(len(text))))
    verdict = MASKING.check(text)
    assert out == verdict.text
    assert [one.kind for one in stream.findings if one.action is Action.MASK] == [
        one.kind for one in verdict.findings if one.action is Action.MASK
    ]


@settings(max_examples=300)
@given(
    before=TEXTS,
    phrase=st.sampled_from(
        ["I will kill you", "thunderstorm", "gök  gürültüsü", "ali@example.com"]
    ),
    after=TEXTS,
    cuts=CUTS,
)
def test_of_what_is_blocked_nothing_comes_out(
    before: str, phrase: str, after: str, cuts: list[int]
) -> None:
    text = f"{before} {phrase} {after}"
    out, stream = streamed(STOPPING, text, cuts)
    assert stream.blocked_by is not None
    assert text.startswith(out)
    assert len(out) <= len(before) + 1


@settings(max_examples=300)
@given(text=TEXTS, cuts=CUTS)
def test_a_stream_is_blocked_exactly_when_its_text_is(text: str, cuts: list[int]) -> None:
    out, stream = streamed(STOPPING, text, cuts)
    assert (stream.blocked_by is None) == (STOPPING.check(text).blocked_by is None)
    if stream.blocked_by is None:
        assert out == text


@pytest.mark.parametrize(
    ("begun", "goes_on"),
    [
        ("Tomorrow we talk about thunder", "storms and how they form over the sea."),
        ("I will kill you", "r darlings, says the editor."),
        ("Hava gök gürültüsü", "nden önce ağırlaşır."),
    ],
)
def test_half_a_word_stops_nothing(begun: str, goes_on: str) -> None:
    out, stream = streamed(STOPPING, begun + goes_on, [len(begun)])
    assert stream.blocked_by is None
    assert out == begun + goes_on


def test_prose_waits_for_its_last_word_only() -> None:
    stream = StreamGuard(MASKING)
    assert stream.feed("The weather is mild today and") == "The weather is mild today "
    assert stream.feed(" the") == "and "


@settings(max_examples=100)
@given(words=st.lists(st.sampled_from(["river", "yıldız", "42", "漢字", "-"]), max_size=400))
def test_held_back_is_at_most_the_longest_possible_finding(words: list[str]) -> None:
    text = "".join(words)
    stream = StreamGuard(MASKING)
    out = stream.feed(text)
    assert len(text) - len(out) <= 3_020
    spaced = " ".join(words)
    stream = StreamGuard(STOPPING)
    assert len(spaced) - len(stream.feed(spaced)) <= STOPPING.reach + 320


def test_a_blocked_stream_stays_silent() -> None:
    stream = StreamGuard(STOPPING)
    assert stream.feed("A thunderstorm, ") == ""
    assert stream.blocked_by is not None
    assert stream.feed("and more") == ""
    assert stream.finish() == ""


def test_nothing_comes_out_from_the_character_that_is_too_many() -> None:
    guard = Guard(
        read_policy("version: 1\nchecks: {length: {places: [output], max_characters: 10}}"),
        Place.OUTPUT,
    )
    stream = StreamGuard(guard)
    assert stream.feed("0123456789") == "0123456789"
    assert stream.feed("a") == ""
    assert stream.blocked_by is not None
    assert stream.blocked_by.kind == "too_long"
    assert stream.finish() == ""


def test_what_overlaps_is_masked_to_its_end() -> None:
    text = "x https://me:p4ss0000@mail.example.org y"
    out, _ = streamed(MASKING, text, list(range(len(text))))
    assert "p4ss" not in out
    assert "example" not in out
    assert out == MASKING.check(text).text


def test_a_notice_comes_once_and_last() -> None:
    text = "Take 500 mg of paracetamol twice a day."
    out, _ = streamed(MASKING, text, [5, 10, 20])
    assert out.startswith(text + "\n\n")
    assert out == MASKING.check(text).text
    stream = StreamGuard(MASKING)
    stream.feed(text)
    assert "advice" not in stream.finish(with_notices=False)


def test_an_empty_stream_is_empty() -> None:
    stream = StreamGuard(MASKING)
    assert stream.feed("") == ""
    assert stream.finish() == ""
