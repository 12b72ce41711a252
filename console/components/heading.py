"""How a page and its parts begin."""

from __future__ import annotations

import streamlit as st


def draw(title: str, caption: str = "") -> None:
    """Draw the page's title and one sentence on what it is for, both already translated."""
    with st.container(gap="xxsmall"):
        st.title(title, anchor=False)
        if caption:
            st.caption(caption)


def section(title: str, caption: str = "") -> None:
    """Begin a part of a page with its name and one sentence, both already translated."""
    with st.container(gap="xxsmall"):
        st.subheader(title, anchor=False)
        if caption:
            st.caption(caption)
