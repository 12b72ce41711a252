"""Generate: pairs by AI feedback, from prompts to verdicts, within a budget."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import auth, state, wiring
from console.components import (
    chooser,
    empty,
    errors,
    generate_form,
    generate_view,
    heading,
    job_status,
)
from console.i18n import number, t, when
from services.jobs.models import JobStatus
from services.rlaif.models import Outcome, Run, Selection
from services.tenants.models import Actor, Permission, Tenant

MAX_RUNS = 500  # the newest ones


def choose(runs: Sequence[Run], tenant: Tenant) -> str:
    """The list of runs, newest first; the id of the chosen one."""
    return chooser.one(
        [run.id for run in runs],
        [
            {
                "status": [job_status.label(run.job.status)],
                "what": t(f"generate.kind_{run.spec.kind}"),
                "source": run.spec.source if run.counts.prompts else run.spec.from_source or "–",
                "pairs": number(run.counts.published),
                "spent": number(run.spent_micro / 1e6, 4),
                "cap": number(run.cap_micro / 1e6, 2),
                "at": when(run.created_at, tenant.timezone),
            }
            for run in runs
        ],
        columns={
            "status": job_status.column(),
            "what": t("generate.kind"),
            "source": st.column_config.Column(t("generate.source"), width="medium"),
            "pairs": t("generate.pairs"),
            "spent": t("generate.spent_usd"),
            "cap": t("generate.cap_usd"),
            "at": t("generate.launched_at"),
        },
        key="generate.runs",
        asked=st.query_params.get("generation"),
    )


def watch(run_id: str, *, moving: bool) -> None:
    """The chosen run, drawn again every two seconds until it has ended."""
    with errors.shown():
        actor = auth.actor()
        run = wiring.services().rlaif.get(actor, run_id)
        if run.job.status.is_final is moving:
            st.rerun()
        errors.notices()
        tenant = wiring.services().tenants.get(actor, run.tenant_id)
        title(actor, run)
        generate_view.draw(actor, tenant, run)


def title(actor: Actor, run: Run) -> None:
    """What the run is and how it stands, and what may be done with it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(t(f"generate.kind_{run.spec.kind}"), anchor=False, width="content")
        job_status.badge(run.job.status)
        if run.outcome is Outcome.CAP_REACHED:
            st.badge(t("generate.cap_reached"), color="orange", icon=":material/savings:")
        if not actor.may(Permission.EDIT_PAIRS, run.tenant_id):
            return
        if run.job.status in {JobStatus.QUEUED, JobStatus.RUNNING}:
            st.button(
                t("generate.stop"), icon=":material/stop:", key="generate.stop", on_click=stop,
                args=(run.id,),
            )  # fmt: skip
    if actor.may(Permission.EDIT_PAIRS, run.tenant_id) and run.job.status.is_final:
        generate_view.again(run)


@errors.guarded
def stop(run_id: str) -> None:
    """Have the run keep what it has and end."""
    wiring.services().rlaif.stop(auth.actor(), run_id)
    errors.leave(t("generate.stopping"), "info")


def edited(actor: Actor, tenant: Tenant) -> None:
    """Say how many pairs were edited after they were judged, and offer to judge them again."""
    waiting = wiring.services().rlaif.waiting(actor, tenant.id, Selection.STALE)
    if waiting:
        st.info(t("generate.edited", count=waiting), icon=":material/edit_note:")


def page() -> None:
    """Draw the runs of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    rlaif = wiring.services().rlaif
    runs = rlaif.list(actor, tenant.id, limit=MAX_RUNS)
    heading.draw(t("nav.generate"), t("generate.caption"))
    if not rlaif.is_configured:
        st.info(t("generate.no_judge"), icon=":material/gavel:")
    elif actor.may(Permission.EDIT_PAIRS, tenant.id):
        edited(actor, tenant)
        with st.expander(
            t("generate.new"), icon=":material/add:", expanded=not runs, key="generate.form"
        ):
            generate_form.draw(actor, tenant)
    if not runs:
        empty.draw(t("generate.empty"), t("generate.empty_text"), icon="auto_awesome")
        return
    run_id = choose(runs, tenant)
    moving = any(run.id == run_id and not run.job.status.is_final for run in runs)
    st.fragment(watch, run_every="2s" if moving else None)(run_id, moving=moving)


page()
