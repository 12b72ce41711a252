"""Drafts of pairs that left the desk before their edit was saved."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import text
from console.components.desk import sitting
from console.i18n import t, when


def draw(pair_id: str) -> None:
    """Draw the drafts that belong to another pair than the one on the desk, if there are any."""
    if not state.get(sitting.KEPT, True):
        return
    drafts = wiring.review_queue().my_drafts(auth.actor(), state.require_tenant())
    others = [draft for draft in drafts if draft.pair_id != pair_id]
    state.put(sitting.KEPT, bool(drafts))
    if not others:
        return
    with st.expander(t("review.drafts", count=len(others)), icon=":material/draft:"):
        st.caption(t("review.drafts_text"))
        for draft in others:
            st.caption(when(draft.updated_at))
            st.html(text.html_of(draft.text, as_markdown=False, limit=None))
