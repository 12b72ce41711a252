"""How far a Label Studio project is, what could not be taken in, and who the accounts are."""

from __future__ import annotations

import streamlit as st

from console import auth, wiring
from console.components import errors, figures, heading, job_status
from console.components.text import plain
from console.i18n import t, when
from labeling.label_studio.models import Outcome, Person, ProjectState, TaskState
from services.jobs.models import JobStatus
from services.tenants.models import Actor, Tenant


def is_moving(found: ProjectState) -> bool:
    """Whether the project waits for a synchronisation or is in the middle of one."""
    return found.job is not None and not found.job.status.is_final


def votes(found: ProjectState) -> int:
    """Annotations that are votes."""
    return found.annotations.get(Outcome.VOTED, 0) + found.gone


def sources(actor: Actor, tenant_id: str) -> list[str]:
    """Where the tenant's pairs are from."""
    return sorted(wiring.services().preferences.stats(actor, tenant_id).by_source)


def draw(actor: Actor, tenant: Tenant, found: ProjectState) -> None:
    """Draw a project's state."""
    project, job = found.project, found.job
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(project.title), anchor=False, width="content")
        if job is not None and job.status is not JobStatus.SUCCEEDED:
            job_status.badge(job.status)
        if project.is_blind:
            st.badge(t("labelstudio.blind"), color="gray", icon=":material/visibility_off:")
        else:
            st.badge(t("labelstudio.revealed"), color="orange", icon=":material/visibility:")
    st.caption(_when(found, tenant.timezone))
    figures.draw(
        [
            (t("labelstudio.tasks"), str(found.tasks.get(TaskState.SENT, 0))),
            (t("labelstudio.planned"), str(found.tasks.get(TaskState.PLANNED, 0))),
            (t("labelstudio.votes"), str(votes(found))),
            (t("labelstudio.waiting"), str(found.annotations.get(Outcome.WAITING, 0))),
        ]
    )
    if job is not None and job.status is JobStatus.QUEUED:
        st.info(job_status.why_waiting(actor, job), icon=":material/hourglass_top:")
    if job is not None:
        job_status.trouble(job)
    if project.hook_note:
        st.caption(t("labelstudio.no_hook", reason=plain(project.hook_note)))
    if found.gone:
        st.caption(t("labelstudio.gone", count=found.gone))


def problems(found: ProjectState, timezone: str) -> None:
    """Draw the annotations that are no votes, with the reason of each."""
    if not found.problems:
        return
    heading.section(t("labelstudio.problems"), t("labelstudio.problems_text"))
    st.dataframe(
        [
            {
                "outcome": t(f"labelstudio.outcome_{one.outcome.value}"),
                "why": one.reason or t("labelstudio.unknown_person"),
                "account": one.remote_user,
                "annotation": one.annotation_id,
                "task": one.task_id,
                "seen": when(one.seen_at, timezone),
            }
            for one in found.problems
        ],
        column_config={
            "outcome": t("labelstudio.outcome"),
            "why": st.column_config.Column(t("labelstudio.why"), width="large"),
            "account": t("labelstudio.account"),
            "annotation": t("labelstudio.annotation"),
            "task": t("labelstudio.task"),
            "seen": t("labelstudio.seen"),
        },
        hide_index=True,
    )


def people(actor: Actor, tenant: Tenant) -> None:
    """Draw who the accounts over there are, to be said and changed."""
    found = wiring.label_studio().people(actor, tenant.id)
    if not found:
        return
    heading.section(t("labelstudio.people"), t("labelstudio.people_text"))
    names = dict(wiring.label_studio().annotators(actor, tenant.id))
    for one in found:
        _person(tenant, one, names)


def _person(tenant: Tenant, one: Person, names: dict[str, str]) -> None:
    key = f"labelstudio.person.{one.server}.{one.remote_id}.{one.annotator_id}"
    ids = list(names)
    st.selectbox(
        # As code: an address is no link here, whatever the account calls itself.
        t("labelstudio.account_of", name=f"`{one.label.replace('`', '')}`", number=one.remote_id),
        ids,
        index=ids.index(one.annotator_id) if one.annotator_id in names else None,
        format_func=lambda user_id: names[user_id],
        placeholder=t("labelstudio.nobody"),
        key=key,
        on_change=_say,
        args=(tenant.id, one.server, one.remote_id, key),
        width=420,
    )


@errors.guarded
def _say(tenant_id: str, server: str, remote_id: int, key: str) -> None:
    """Keep who the account is, and have the votes that waited for it taken in."""
    actor, service = auth.actor(), wiring.label_studio()
    service.map_person(actor, tenant_id, server, remote_id, st.session_state[key])
    for found in service.projects(actor, tenant_id):
        if found.project.server == server and service.is_configured:
            service.ask(actor, tenant_id, found.project.id)
    errors.leave(t("labelstudio.said"))


def _when(found: ProjectState, timezone: str) -> str:
    project = found.project
    if project.synced_at is None:
        return t("labelstudio.never", server=project.server)
    return t("labelstudio.synced", when=when(project.synced_at, timezone), server=project.server)
