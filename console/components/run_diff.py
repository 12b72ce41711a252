"""Two runs beside each other: what they were told differently, and where they ended."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import wiring
from console.components import job_status, run_view
from console.i18n import number, t, when
from services.tenants.models import Actor, Tenant
from services.training.models import Run, RunLine, differences

_ENDS = ("loss", "margin", "accuracy", "tokens_per_s")


def draw(actor: Actor, run: Run, runs: Sequence[RunLine], tenant: Tenant) -> None:
    """Let the reader choose another run and draw the differences."""
    others = {other.id: other for other in runs if other.id != run.id}
    if not others or not (part := run_view.folded("compare")):
        return
    with part:
        first = run.parent_id if run.parent_id in others else None
        chosen = st.selectbox(
            t("train.compare_with"), list(others), key=f"train.compare.{run.id}",
            index=list(others).index(first) if first else 0,
            format_func=lambda found: _named(others[found], tenant.timezone),
        )  # fmt: skip
        _table(run, wiring.services().training.get(actor, str(chosen)))


def _named(run: RunLine, zone: str) -> str:
    status = job_status.label(run.status)
    return f"{run.alias} · …{run.id[-6:]} · {status} · {when(run.created_at, zone)}"


def _table(run: Run, other: Run) -> None:
    told = differences(run, other)
    if not told:
        st.info(t("train.compare_same"), icon=":material/drag_handle:")
    rows = [(name, _cell(one), _cell(two)) for name, one, two in told]
    rows += [(t(f"train.end_{name}"), _end(run, name), _end(other, name)) for name in _ENDS]
    st.dataframe(
        [{"name": name, "this": one, "other": two} for name, one, two in rows],
        column_config={
            "name": t("train.fact"),
            "this": f"{run.spec.alias} · …{run.id[-6:]}",
            "other": f"{other.spec.alias} · …{other.id[-6:]}",
        },
        hide_index=True,
        height="content",
    )


def _cell(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text


def _end(run: Run, name: str) -> str:
    value = run.result.get("final", {}).get(name)
    return "–" if value is None else number(float(value), 3)
