"""Quality and export: what the gates find, and the files that training reads."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import empty, errors, heading, job_status, quality_form, quality_report
from console.i18n import t, when
from services.jobs.models import Job
from services.preferences.quality import QualityReport
from services.tenants.models import Actor, Permission, Tenant


def watch(tenant_id: str) -> None:
    """The check under way, drawn again every two seconds until it has ended."""
    with errors.shown():
        actor = auth.actor()
        job = wiring.services().quality.running(actor, tenant_id)
        if job is None:
            st.rerun()
        errors.notices()
        progress(actor, job)


def progress(actor: Actor, job: Job) -> None:
    """How far a check is, and the way to stop it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        job_status.badge(job.status)
        st.progress(job.progress, t("quality.checking", percent=round(100 * job.progress)))
        if actor.may(Permission.EDIT_PAIRS, job.tenant_id):
            st.button(t("quality.stop"), key="quality.stop", on_click=stop, args=(job.tenant_id,))
    if job.attempt == 0:
        st.caption(job_status.why_waiting(actor, job))


@errors.guarded
def stop(tenant_id: str) -> None:
    """Have the check end without a result."""
    wiring.services().quality.stop(auth.actor(), tenant_id)


def choose(found: list[QualityReport], tenant: Tenant) -> QualityReport:
    """The check that is shown: the latest one unless another is chosen."""

    def name(index: int) -> str:
        return t(
            "quality.report_caption",
            when=when(found[index].created_at, tenant.timezone),
            who=found[index].created_by,
        )

    if len(found) == 1:
        st.caption(name(0))
        return found[0]
    index = st.selectbox(
        t("quality.which"), range(len(found)), format_func=name, label_visibility="collapsed",
        key=f"quality.report.{found[0].id}",
    )  # fmt: skip
    return found[int(index)]


def page() -> None:
    """Draw the checks of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    quality = wiring.services().quality
    heading.draw(t("nav.quality"), t("quality.caption"))
    found = quality.reports(actor, tenant.id)
    running = quality.running(actor, tenant.id)
    may_export = actor.may(Permission.EDIT_PAIRS, tenant.id)
    if not found and not wiring.services().preferences.stats(actor, tenant.id).total:
        empty.draw(t("quality.no_pairs"), t("quality.no_pairs_text"), icon="compare_arrows")
        return
    if may_export:
        with st.expander(
            t("quality.new"), icon=":material/add:", expanded=not found, key="quality.form"
        ):
            quality_form.draw(tenant.id, is_busy=running is not None)
    if running is not None:
        st.fragment(watch, run_every="2s")(tenant.id)
    elif (last := quality.last_job(actor, tenant.id)) is not None:
        job_status.trouble(last)
    if found:
        heading.section(t("quality.report"))
        quality_report.draw(actor, tenant, choose(found, tenant))
    elif running is None:
        text = t("quality.empty_text" if may_export else "quality.empty_reader_text")
        empty.draw(t("quality.empty"), text, icon="fact_check")


page()
