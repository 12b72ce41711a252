"""Taking files of pairs in: choose, look, then write.

Nothing is written before somebody has seen what is in the file: how many rows there are, the first
of them as they will stand, and every row that cannot be used, with its line and the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from console import auth, state, wiring
from console.components import errors, figures, heading, text
from console.i18n import number, t
from services import spreadsheet
from services.preferences.formats import FORMATS, MAX_ERRORS
from services.preferences.models import ImportReport, RowError
from services.preferences.self_instruct import models_of, source_of
from services.preferences.service import PURPOSES

_FILE = "pairs.file"
_PREVIEW = "pairs.preview"
_SHOWN = 200
"""Bad rows on the screen; the download has all that the report holds."""
_SAMPLE_CHARS = 2_000


def draw(tenant_id: str) -> None:
    """Draw the upload, the dry run's counts, rows and errors, and the button that writes."""
    heading.section(t("pairs.import"), t("pairs.import_caption"))
    files, format_, purpose = _choose()
    if not files:
        offer_demo(tenant_id)
        return
    report = _preview(tenant_id, files, format_)
    counts(report)
    problems(t("pairs.bad_rows", count=report.rejected), report.errors, "bad_rows")
    contradictions = report.contradictions
    problems(t("pairs.contradictions", count=len(contradictions)), contradictions, "contradictions")
    _sample(report)
    _agree(tenant_id, report, format_, purpose)


def _choose() -> tuple[list[UploadedFile], str, str]:
    # The key counts imports: a fresh one empties the field.
    files = st.file_uploader(
        t("pairs.file"), type=["jsonl", "json", "csv", "tsv", "gz"], accept_multiple_files=True,
        key=f"{_FILE}.{state.get('pairs.imports', 0)}",
    )  # fmt: skip
    left, right = st.columns(2)
    format_ = left.selectbox(
        t("pairs.format"), ("auto", *FORMATS), key="pairs.format",
        format_func=lambda name: t("pairs.format_auto") if name == "auto" else name,
        help=t("pairs_import.format_help"),
    )  # fmt: skip
    purpose = right.selectbox(
        t("pairs_import.purpose"), PURPOSES, key="pairs.purpose",
        format_func=lambda name: t(f"pairs_import.purpose_{name}"),
        help=t("pairs_import.purpose_help"),
    )  # fmt: skip
    return files, str(format_), str(purpose)


def _preview(tenant_id: str, files: Sequence[UploadedFile], format_: str) -> ImportReport:
    """The dry run of these files in this format, made once."""
    wanted = (tuple(file.file_id for file in files), format_, tenant_id)
    held: tuple[Any, ImportReport] | None = state.get(_PREVIEW)
    if held is not None and held[0] == wanted:
        return held[1]
    with st.spinner(t("pairs.checking")):
        report = _read(tenant_id, files, format_, dry_run=True)
    state.put(_PREVIEW, (wanted, report))
    return report


def _read(
    tenant_id: str,
    files: Sequence[UploadedFile],
    format_: str,
    *,
    dry_run: bool,
    purpose: str = "training",
) -> ImportReport:
    for file in files:
        file.seek(0)
    names = [file.name for file in files]
    named = dict(zip(models_of(names), files, strict=True))
    return wiring.services().preferences.import_pairs(
        auth.actor(), tenant_id, files[0] if len(files) == 1 else named,
        source=source_of(names), format=format_, dry_run=dry_run,
        purpose="evaluation" if purpose == "evaluation" else "training",
    )  # fmt: skip


def _agree(tenant_id: str, report: ImportReport, format_: str, purpose: str) -> None:
    """Draw the button that writes; where rows are bad, only for who leaves them out knowingly."""
    agreed = not report.rejected or st.checkbox(
        t("pairs_import.leave_out", count=report.rejected), key="pairs.leave_out"
    )
    st.button(
        t("pairs.import_now", count=report.imported),
        type="primary",
        icon=":material/download_done:",
        disabled=report.imported == 0 or not agreed,
        key="pairs.import_now",
        on_click=_import,
        args=(tenant_id, format_, purpose),
    )


@errors.guarded
def _import(tenant_id: str, format_: str, purpose: str) -> None:
    imports = state.get("pairs.imports", 0)
    files = state.get(f"{_FILE}.{imports}")
    report = _read(tenant_id, files, format_, dry_run=False, purpose=purpose)
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


def problems(title: str, found: tuple[RowError, ...], name: str) -> None:
    """Draw rows that were not taken, by line, and hand them out as a file."""
    if not found:
        return
    with st.expander(title, expanded=True, icon=":material/report:"):
        st.dataframe(
            [{"line": problem.line, "reason": problem.reason} for problem in found[:_SHOWN]],
            column_config={
                "line": st.column_config.NumberColumn(t("pairs.line"), width="small"),
                "reason": st.column_config.Column(t("pairs.reason"), width="large"),
            },
            hide_index=True,
        )
        if len(found) > _SHOWN:
            st.caption(t("pairs_import.shown", shown=_SHOWN, count=len(found)))
        if len(found) >= MAX_ERRORS:
            st.caption(t("pairs_import.first_only", count=MAX_ERRORS))
        _downloads(found, name)


def _downloads(found: tuple[RowError, ...], name: str) -> None:
    rows = [(problem.line, problem.reason) for problem in found]
    kinds = (
        ("CSV", "csv", "text/csv", lambda: spreadsheet.csv_of(("line", "reason"), rows)),
        (
            "JSON Lines", "jsonl", "application/jsonl",
            lambda: spreadsheet.jsonl_of(("line", "reason"), rows),
        ),
    )  # fmt: skip
    with st.container(horizontal=True):
        for label, ending, mime, data in kinds:
            st.download_button(
                label, data, f"{name}.{ending}", mime, key=f"pairs.{name}.{ending}",
                icon=":material/download:", on_click="ignore", type="tertiary",
            )  # fmt: skip


def _sample(report: ImportReport) -> None:
    """Draw the first good rows as they will stand."""
    if not report.sample:
        return
    with st.expander(t("pairs_import.sample"), icon=":material/visibility:", expanded=True):
        for row in report.sample:
            st.caption(t("pairs_import.line", line=row.line))
            last = [turn for turn in row.turns if turn.role == "user"][-1:]
            text.turns(last, as_markdown=False)
            for index, column in enumerate(st.columns(2, gap="medium")):
                is_better = row.preferred == index
                label = t("pairs.import_preferred") if is_better else t("pairs.answer")
                with column:
                    text.answer(row.answers[index][:_SAMPLE_CHARS], label=label, as_markdown=False)
