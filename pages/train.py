"""Train: launch DPO runs on approved pairs, and watch them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import auth, state, wiring
from console.components import (
    chooser,
    empty,
    errors,
    heading,
    job_status,
    run_diff,
    run_view,
    train_form,
)
from console.i18n import t, when
from services.jobs.models import JobStatus
from services.tenants.models import Actor, Permission, Tenant
from services.training.models import Run

MAX_RUNS = 500  # the newest ones


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


def board(tenant_id: str, *, moving: bool) -> None:
    """The list and the chosen run, drawn again every two seconds while a run waits or trains.

    Args:
        moving: Whether the page is drawing it again and again.
    """
    with errors.shown():
        actor, training = auth.actor(), wiring.services().training
        tenant = wiring.services().tenants.get(actor, tenant_id)
        runs = training.list(actor, tenant_id, limit=MAX_RUNS)
        if any(not run.job.status.is_final for run in runs) is not moving:
            st.rerun()  # the last one has ended, or one was resumed: the pace changes
        run_id = choose(runs, tenant)
        run = next(found for found in runs if found.id == run_id)
        errors.notices()
        title(actor, run)
        run_view.draw(actor, tenant, run, training.metrics(actor, run_id))
        run_diff.draw(run, runs, tenant)


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
        st.button(
            t("train.clone_it"), icon=":material/content_copy:", key="train.clone_it",
            on_click=clone, args=(run.id,), help=t("train.clone_help"),
        )  # fmt: skip
        if run.job.status in {JobStatus.STOPPED, JobStatus.FAILED}:
            st.button(
                t("train.resume"), icon=":material/play_arrow:", key="train.resume",
                on_click=resume, args=(run.id,),
            )  # fmt: skip


@errors.guarded
def clone(run_id: str) -> None:
    """Begin the form with the settings of this run."""
    state.put(train_form.CLONE, run_id)
    errors.leave(t("train.cloning"), "info")


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
    has_runs, moving = wiring.services().training.standing(actor, tenant.id)
    heading.draw(t("nav.train"), t("train.caption"))
    above = st.container()
    if has_runs:
        # The list first: it is what most come for, and the form above it takes longer.
        st.fragment(board, run_every="2s" if moving else None)(tenant.id, moving=moving)
    if actor.may(Permission.TRAIN, tenant.id):
        cloning = bool(state.get(train_form.CLONE))
        with above.expander(
            t("train.new"),
            icon=":material/add:",
            expanded=not has_runs or cloning,
            key="train.form",
        ):
            train_form.draw(actor, tenant)
    if not has_runs:
        empty.draw(t("train.empty"), t("train.empty_text"), icon="model_training")


page()
