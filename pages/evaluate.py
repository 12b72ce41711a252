"""Evaluate: is an adapter better than its base, on pairs that it never saw?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import auth, navigation, state, wiring
from console.components import (
    chooser,
    empty,
    errors,
    evaluation_view,
    gate_form,
    heading,
    job_status,
    judge_cost,
    verdict,
)
from console.i18n import t, when
from services.evaluation.models import Checks, Evaluation
from services.evaluation.service import is_running
from services.jobs.models import JobStatus
from services.registry.models import Adapter
from services.tenants.models import Actor, Permission, Tenant

MAX_SHOWN = 500  # the newest ones


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
    with st.container(horizontal=True, gap="medium"):
        st.checkbox(t("evaluate.with_texts"), value=True, key="evaluate.texts")
        st.checkbox(t("evaluate.with_tasks"), value=True, key="evaluate.tasks")
        if wiring.services().settings.judge_model:
            st.checkbox(
                t("evaluate.with_judge"), key="evaluate.judge", help=t("evaluate.with_judge_help")
            )
    if state.get("evaluate.judge", False):
        judge_cost.draw(
            actor, tenant.id, state.get("evaluate.adapter"), state.get("evaluate.dataset") or None,
            questions() or None,
        )  # fmt: skip
    st.button(
        t("evaluate.start"), type="primary", icon=":material/balance:", key="evaluate.start",
        on_click=launch, args=(tenant.id,),
    )  # fmt: skip


def questions() -> list[str]:
    """The questions that the form holds."""
    return [line for line in state.get("evaluate.questions", "").splitlines() if line.strip()]


@errors.guarded
def launch(tenant_id: str) -> None:
    """Queue the evaluation of the form."""
    made = wiring.services().evaluations.launch(
        auth.actor(),
        tenant_id,
        state.get("evaluate.adapter"),
        dataset_id=state.get("evaluate.dataset") or None,
        prompts=questions() or None,
        checks=Checks(
            texts=bool(state.get("evaluate.texts", True)),
            tasks=bool(state.get("evaluate.tasks", True)),
            judge=bool(state.get("evaluate.judge", False)),
            judge_cap_micro=round(1e6 * state.get(judge_cost.CAP, judge_cost.USUAL_USD)),
        ),
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


def live(tenant: Tenant, *, moving: bool) -> None:
    """All evaluations and the chosen one, drawn again every two seconds while any is not over."""
    with errors.shown():
        actor = auth.actor()
        found = wiring.services().evaluations.list(actor, tenant.id, limit=MAX_SHOWN)
        if any(is_running(one) for one in found) is not moving:
            st.rerun()
        errors.notices()
        compare(actor, tenant, found)
        heading.section(t("evaluate.all"))
        chosen = wiring.services().evaluations.get(actor, choose(found, tenant))
        title(actor, chosen)
        if chosen.summary is None:
            evaluation_view.unfinished(actor, chosen)
        else:
            evaluation_view.finished(actor, chosen, chosen.summary)


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


def compare(actor: Actor, tenant: Tenant, found: Sequence[Evaluation]) -> None:
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
    navigation.link("compare", actor, tenant.id, t("evaluate.compare_page"))


def page() -> None:
    """Draw the evaluations of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    adapters = wiring.services().registry.list(actor, tenant.id)
    found = wiring.services().evaluations.list(actor, tenant.id, limit=MAX_SHOWN)
    heading.draw(t("nav.evaluate"), t("evaluate.caption"))
    if not adapters:
        empty.draw(t("evaluate.no_adapter"), t("evaluate.no_adapter_text"), icon="balance")
        return
    if actor.may(Permission.TRAIN, tenant.id):
        with st.expander(
            t("evaluate.new"), icon=":material/add:", expanded=not found, key="evaluate.form"
        ):
            launcher(actor, tenant, adapters, {one.adapter for one in found})
    gate_form.draw(actor, tenant)
    if not found:
        empty.draw(t("evaluate.empty"), t("evaluate.empty_text"), icon="balance")
        return
    moving = any(is_running(one) for one in found)
    st.fragment(live, run_every="2s" if moving else None)(tenant, moving=moving)


page()
