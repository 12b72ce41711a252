"""The chain of custody as a table that reads like a tree, each link with what is wrong with it."""

from __future__ import annotations

import streamlit as st

from console.components import heading
from console.i18n import number, t
from services.attestation.chain import Link

_STEP = "\N{NO-BREAK SPACE}" * 4


def draw(root: Link) -> None:
    """Draw a chain."""
    heading.section(t("custody.title"), t("custody.caption"))
    broken = root.broken
    if broken:
        st.warning(t("custody.broken", n=number(len(broken))), icon=":material/link_off:")
    else:
        st.success(t("custody.holds"), icon=":material/link:")
    st.dataframe(
        [_row(depth, link) for depth, link in root.walk()],
        column_config={
            "link": st.column_config.Column(t("custody.link"), width="large"),
            "result": st.column_config.Column(t("custody.result"), width="medium"),
            "entry": t("custody.entry"),
            "statement": st.column_config.Column(t("custody.statement"), width="medium"),
        },
        hide_index=True,
        key="custody.chain",
    )


def _row(depth: int, link: Link) -> dict[str, str]:
    return {
        "link": f"{_STEP * depth}{t(f'custody.kind_{link.kind}')} {link.name}",
        "result": f"✗ {t(f'custody.problem_{link.problem}')}" if link.problem else "✓",
        "entry": "" if link.entry is None else number(link.entry),
        "statement": link.statement,
    }
