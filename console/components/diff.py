"""What two texts have in common and where they part, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Literal

import streamlit as st

from console.components.text import escaped

Kind = Literal["same", "gone", "new"]
MAX_WORDS = 4_000
"""Above this the comparison would take seconds; the texts are then shown as wholly different."""

_PIECES = re.compile(r"\s+|\w+|[^\w\s]")


def pieces(before: str, after: str) -> list[tuple[Kind, str]]:
    """The way from one text to another.

    Returns:
        Runs of text; joining `same` and `gone` gives `before`, `same` and `new` gives `after`.
    """
    old, new = _PIECES.findall(before), _PIECES.findall(after)
    if len(old) + len(new) > MAX_WORDS:
        return [("gone", before), ("new", after)]
    found: list[tuple[Kind, str]] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            found.append(("same", "".join(old[i1:i2])))
            continue
        if i2 > i1:
            found.append(("gone", "".join(old[i1:i2])))
        if j2 > j1:
            found.append(("new", "".join(new[j1:j2])))
    return found


def draw(before: str, after: str) -> None:
    """Draw the way from one text to another, deletions struck out, additions underlined."""
    st.html(html_of(before, after))


def html_of(before: str, after: str) -> str:
    """Safe HTML of the way from one text to another."""
    tags = {"same": "span", "gone": "del", "new": "ins"}
    body = "".join(
        f"<{tags[kind]}>{escaped(text)}</{tags[kind]}>" for kind, text in pieces(before, after)
    )
    return f'<div class="pc-raw pc-diff" dir="auto">{body}</div>'
