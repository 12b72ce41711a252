"""A table of which exactly one row is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

ROW_PX = 35


def one(
    ids: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    columns: Mapping[str, Any],
    key: str,
    asked: str | None = None,
    height_px: int = 260,
) -> str:
    """Draw a table with one chosen row.

    Args:
        ids: What each row stands for, at least one.
        rows: The cells by column name, as many as `ids`.
        columns: Streamlit's column settings by column name.
        asked: Chosen until somebody clicks, such as what the address names; else the first row.
        height_px: At most so high; longer tables scroll.

    Returns:
        The id of the chosen row.
    """
    start = ids.index(asked) if asked in ids else 0
    event = st.dataframe(
        rows,
        column_config=columns,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [start]}},
        # A new row on top, or another address, begins a new choice: none is moved along by place.
        key=f"{key}.{ids[0]}.{len(ids)}.{asked}",
        height="content" if ROW_PX * (len(ids) + 1) <= height_px else height_px,
    )
    chosen = event["selection"]["rows"]
    return ids[chosen[0]] if chosen and chosen[0] < len(ids) else ids[start]
