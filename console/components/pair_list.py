"""One page of a list of pairs, and the way through its pages."""

from __future__ import annotations

import streamlit as st

from console.components import pair_filters
from console.components.text import shortened
from console.i18n import t
from services.preferences.models import Page, Pair


def table(found: Page) -> str | None:
    """Draw one page of the list; the id of the chosen pair."""
    event = st.dataframe(
        [
            {
                "prompt": shortened(pair.prompt.question),
                "status": t(f"pairs.status_{pair.status.value}"),
                "marks": _marks(pair),
                "turns": len(pair.prompt.turns),
                "language": t(f"pairs_filter.in_{pair.language}"),
                "source": shortened(pair.source, 60),
            }
            for pair in found.pairs
        ],
        column_config={
            "prompt": st.column_config.Column(t("pairs.prompt"), width="large"),
            "status": st.column_config.Column(t("pairs.status"), width=110),
            "marks": st.column_config.ListColumn(t("pairs_filter.marks"), width="medium"),
            "turns": st.column_config.NumberColumn(t("pairs.turns"), width="small"),
            "language": st.column_config.Column(t("pairs.language"), width="small"),
            "source": st.column_config.Column(t("pairs.source"), width="small"),
        },
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        # Other rows are another table: no choice is moved along by place.
        key=f"pairs.table.{found.offset}.{found.pairs[0].id}.{len(found.pairs)}",
    )
    rows = event["selection"]["rows"]
    return found.pairs[rows[0]].id if rows and rows[0] < len(found.pairs) else None


def _marks(pair: Pair) -> list[str]:
    """What stands out about a pair, in words."""
    facts = (
        ("evaluation", pair.is_evaluation),
        ("gold", pair.gold_response_id is not None),
        ("stale", pair.is_stale),
        ("edited", pair.is_edited),
    )
    marks = [t(f"pairs_filter.mark_{name}") for name, holds in facts if holds]
    return marks + [t(f"pairs_filter.lint_{name}") for name in pair.lints]


def turn_pages(found: Page) -> None:
    """Say where in the list this is, and turn its pages."""
    last = -(-found.total // found.limit)
    with st.container(horizontal=True, vertical_alignment="center"):
        first, end = found.offset + 1, found.offset + len(found.pairs)
        text = "pairs_filter.range_capped" if found.is_capped else "pairs.range"
        st.caption(t(text, first=first, last=end, total=found.total))
        if last > 1:
            st.pagination(last, key=pair_filters.PAGE)
