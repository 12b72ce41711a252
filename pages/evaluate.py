"""Evaluate: is an adapter better than its base, on pairs that it never saw?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import auth, state, wiring
from console.components import (
    chooser,
    empty,
    errors,
    evaluation_view,
    heading,
    job_status,
    verdict,
)
from console.i18n import t, when
from services.evaluation.models import Evaluation
from services.jobs.models import JobStatus
from services.registry.models import Adapter
from services.tenants.models import Actor, Permission, Tenant


def launcher(actor: Actor, tenant: Tenant, adapters: Sequence[Adapter], tried: set[str]) -> None:
    """Ask which adapter is put to the test, and on what."""
    fresh = [adapter.name for adapter in adapters if adapter.name not in tried]
    names = [adapter.name for adapter in adapters]
    datasets = {
        found.id: t("evaluate.dataset_name", digest=found.sha256[:8], held_out=found.n_eval)
        for found in wiring.services().preferences.datasets(actor, tenant.id)
    }
    left, right = st.columns(2)
    start = names.index(fresh[0]) if fresh else 0
    left.selectbox(t("evaluate.adapter"), names, start, key="evaluate.adapter")
    right.selectbox(
        t("evaluate.dataset"), ["", *datasets], key="evaluate.dataset",
        format_func=lambda found: datasets.get(found, t("evaluate.own_dataset")),
    )  # fmt: skip
    st.text_area(
        t("evaluate.questions"), key="evaluate.questions", height=90,
        placeholder=t("evaluate.questions_example"),
    )  # fmt: skip
    st.button(
        t("evaluate.start"), type="primary", icon=":material/balance:", key="evaluate.start",
        on_click=launch, args=(tenant.id,),
    )  # fmt: skip


@errors.guarded
def launch(tenant_id: str) -> None:
    """Queue the evaluation of the form."""
    questions = [line for line in state.get("evaluate.questions", "").splitlines() if line.strip()]
    made = wiring.services().evaluations.launch(
        auth.actor(),
        tenant_id,
        state.get("evaluate.adapter"),
        dataset_id=state.get("evaluate.dataset") or None,
        prompts=questions or None,
    )
    st.query_params["evaluation"] = made.id
    errors.leave(t("evaluate.launched"))


def choose(found: Sequence[Evaluation], tenant: Tenant) -> str:
    """The list, newest first; the id of the chosen one."""
    return chooser.one(
        [one.id for one in found],
        [
            {
                "status": [job_status.label(one.job.status)],
                "adapter": one.adapter,
                "verdict": verdict.word(one.summary.verdict) if one.summary else "–",
                "data": one.dataset_sha256[:8],
                "by": one.created_by,
                "at": when(one.created_at, tenant.timezone),
            }
            for one in found
        ],
        columns={
            "status": job_status.column(),
            "adapter": st.column_config.Column(t("evaluate.adapter"), width="medium"),
            "verdict": t("evaluate.verdict"),
            "data": t("evaluate.dataset"),
            "by": t("evaluate.launched_by"),
            "at": t("evaluate.launched_at"),
        },
        key="evaluate.list",
        asked=st.query_params.get("evaluation"),
    )


def watch(evaluation_id: str, *, moving: bool) -> None:
    """The chosen evaluation, drawn again every two seconds until it has ended."""
    with errors.shown():
        actor = auth.actor()
        found = wiring.services().evaluations.get(actor, evaluation_id)
        if found.job.status.is_final is moving:
            st.rerun()
        errors.notices()
        title(actor, found)
        if found.summary is None:
            evaluation_view.unfinished(actor, found)
        else:
            evaluation_view.finished(actor, found, found.summary)


def title(actor: Actor, found: Evaluation) -> None:
    """Adapter and verdict, and what may be done."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(found.adapter, anchor=False, width="content")
        if found.summary is not None:
            verdict.badge(found.summary.verdict)
            return
        job_status.badge(found.job.status)
        if not actor.may(Permission.TRAIN, found.tenant_id):
            return
        if found.job.status in {JobStatus.QUEUED, JobStatus.RUNNING}:
            st.button(t("evaluate.stop"), key="evaluate.stop", on_click=stop, args=(found.id,))
        if found.job.status in {JobStatus.STOPPED, JobStatus.FAILED}:
            st.button(
                t("evaluate.resume"), key="evaluate.resume", on_click=resume, args=(found.id,)
            )


@errors.guarded
def stop(evaluation_id: str) -> None:
    """Have the evaluation keep what it scored and end."""
    wiring.services().evaluations.stop(auth.actor(), evaluation_id)


@errors.guarded
def resume(evaluation_id: str) -> None:
    """Queue the evaluation again."""
    wiring.services().evaluations.resume(auth.actor(), evaluation_id)


def compare(found: Sequence[Evaluation]) -> None:
    """The newest finished evaluations of the chosen adapters, beside each other."""
    newest: dict[str, Evaluation] = {}
    for one in found:
        if one.summary is not None:
            newest.setdefault(one.adapter, one)
    if len(newest) < 2:
        return
    heading.section(t("evaluate.compare"), t("evaluate.compare_caption"))
    chosen = st.multiselect(
        t("evaluate.adapters"), list(newest), list(newest)[:4], key="evaluate.chosen",
        label_visibility="collapsed",
    )  # fmt: skip
    pairs = [(newest[name], newest[name].summary) for name in chosen]
    evaluation_view.compared([(one, summary) for one, summary in pairs if summary is not None])


def page() -> None:
    """Draw the evaluations of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    adapters = wiring.services().registry.list(actor, tenant.id)
    found = wiring.services().evaluations.list(actor, tenant.id)
    heading.draw(t("nav.evaluate"), t("evaluate.caption"))
    if not adapters:
        empty.draw(t("evaluate.no_adapter"), t("evaluate.no_adapter_text"), icon="balance")
        return
    if actor.may(Permission.TRAIN, tenant.id):
        with st.expander(t("evaluate.new"), icon=":material/add:", expanded=not found):
            launcher(actor, tenant, adapters, {one.adapter for one in found})
    if not found:
        empty.draw(t("evaluate.empty"), t("evaluate.empty_text"), icon="balance")
        return
    compare(found)
    heading.section(t("evaluate.all"))
    chosen = choose(found, tenant)
    moving = any(one.id == chosen and not one.job.status.is_final for one in found)
    st.fragment(watch, run_every="2s" if moving else None)(chosen, moving=moving)


page()
