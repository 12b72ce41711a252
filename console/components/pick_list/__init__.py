"""A list of which exactly one row is chosen, as a plain table in the page.

Streamlit's own table is painted on a canvas by a large script, and what screen readers and tests
can read of it follows 200 ms later. This one is HTML: it stands in the first frame after its
message, every row is text that can be searched, and the keys are those of a grid. It is for lists
that open a page; `chooser` is for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from console import state
from console.i18n import language, t

Kind = Literal["text", "code", "status", "share", "newest"]
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: Already translated.
        kind: How a cell is drawn and sorted. `text` and `code` take a text, `status` a text and
            a colour, `share` a fraction and its text; `newest` takes a text of which the rows
            come already sorted, newest first.
        width_rem: At least so wide; what is left is shared out in proportion.
    """

    title: str
    kind: Kind = "text"
    width_rem: float = 8


@cache
def _file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def one(
    rows: Mapping[str, Sequence[Any]],
    columns: Sequence[Column],
    *,
    name: str,
    key: str,
    asked: str | None = None,
) -> str:
    """Draw the list.

    Args:
        rows: The cells of each row by the id that it stands for, at least one row.
        name: What the list is, for screen readers; already translated.
        asked: Chosen until somebody chooses, such as what the address names; else the first row.

    Returns:
        The id of the chosen row.
    """
    first = next(iter(rows))
    # A new row on top, or another address, begins a new choice, as in `chooser`.
    own = f"{key}.{first}.{len(rows)}.{asked}"
    chosen = (state.get(own) or {}).get("chosen")
    if chosen not in rows:
        chosen = asked if asked in rows else first
    mounted = st.components.v2.component(
        "param_pick_list", js=_file("pick_list.js"), css=_file("pick_list.css"),
        isolate_styles=False,
    )  # fmt: skip
    mounted(
        key=own,
        on_chosen_change=_nothing,
        data={
            "name": name,
            "chosen": chosen,
            "columns": [asdict(column) for column in columns],
            "rows": [[found, *cells] for found, cells in rows.items()],
            "language": language(),
            "words": {word: t(f"list.{word}") for word in ("search", "found", "none")},
        },
    )
    return str(chosen)


def _nothing() -> None:
    """Streamlit keeps a value only for whom it may call; the choice is read when it draws."""
