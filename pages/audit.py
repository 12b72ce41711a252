"""Audit: who did what, in an order that nobody can change unseen."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from console import auth, log_pages, state, wiring
from console.components import empty, evidence_view, heading, log_view
from console.i18n import t
from services.tenants.models import EVERY_TENANT, Actor, Permission, Tenant

PER_PAGE = 50
DOMAINS = (
    "adapter.", "alias.", "chat.", "dataset.", "evaluation.", "job.", "key.", "pair.", "pairs.",
    "prices.", "receipt.", "retention.", "rollout.", "session.", "signing_key.", "tenant.",
    "training.", "user.",
)  # fmt: skip
PLACES = "audit.places"


def filters(actor: Actor) -> tuple[str | None, bool]:
    """Which actions are shown, and whether those of all tenants are."""
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    action = left.selectbox(
        t("audit.begins_with"),
        DOMAINS,
        index=None,
        key="audit.action",
        placeholder=t("audit.every_action"),
        accept_new_options=True,
        on_change=state.put,
        args=(PLACES, []),
    )
    everywhere = False
    if actor.may(Permission.READ_AUDIT, EVERY_TENANT):
        everywhere = right.toggle(
            t("audit.everywhere"), key="audit.everywhere", on_change=state.put, args=(PLACES, [])
        )
    return (str(action).strip() or None) if action else None, everywhere


def tools(actor: Actor, tenant: Tenant, scope: str | None) -> None:
    """Verify and export."""
    with st.container(horizontal=True):
        verify = st.button(
            t("audit.verify"), icon=":material/verified_user:", type="primary", key="audit.verify"
        )
        name = "installation" if scope is None else tenant.id
        st.download_button(
            t("audit.export"),
            lambda: log_view.exported(actor, scope),
            file_name=f"audit-{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl",
            mime="application/jsonl",
            icon=":material/download:",
            on_click="ignore",
            key="audit.export",
        )
    if verify:
        log_view.check()


def turn_pages(oldest: int | None, places: list[int]) -> None:
    """Go to older entries, and back.

    Args:
        oldest: Number of the last entry shown, None where nothing older is there.
        places: Where the pages before this one began.
    """
    with st.container(horizontal=True):
        if places:
            st.button(
                t("audit.newer"), icon=":material/arrow_back:", key="audit.newer",
                on_click=state.put, args=(PLACES, places[:-1]),
            )  # fmt: skip
        if oldest is not None:
            st.button(
                t("audit.older"), icon=":material/arrow_forward:", key="audit.older",
                on_click=state.put, args=(PLACES, [*places, oldest]),
            )  # fmt: skip


def evidence(actor: Actor, tenant: Tenant) -> None:
    """What keeps the log honest, and the texts beside it."""
    evidence_view.checkpoints(tenant)
    evidence_view.retention(actor, tenant)


def page() -> None:
    """Draw the audit log of the chosen tenant, or of the installation."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    audit = wiring.services().audit
    heading.draw(t("nav.audit"), t("audit.caption"))
    audit.sequence()  # what was done a moment ago is in the outbox until somebody moves it
    action, everywhere = filters(actor)
    scope = None if everywhere else tenant.id
    tools(actor, tenant, scope)
    places: list[int] = state.get(PLACES, [])
    before = places[-1] if places else audit.head()[0] + 1
    found = log_pages.older(actor, scope, before=before, action=action, limit=PER_PAGE + 1)
    if not found:
        empty.draw(t("audit.empty"), t("audit.empty_text"), icon="history")
        turn_pages(None, places)
        evidence(actor, tenant)
        return
    shown = found[:PER_PAGE]
    chosen = log_view.entries(shown, tenant.timezone, everywhere=everywhere)
    turn_pages(shown[-1].seq if len(found) > PER_PAGE else None, places)
    log_view.details(chosen, tenant.timezone)
    evidence(actor, tenant)


page()
