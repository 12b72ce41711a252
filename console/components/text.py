"""Text that a model or a stranger wrote: always escaped, as it came or with its Markdown drawn.

Streamlit's own Markdown is not used for it: that would load remote pictures, follow directives
such as `:red[…]` and set links to anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape

import streamlit as st
from markdown_it import MarkdownIt

from console.i18n import t
from services.preferences.models import Turn

MAX_SHOWN_CHARS = 20_000
"""Longer texts are cut on the screen, never in the database."""


@cache
def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return reader.disable(["image", "link", "autolink", "reference", "html_block", "html_inline"])


def html_of(text: str, *, as_markdown: bool) -> str:
    """Safe HTML of an untrusted text.

    Args:
        as_markdown: Draw headings, lists, emphasis, code and tables; never links or pictures.
    """
    cut = text[:MAX_SHOWN_CHARS]
    rest = len(text) - len(cut)
    note = f'<p class="pc-cut">{escape(t("text.cut", count=rest))}</p>' if rest else ""
    if as_markdown:
        return f'<div class="pc-md">{_markdown().render(cut)}</div>{note}'
    return f'<div class="pc-raw">{escape(cut)}</div>{note}'


def turns(dialogue: Sequence[Turn], *, as_markdown: bool) -> None:
    """Draw a dialogue, one block a turn, with who spoke."""
    st.html(
        '<div class="pc-turns">'
        + "".join(_turn(turn, as_markdown=as_markdown) for turn in dialogue)
        + "</div>"
    )


def _turn(turn: Turn, *, as_markdown: bool) -> str:
    kind = turn.role if turn.role in {"system", "user", "assistant"} else "other"
    name = t(f"text.role_{kind}") if kind != "other" else turn.role
    return (
        f'<section class="pc-turn pc-{kind}"><h6>{escape(name)}</h6>'
        f"{html_of(turn.content, as_markdown=as_markdown)}</section>"
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
