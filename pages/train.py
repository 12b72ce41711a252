"""Train: launch DPO runs on approved pairs, and watch them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import auth, state, wiring
from console.components import chooser, empty, errors, heading, job_status, run_view, train_form
from console.i18n import t, when
from services.jobs.models import JobStatus
from services.tenants.models import Actor, Permission, Tenant
from services.training.models import Run


def choose(runs: Sequence[Run], tenant: Tenant) -> str:
    """The list of runs, newest first; the id of the chosen one."""
    return chooser.one(
        [run.id for run in runs],
        [
            {
                "status": [job_status.label(run.job.status)],
                "alias": run.spec.alias,
                "preset": t(f"train.preset_{run.spec.preset}"),
                "done": run.job.progress,
                "adapter": run.adapter or "–",
                "by": run.created_by,
                "at": when(run.created_at, tenant.timezone),
            }
            for run in runs
        ],
        columns={
            "status": job_status.column(),
            "alias": t("train.alias"),
            "preset": t("train.preset"),
            "done": st.column_config.ProgressColumn(t("train.done"), format="percent"),
            "adapter": st.column_config.Column(t("train.adapter_name"), width="medium"),
            "by": t("train.launched_by"),
            "at": t("train.launched_at"),
        },
        key="train.runs",
        asked=st.query_params.get("run"),
    )


def watch(run_id: str, *, moving: bool) -> None:
    """The chosen run, drawn again every two seconds until it has ended.

    Args:
        moving: Whether the page is drawing it again and again.
    """
    with errors.shown():
        actor = auth.actor()
        run = wiring.services().training.get(actor, run_id)
        if run.job.status.is_final is moving:
            st.rerun()  # it has ended, or was resumed: the whole page shows that
        errors.notices()
        tenant = wiring.services().tenants.get(actor, run.tenant_id)
        title(actor, run)
        run_view.draw(actor, tenant, run, wiring.services().training.metrics(actor, run_id))


def title(actor: Actor, run: Run) -> None:
    """Name and status of the run, and what may be done with it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(run.spec.alias, anchor=False, width="content")
        job_status.badge(run.job.status)
        if not actor.may(Permission.TRAIN, run.tenant_id):
            return
        if run.job.status in {JobStatus.QUEUED, JobStatus.RUNNING}:
            st.button(
                t("train.stop"), icon=":material/stop:", key="train.stop", on_click=stop,
                args=(run.id,),
            )  # fmt: skip
        if run.job.status in {JobStatus.STOPPED, JobStatus.FAILED}:
            st.button(
                t("train.resume"), icon=":material/play_arrow:", key="train.resume",
                on_click=resume, args=(run.id,),
            )  # fmt: skip


@errors.guarded
def stop(run_id: str) -> None:
    """Have the run save its state and end."""
    wiring.services().training.stop(auth.actor(), run_id)
    errors.leave(t("train.stopping"), "info")


@errors.guarded
def resume(run_id: str) -> None:
    """Queue the run again, to go on where it was."""
    wiring.services().training.resume(auth.actor(), run_id)
    errors.leave(t("train.resumed"))


def page() -> None:
    """Draw the runs of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    runs = wiring.services().training.list(actor, tenant.id)
    heading.draw(t("nav.train"), t("train.caption"))
    if actor.may(Permission.TRAIN, tenant.id):
        with st.expander(t("train.new"), icon=":material/add:", expanded=not runs):
            train_form.draw(actor, tenant)
    if not runs:
        empty.draw(t("train.empty"), t("train.empty_text"), icon="model_training")
        return
    run_id = choose(runs, tenant)
    moving = any(run.id == run_id and not run.job.status.is_final for run in runs)
    st.fragment(watch, run_every="2s" if moving else None)(run_id, moving=moving)


page()
