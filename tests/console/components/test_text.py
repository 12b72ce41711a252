from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as some

from console.components import diff, text

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![pixel](https://evil.example/p.png)",
    "[click](javascript:alert(1))",
    "<https://evil.example>",
    '<a href="https://evil.example">x</a>',
    "[x]: https://evil.example\n\n[x]",
)


@pytest.mark.parametrize("written", HOSTILE)
@pytest.mark.parametrize("as_markdown", [True, False])
def test_nothing_in_a_models_text_becomes_a_tag_that_loads_or_runs(
    written: str, as_markdown: bool
) -> None:
    drawn = text.html_of(written, as_markdown=as_markdown)
    assert not any(tag in drawn for tag in ("<script", "<img", "<a ", "<a>", "<iframe"))


@given(some.text())
def test_raw_text_is_shown_as_it_came_and_what_is_invisible_is_named(written: str) -> None:
    drawn = text.html_of(written, as_markdown=False)
    named = re.findall(r'<span class="pc-invisible">U\+([0-9A-F]{4,6})</span>', drawn)
    assert drawn.count("<") == 2 + 2 * len(named)
    assert drawn.startswith('<div class="pc-raw" dir="auto">')
    inside = re.sub(r"<[^>]*>U\+([0-9A-F]+)</span>", lambda m: chr(int(m[1], 16)), drawn)
    assert unescape(inside[len('<div class="pc-raw" dir="auto">') : -len("</div>")]) == written


@pytest.mark.parametrize("as_markdown", [True, False])
@pytest.mark.parametrize(
    "sign", ["\x1b", "\u200b", "\u202e", "\u2066", "\ufeff", "\ud800", "\U000e0041"]
)
def test_what_deceives_the_eye_is_named_instead(sign: str, as_markdown: bool) -> None:
    drawn = text.html_of(f"a{sign}b\n\n```x{sign}y\n1\n```", as_markdown=as_markdown)
    assert sign not in drawn
    assert f"U+{ord(sign):04X}" in drawn
    assert not (as_markdown and "<span" in drawn)  # it would break out of the fence's attribute


def test_letters_that_need_a_joiner_keep_it() -> None:
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert persian in text.html_of(persian, as_markdown=False)


def test_markdown_is_drawn() -> None:
    drawn = text.html_of(
        "**bold**\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |", as_markdown=True
    )
    assert all(tag in drawn for tag in ("<strong>bold", "<li>one", "<table>"))


def test_a_very_long_text_is_cut_and_says_so() -> None:
    drawn = text.html_of("x" * (text.MAX_SHOWN_CHARS + 5), as_markdown=False)
    assert "5 more characters" in drawn


def test_a_foreign_name_is_no_markdown() -> None:
    assert text.plain("a*b*[c](d)") == r"a\*b\*\[c\]\(d\)"


@given(some.text(max_size=200), some.text(max_size=200))
def test_a_difference_holds_both_texts(before: str, after: str) -> None:
    found = diff.pieces(before, after)
    assert "".join(piece for kind, piece in found if kind != "new") == before
    assert "".join(piece for kind, piece in found if kind != "gone") == after


def test_a_changed_word_is_all_that_differs() -> None:
    found = diff.pieces("The capital is Istanbul.", "The capital is Ankara.")
    assert [piece for kind, piece in found if kind != "same"] == ["Istanbul", "Ankara"]


def test_huge_texts_are_not_compared_word_by_word() -> None:
    before = "a " * diff.MAX_WORDS
    assert diff.pieces(before, "b") == [("gone", before), ("new", "b")]
