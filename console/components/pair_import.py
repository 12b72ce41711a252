"""Taking a file of pairs in: look first, then write."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from console import auth, state, wiring
from console.components import errors, figures, heading
from console.i18n import number, t
from services.preferences.formats import FORMATS
from services.preferences.models import ImportReport, RowError

_FILE = "pairs.file"
_PREVIEW = "pairs.preview"


def draw(tenant_id: str) -> None:
    """Draw the upload, the dry run's counts and errors, and the button that writes."""
    heading.section(t("pairs.import"), t("pairs.import_caption"))
    chosen, format_ = _choose()
    if chosen is None:
        offer_demo(tenant_id)
        return
    report = _preview(tenant_id, chosen, format_)
    counts(report)
    st.button(
        t("pairs.import_now", count=report.imported),
        type="primary",
        icon=":material/download_done:",
        disabled=report.imported == 0,
        key="pairs.import_now",
        on_click=_import,
        args=(tenant_id, format_),
    )
    problems(t("pairs.bad_rows", count=report.rejected), report.errors)
    problems(t("pairs.contradictions", count=len(report.contradictions)), report.contradictions)


def _choose() -> tuple[UploadedFile | None, str]:
    left, right = st.columns([3, 1])
    # The key counts imports: a fresh one empties the field.
    key = f"{_FILE}.{state.get('pairs.imports', 0)}"
    chosen = left.file_uploader(
        t("pairs.file"), type=["jsonl", "json", "csv", "tsv", "gz"], key=key
    )
    format_ = right.selectbox(
        t("pairs.format"),
        ("auto", *FORMATS),
        format_func=lambda name: t("pairs.format_auto") if name == "auto" else name,
        key="pairs.format",
    )
    return chosen, str(format_)


def _preview(tenant_id: str, chosen: UploadedFile, format_: str) -> ImportReport:
    """The dry run of this file in this format, made once."""
    wanted = (chosen.file_id, format_, tenant_id)
    held: tuple[tuple[str, str, str], ImportReport] | None = state.get(_PREVIEW)
    if held is not None and held[0] == wanted:
        return held[1]
    with st.spinner(t("pairs.checking")):
        report = _read(tenant_id, chosen, format_, dry_run=True)
    state.put(_PREVIEW, (wanted, report))
    return report


def _read(tenant_id: str, chosen: UploadedFile, format_: str, *, dry_run: bool) -> ImportReport:
    chosen.seek(0)
    return wiring.services().preferences.import_pairs(
        auth.actor(), tenant_id, chosen, source=chosen.name[:200], format=format_, dry_run=dry_run
    )


@errors.guarded
def _import(tenant_id: str, format_: str) -> None:
    imports = state.get("pairs.imports", 0)
    report = _read(tenant_id, state.get(f"{_FILE}.{imports}"), format_, dry_run=False)
    state.put("pairs.imports", imports + 1)
    state.drop(_PREVIEW)
    errors.leave(t("pairs.imported", count=report.imported))


def offer_demo(tenant_id: str) -> None:
    """Draw the way to the bundled pairs."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(t("pairs.demo_caption"), width="content")
        st.button(
            t("pairs.demo"), key="pairs.demo", type="tertiary", icon=":material/science:",
            on_click=_demo, args=(tenant_id,),
        )  # fmt: skip


@errors.guarded
def _demo(tenant_id: str) -> None:
    report = wiring.services().preferences.load_demo(auth.actor(), tenant_id)
    errors.leave(t("pairs.imported", count=report.imported))


def counts(report: ImportReport) -> None:
    """Draw what a file holds."""
    labels = (
        (t("pairs.count_read"), report.read),
        (t("pairs.count_new"), report.imported),
        (t("pairs.count_duplicates"), report.duplicates),
        (t("pairs.count_rejected"), report.rejected),
    )
    st.caption(t("pairs.found_format", format=report.format))
    figures.draw([(label, number(value)) for label, value in labels])


def problems(title: str, found: tuple[RowError, ...]) -> None:
    """Draw rows that were not taken, by line."""
    if not found:
        return
    with st.expander(title, expanded=True, icon=":material/report:"):
        st.dataframe(
            [{"line": problem.line, "reason": problem.reason} for problem in found],
            column_config={
                "line": st.column_config.NumberColumn(t("pairs.line"), width="small"),
                "reason": st.column_config.Column(t("pairs.reason"), width="large"),
            },
            hide_index=True,
        )
