"""What a check found: counts, doubts, each gate with its pairs, and the files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import streamlit as st

from console import downloads, wiring
from console.components import chooser, figures, gate_reason, pair_detail
from console.components.text import plain, shortened
from console.i18n import number, percent, t
from services.preferences.quality import Found, QualityReport
from services.tenants.models import Actor, Permission, Tenant

PER_PAGE = 25


def draw(actor: Actor, tenant: Tenant, report: QualityReport) -> None:
    """Draw one check."""
    content = report.content
    share = content["measures"]["length"]["p_chosen_longer"]
    figures.draw(
        [
            (t("quality.train"), number(content["counts"]["train"])),
            (t("quality.eval"), number(content["counts"]["eval"])),
            (t("quality.dropped"), number(content["counts"]["dropped"])),
            (t("quality.longer"), "–" if share is None else percent(share)),
        ]
    )
    _doubts(content)
    if not report.is_kept:
        st.info(t("quality.older"), icon=":material/history:")
    elif actor.may(Permission.EDIT_PAIRS, tenant.id):
        _download(actor, tenant, report)
    gate = _gates(content["gates"], report.id)
    if report.is_kept:
        _rows(actor, tenant, report, gate)


def _doubts(content: Mapping[str, Any]) -> None:
    """What the gates over the whole set warn of, each in a sentence with its figures."""
    warned = {gate["gate"] for gate in content["gates"] if gate["of_set"] and gate["pairs"]}
    sentences = []
    if "length_bias" in warned:
        length = content["measures"]["length"]
        longer = round(100 * length["p_chosen_longer"])
        effect = number(length["cohens_d"], 2)
        sentences.append(t("quality.length_doubt", percent=longer, effect=effect))
    if "source_balance" in warned:
        shares = content["measures"]["writers"]["chosen"]
        name = max((name for name in shares if name), key=lambda name: shares[name])
        part = round(100 * shares[name])
        sentences.append(t("quality.source_doubt", name=plain(name), percent=part))
    if "agreement" in warned:
        sentences.append(_agreement(content["agreement"]))
    for sentence in sentences:
        st.warning(sentence, icon=":material/warning:")
    if content["tokenizer"] is None:
        st.info(t("quality.no_tokenizer"), icon=":material/info:")


def _agreement(agreement: Mapping[str, Any]) -> str:
    if agreement["alpha"] is None:
        return t("quality.agreement_unknown", count=agreement["pairs"])
    alpha = number(agreement["alpha"], 2)
    return t("quality.agreement_doubt", alpha=alpha, count=agreement["pairs"])


def _download(actor: Actor, tenant: Tenant, report: QualityReport) -> None:
    quality = wiring.services().quality
    st.download_button(
        t("quality.download"),
        lambda: downloads.zipped(
            lambda folder: shutil.copytree(quality.files(actor, tenant.id, report.id), folder)
        ),
        file_name=f"{tenant.id}-pairs-{report.sha256[:8]}.zip",
        mime="application/zip",
        type="primary",
        icon=":material/archive:",
        on_click="ignore",
        key="quality.download",
    )


def _gates(gates: list[Mapping[str, Any]], report_id: str) -> str:
    """The table of gates, those that found something first; the name of the chosen one."""
    ordered = sorted(gates, key=lambda gate: (gate["of_set"], not gate["pairs"]))
    return chooser.one(
        [gate["gate"] for gate in ordered],
        [
            {
                "gate": t(f"quality.gate_{gate['gate']}"),
                "found": _count(gate),
                "does": t(f"quality.action_{gate['action']}"),
                "help": t(f"quality.gate_{gate['gate']}_help"),
            }
            for gate in ordered
        ],
        columns={
            "gate": st.column_config.Column(t("quality.gate"), width="medium"),
            "found": st.column_config.Column(t("quality.found"), width="small"),
            "does": st.column_config.Column(t("quality.does"), width="small"),
            "help": st.column_config.Column("", width="large"),
        },
        key=f"quality.gates.{report_id}",
        height_px=380,
    )


def _count(gate: Mapping[str, Any]) -> str:
    if not gate["is_checked"]:
        return t("quality.not_checked")
    if gate["of_set"]:
        return t("quality.in_doubt") if gate["pairs"] else "–"
    return number(gate["pairs"])


def _rows(actor: Actor, tenant: Tenant, report: QualityReport, gate: str) -> None:
    """The pairs of one gate, a page at a time, and the chosen one in full."""
    key = f"quality.page.{report.id}.{gate}"
    page = int(st.session_state.get(key, 1))
    found = wiring.services().quality.rows(
        actor, tenant.id, report.id, gate, limit=PER_PAGE, offset=(page - 1) * PER_PAGE
    )
    st.subheader(t(f"quality.gate_{gate}"), anchor=False)
    if not found.rows:
        st.caption(t("quality.nothing_found"))
        return
    chosen = _table(found, f"{gate}.{page}")
    _turn(found, page, key)
    if chosen is None:
        st.caption(t("quality.choose_row"))
        return
    pair = wiring.services().preferences.pair(actor, tenant.id, chosen)
    pair_detail.draw(pair, reader_id=actor.id, zone=tenant.timezone)


def _table(found: Found, name: str) -> str | None:
    event = st.dataframe(
        [
            {"prompt": shortened(pair.prompt.question), "reason": gate_reason.shown(reason)}
            for pair, reason in found.rows
        ],
        column_config={
            "prompt": st.column_config.Column(t("quality.prompt"), width="large"),
            "reason": st.column_config.Column(t("quality.reason"), width="medium"),
        },
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"quality.rows.{name}",
    )
    rows = event["selection"]["rows"]
    return found.rows[rows[0]][0].id if rows and rows[0] < len(found.rows) else None


def _turn(found: Found, page: int, key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        first = (page - 1) * PER_PAGE + 1
        last = first + len(found.rows) - 1
        st.caption(t("quality.range", first=first, last=last, total=found.total))
        if found.total > PER_PAGE:
            st.pagination(-(-found.total // PER_PAGE), key=key)
