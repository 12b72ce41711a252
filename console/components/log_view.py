"""Entries of the audit log, and what a check of the whole log found."""

from __future__ import annotations

import io
from collections.abc import Sequence

import streamlit as st

from console import wiring
from console.components import chooser, errors
from console.i18n import clock, number, t, when
from services.audit.models import Entry
from services.tenants.models import Actor


def entries(found: Sequence[Entry], zone: str, *, everywhere: bool) -> Entry:
    """Draw a page of entries; the chosen one."""
    columns = {
        "seq": st.column_config.Column(t("audit.seq"), width="small"),
        "at": t("audit.at"),
        "who": t("audit.who"),
        "action": st.column_config.Column(t("audit.action"), width="medium"),
        "subject": st.column_config.Column(t("audit.subject"), width="medium"),
    }
    if everywhere:
        columns["tenant"] = t("audit.tenant")
    chosen = chooser.one(
        [str(entry.seq) for entry in found],
        [
            {
                "seq": number(entry.seq),
                "at": f"{when(entry.at, zone)}{clock(entry.at, zone)[5:]}",
                "who": entry.actor_name,
                "action": entry.action,
                "subject": entry.subject,
                **({"tenant": entry.tenant_id or "–"} if everywhere else {}),
            }
            for entry in found
        ],
        columns=columns,
        key="audit.entries",
        asked=st.query_params.get("entry"),
        height_px=420,
    )
    return next(entry for entry in found if str(entry.seq) == chosen)


def details(entry: Entry, zone: str) -> None:
    """Draw one entry in full."""
    st.markdown(f"**{t('audit.entry', seq=entry.seq)}**")
    facts = {
        t("audit.at"): f"{when(entry.at, zone)} · {entry.at.isoformat()}",
        t("audit.who"): f"{entry.actor_name} ({entry.actor_id})",
        t("audit.action"): entry.action,
        t("audit.subject"): entry.subject,
        **{name: _plain(value) for name, value in entry.details.items()},
        t("audit.leaf"): entry.leaf_hash,
        t("audit.chain"): entry.chain_hash,
    }
    st.dataframe(
        [{"name": name, "value": value} for name, value in facts.items()],
        column_config={
            "name": t("audit.what"),
            "value": st.column_config.Column(t("audit.value"), width="large"),
        },
        hide_index=True,
        height="content",
    )


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(part) for part in value)
    return "–" if value in (None, "") else str(value)


def check() -> None:
    """Recompute the whole log and say what came out."""
    with errors.shown(), st.spinner(t("audit.checking")):
        outside = wiring.services().evidence.outside
        last = outside.last()
        found = wiring.services().audit.verify(outside=[] if last is None else [last[1]])
        compared = outside.compare()
        st.success(
            t("audit.holds", count=found.size, checkpoints=found.checkpoints),
            icon=":material/verified:",
        )
        if compared:
            st.caption(t("audit.holds_outside", count=compared))
        st.caption(t("audit.root"))
        st.code(found.root, language=None, wrap_lines=True)


def exported(actor: Actor, tenant_id: str | None) -> bytes:
    """The log as JSON lines."""
    out = io.StringIO()
    wiring.services().audit.export(actor, tenant_id, out)
    return out.getvalue().encode()
