"""Text that a model or a stranger wrote: always escaped, as it came or with its Markdown drawn.

Streamlit's own Markdown is not used for it: that would load remote pictures, follow directives
such as `:red[…]` and set links to anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from html import escape

import streamlit as st
from markdown_it import MarkdownIt

from console.i18n import t
from services.preferences.models import Turn

MAX_SHOWN_CHARS = 20_000
"""Longer texts are cut on the screen, never in the database."""

# Control characters (an ANSI sequence begins with one), marks without width, everything that turns
# the direction of what follows, halves of surrogate pairs, and the invisible "tags". The joiners
# U+200C and U+200D are letters' business and stay; so do the plain direction marks.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


@cache
def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return reader.disable(["image", "link", "autolink", "reference", "html_block", "html_inline"])


def html_of(text: str, *, as_markdown: bool, limit: int | None = MAX_SHOWN_CHARS) -> str:
    """Safe HTML of an untrusted text.

    The direction of writing follows the text, line by line. What cannot be seen is named instead.

    Args:
        as_markdown: Draw headings, lists, emphasis, code and tables; never links or pictures.
        limit: Draw at most so many characters, and say how many are left; None for all.
    """
    cut = text[:limit]
    rest = len(text) - len(cut)
    note = f'<p class="pc-cut">{escape(t("text.cut", count=rest))}</p>' if rest else ""
    if as_markdown:
        # Named before the Markdown is drawn: afterwards one could stand inside an attribute.
        drawn = _markdown().render(_INVISIBLE.sub(lambda found: f"⟨{_name(found)}⟩", cut))
        return f'<div class="pc-md" dir="auto">{drawn}</div>{note}'
    return f'<div class="pc-raw" dir="auto">{escaped(cut)}</div>{note}'


def escaped(text: str) -> str:
    """The HTML of a text as it came, with what cannot be seen named."""
    return _INVISIBLE.sub(
        lambda found: f'<span class="pc-invisible">{_name(found)}</span>', escape(text)
    )


def _name(found: re.Match[str]) -> str:
    return f"U+{ord(found[0]):04X}"


def turns(dialogue: Sequence[Turn], *, as_markdown: bool) -> None:
    """Draw a dialogue, one block a turn, with who spoke."""
    st.html(html_of_turns(dialogue, as_markdown=as_markdown))


def html_of_turns(
    dialogue: Sequence[Turn], *, as_markdown: bool, limit: int | None = MAX_SHOWN_CHARS
) -> str:
    """Safe HTML of a dialogue, one block a turn, with who spoke."""
    drawn = (_turn(turn, as_markdown=as_markdown, limit=limit) for turn in dialogue)
    return f'<div class="pc-turns">{"".join(drawn)}</div>'


def _turn(turn: Turn, *, as_markdown: bool, limit: int | None) -> str:
    kind = turn.role if turn.role in {"system", "user", "assistant"} else "other"
    name = t(f"text.role_{kind}") if kind != "other" else turn.role
    return (
        f'<section class="pc-turn pc-{kind}"><h6>{escape(name)}</h6>'
        f"{html_of(turn.content, as_markdown=as_markdown, limit=limit)}</section>"
    )


def answer(text: str, *, label: str, as_markdown: bool, note: str = "") -> None:
    """Draw one answer in its own card.

    Args:
        label: Its neutral name, such as "Left".
        note: A short remark beside the name, such as "edited".
    """
    mark = f'<span class="pc-note">{escape(note)}</span>' if note else ""
    st.html(
        f'<article class="pc-answer"><header><b>{escape(label)}</b>{mark}</header>'
        f"{html_of(text, as_markdown=as_markdown)}</article>"
    )


def plain(text: str) -> str:
    """A foreign name or sentence inside our own Markdown, with nothing in it taken as Markdown."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]()<>#+-!|$:~" else sign for sign in text)


def shortened(text: str, chars: int = 120) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1].rstrip() + "…"
