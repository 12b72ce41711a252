"""What stands where nothing is yet: why it is empty, and what to do about it."""

from __future__ import annotations

from html import escape

import streamlit as st


def draw(title: str, text: str, *, icon: str = "inbox") -> None:
    """Draw an empty state.

    Args:
        title: What is missing, already translated.
        text: What fills it, already translated.
        icon: Name of a Material symbol.
    """
    with st.container(key=f"empty_{icon}_{abs(hash(title))}", horizontal_alignment="center"):
        st.markdown(f":material/{icon}:", width="content")
        st.html(f'<div class="pc-empty"><h4>{escape(title)}</h4><p>{escape(text)}</p></div>')
