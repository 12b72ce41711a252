"""What two texts have in common and where they part, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from html import escape
from typing import Literal

import streamlit as st

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
    tags = {"same": "span", "gone": "del", "new": "ins"}
    body = "".join(
        f"<{tags[kind]}>{escape(text)}</{tags[kind]}>" for kind, text in pieces(before, after)
    )
    st.html(f'<div class="pc-raw pc-diff">{body}</div>')
