"""The review desk in the browser: one component that has the keys, the clock and the card.

It is one component, not a page of widgets, for four reasons. A vote goes to the server in one
piece, with its note, flags, ratings and time, so that nothing typed is lost or lands on the next
card. Keys are judged where they are struck: not while somebody types, not before a new card can
have been read. Time counts only while the window is seen and used. And the next card needs one
message instead of thirty.

What the browser gets is in `card`, what it says in `acts`. The scripts beside this file draw it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from console import state
from console.components.desk import words
from console.components.desk.acts import Act, read
from services.preferences.service import MAX_NOTE

KEY = "review.desk"
SEEN = "review.seen"
_SCRIPTS = ("dom", "clock", "keys", "card", "panels", "editor", "desk")
_FOLDER = Path(__file__).parent


@cache
def _script() -> str:
    return "\n".join((_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)


@cache
def _style() -> str:
    return (_FOLDER / "desk.css").read_text(encoding="utf-8")


def act() -> Act | None:
    """What the person just did; None for an act that was answered already.

    Raises:
        InvalidInput: The browser sent something else.
    """
    value = st.session_state[KEY].get("act")
    if value is None:
        return None
    found = read(value)
    if found.n == state.get(SEEN):
        return None
    state.put(SEEN, found.n)
    return found


def mount(
    on_act: Callable[[], None],
    *,
    card: dict[str, Any] | None,
    empty: dict[str, str] | None,
    last: dict[str, Any] | None,
    progress: tuple[float, str],
    guidelines: str,
) -> None:
    """Draw the desk.

    Args:
        on_act: Called for each act, which `act()` then reads.
        card: From `card.as_data`; None where there is none.
        empty: Why there is no card: `title` and `text`.
        last: From `reveal.last`; None where nothing was voted on.
        progress: What is reviewed, 0 to 1, and the same in words.
        guidelines: Safe HTML; empty where the tenant has none.
    """
    desk = st.components.v2.component(
        "param_desk", js=_script(), css=_style(), isolate_styles=False
    )
    value, said = progress
    desk(
        key=KEY,
        on_act_change=on_act,
        data={
            "seen": state.get(SEEN, ""),
            "words": words.words(),
            "keys": words.keys(),
            "flags": words.flags(),
            "reasons": words.reasons(),
            "criteria": words.criteria(),
            "max_note": MAX_NOTE,
            "card": card,
            "empty": empty,
            "last": last,
            "progress": {"value": value, "text": said},
            "guidelines": guidelines,
        },
    )
