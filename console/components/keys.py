"""The sheet of keys: which key does what on a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from console.i18n import t


def sheet(rows: Sequence[tuple[str, str]]) -> None:
    """Draw a button that opens the sheet.

    Args:
        rows: Keys (several separated by blanks) and what they do, already translated.
    """
    with st.popover(t("keys.title"), icon=":material/keyboard:", type="tertiary"):
        body = "".join(
            "<span>"
            + " ".join(f"<kbd>{escape(key)}</kbd>" for key in keys.split())
            + f"</span><span>{escape(text)}</span>"
            for keys, text in rows
        )
        st.html(f'<div class="pc-keys">{body}</div>')
        st.caption(t("keys.note"))
