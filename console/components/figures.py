"""A row of numbers with their names; two abreast on a phone."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

MIN_WIDTH_PX = 140


def draw(values: Sequence[tuple[str, str]], *, columns: int = 4) -> None:
    """Draw names and numbers, both already as they are to be read.

    Args:
        columns: How many stand abreast where there is room.
    """
    with st.grid(columns, min_column_width=MIN_WIDTH_PX):
        for label, value in values:
            st.metric(label, value, border=True)
