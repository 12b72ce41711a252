"""Train: launch DPO runs on approved pairs, and watch them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import auth, state, wiring
from console.components import (
    empty,
    errors,
    heading,
    job_status,
    pick_list,
    run_diff,
    run_view,
    train_form,
)
from console.i18n import percent, t, when
from services.jobs.models import JobStatus
from services.tenants.models import Actor, Permission, Tenant
from services.training.models import PRESETS, Run, RunLine

MAX_RUNS = 500  # the newest ones


def choose(runs: Sequence[RunLine], tenant: Tenant) -> str:
    """The list of runs, newest first; the id of the chosen one."""
    statuses = job_status.cells()
    presets = {name: t(f"train.preset_{name}") for name in (*PRESETS, "custom")}
    return pick_list.one(
        {
            run.id: (
                statuses[run.status],
                run.alias,
                presets.get(run.preset, run.preset),
                (run.progress, percent(run.progress)),
                run.adapter or "–",
                run.created_by,
                when(run.created_at, tenant.timezone),
            )
            for run in runs
        },
        [
            pick_list.Column(t("job.status"), "status", width_rem=6.5),
            pick_list.Column(t("train.alias"), width_rem=7.5),
            pick_list.Column(t("train.preset"), width_rem=6),
            pick_list.Column(t("train.done"), "share", width_rem=7.5),
            pick_list.Column(t("train.adapter_name"), "code", width_rem=12),
            pick_list.Column(t("train.launched_by"), width_rem=6.5),
            pick_list.Column(t("train.launched_at"), "newest", width_rem=10),
        ],
        name=t("train.runs"),
        key="train.runs",
        asked=st.query_params.get("run"),
    )


def board(tenant_id: str, *, moving: bool) -> None:
    """The list and the chosen run, drawn again every two seconds while a run waits or trains.

    Args:
        moving: Whether the page is drawing it again and again.
    """
    if state.get("train.clone_it"):
        st.rerun()  # the form that was filled stands outside
    with errors.shown():
        actor, training = auth.actor(), wiring.services().training
        tenant = wiring.services().tenants.get(actor, tenant_id)
        runs = training.lines(actor, tenant_id, limit=MAX_RUNS)
        if any(not run.status.is_final for run in runs) is not moving:
            st.rerun()  # the last one has ended, or one was resumed: the pace changes
        run = training.get(actor, choose(runs, tenant))
        errors.notices()
        title(actor, run)
        run_view.draw(actor, tenant, run, training.metrics(actor, run.id))
        run_diff.draw(actor, run, runs, tenant)


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
    state.put(train_form.FORM, True)
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
        # The list first: it is what most come for; the form above it waits until it is opened.
        st.fragment(board, run_every="2s" if moving else None)(tenant.id, moving=moving)
    if actor.may(Permission.TRAIN, tenant.id):
        form = above.expander(
            t("train.new"), icon=":material/add:", expanded=not has_runs, key=train_form.FORM,
            on_change="rerun",
        )  # fmt: skip
        if form.open:
            with form:
                train_form.draw(actor, tenant)
    if not has_runs:
        empty.draw(t("train.empty"), t("train.empty_text"), icon="model_training")


page()
