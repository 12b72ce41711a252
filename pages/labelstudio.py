"""Label Studio: which pairs are judged on another server, and what came back."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import chooser, empty, errors, heading, job_status
from console.components import label_studio_view as view
from console.i18n import t, when
from labeling.label_studio.models import ProjectState, Selection
from services.jobs.models import JobStatus
from services.tenants.models import Actor, Permission, Tenant


def push_form(tenant: Tenant) -> None:
    """Hand pairs over."""
    with st.form("labelstudio.push", border=False):
        left, right = st.columns([3, 1])
        left.text_input(
            t("labelstudio.title"), value="Param Console", max_chars=50, key="labelstudio.title",
            help=t("labelstudio.title_help"),
        )  # fmt: skip
        right.number_input(
            t("labelstudio.limit"), min_value=1, max_value=10_000, value=100,
            key="labelstudio.limit", help=t("labelstudio.limit_help"),
        )  # fmt: skip
        left.selectbox(
            t("labelstudio.source"), view.sources(auth.actor(), tenant.id), index=None,
            placeholder=t("labelstudio.every_source"), key="labelstudio.source",
        )  # fmt: skip
        right.selectbox(
            t("labelstudio.form"), ["en", "tr"], key="labelstudio.form",
            format_func=lambda one: t(f"labelstudio.form_{one}"),
        )  # fmt: skip
        st.toggle(
            t("labelstudio.predictions"), key="labelstudio.predictions",
            help=t("labelstudio.predictions_help"),
        )  # fmt: skip
        st.form_submit_button(
            t("labelstudio.push"), icon=":material/upload:", type="primary",
            key="labelstudio.submit", on_click=push, args=(tenant.id,),
        )  # fmt: skip


@errors.guarded
def push(tenant_id: str) -> None:
    """Hand over what the form says, and have the worker send it."""
    actor, asked = auth.actor(), st.session_state
    project, pairs = wiring.label_studio().push(
        actor,
        tenant_id,
        Selection(limit=asked["labelstudio.limit"], source=asked["labelstudio.source"]),
        title=asked["labelstudio.title"],
        is_blind=not asked["labelstudio.predictions"],
        language=asked["labelstudio.form"],
    )
    if pairs == 0:
        errors.leave(t("labelstudio.nothing_pushed"), "info")
        return
    wiring.label_studio().ask(actor, tenant_id, project.id)
    errors.leave(t("labelstudio.pushed", count=pairs))


@errors.guarded
def sync(tenant_id: str, project_id: str, everything: bool) -> None:
    """Have the worker synchronise now."""
    wiring.label_studio().ask(auth.actor(), tenant_id, project_id, everything=everything)


@errors.guarded
def take_back(tenant_id: str, project_id: str) -> None:
    """Give the pairs that nobody has judged back to the desk."""
    actor = auth.actor()
    pairs = wiring.label_studio().take_back(actor, tenant_id, project_id)
    wiring.label_studio().ask(actor, tenant_id, project_id)
    errors.leave(t("labelstudio.taken_back", count=pairs))


def tools(tenant: Tenant, found: ProjectState) -> None:
    """What can be done with a project."""
    project, live = found.project, wiring.label_studio().is_configured
    with st.container(horizontal=True):
        st.button(
            t("labelstudio.sync"), icon=":material/sync:", key="labelstudio.sync", type="primary",
            disabled=not live, on_click=sync, args=(tenant.id, project.id, False),
        )  # fmt: skip
        st.button(
            t("labelstudio.check"), icon=":material/sync_problem:", key="labelstudio.check",
            help=t("labelstudio.check_help"), disabled=not live, on_click=sync,
            args=(tenant.id, project.id, True),
        )  # fmt: skip
        with st.popover(t("labelstudio.take_back"), icon=":material/undo:"):
            st.markdown(t("labelstudio.take_back_text"))
            st.button(
                t("labelstudio.take_back_now"), key="labelstudio.take_back", disabled=not live,
                on_click=take_back, args=(tenant.id, project.id),
            )  # fmt: skip
        if project.url:
            st.link_button(
                t("labelstudio.open"), project.url, icon=":material/open_in_new:", type="tertiary"
            )


def watch(project_id: str, *, moving: bool) -> None:
    """The chosen project, drawn again while it is being synchronised.

    Args:
        moving: Whether the page is drawing it again and again.
    """
    with errors.shown():
        actor = auth.actor()
        tenant = wiring.services().tenants.get(actor, state.require_tenant())
        projects = wiring.label_studio().projects(actor, tenant.id)
        found = next(one for one in projects if one.project.id == project_id)
        if view.is_moving(found) is not moving:
            st.rerun()
        view.draw(actor, tenant, found)
        if actor.may(Permission.EDIT_PAIRS, tenant.id):
            tools(tenant, found)
        view.problems(found, tenant.timezone)


def choose(actor: Actor, tenant: Tenant) -> None:
    """The list of projects, where there is more than one, and the chosen one."""
    projects = wiring.label_studio().projects(actor, tenant.id)
    if not projects:
        empty.draw(t("labelstudio.empty"), t("labelstudio.empty_text"), icon="sync_alt")
        return
    ids, chosen = [one.project.id for one in projects], projects[0].project.id
    if len(ids) > 1:
        rows = [
            {
                "status": [job_status.label(one.job.status if one.job else JobStatus.QUEUED)],
                "title": one.project.title,
                "votes": view.votes(one),
                "at": when(one.project.created_at, tenant.timezone),
            }
            for one in projects
        ]
        columns = {
            "status": job_status.column(),
            "title": t("labelstudio.title"),
            "votes": t("labelstudio.votes"),
            "at": t("labelstudio.made_at"),
        }
        chosen = chooser.one(ids, rows, columns=columns, key="labelstudio.projects")
    moving = next(view.is_moving(one) for one in projects if one.project.id == chosen)
    st.fragment(watch, run_every="2s" if moving else None)(chosen, moving=moving)


def page() -> None:
    """Draw the state of the synchronisation of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    heading.draw(t("nav.labelstudio"), t("labelstudio.caption"))
    may_edit = actor.may(Permission.EDIT_PAIRS, tenant.id)
    if not wiring.label_studio().is_configured:
        st.info(t("labelstudio.not_configured"), icon=":material/settings_ethernet:")
    elif may_edit:
        projects = wiring.label_studio().projects(actor, tenant.id)
        with st.expander(t("labelstudio.new"), icon=":material/add:", expanded=not projects):
            push_form(tenant)
    choose(actor, tenant)
    if may_edit:
        view.people(actor, tenant)


page()
