"""Guardrails: a tenant's policy, tried before it holds."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import diff, empty, errors, heading, policy_trial
from console.i18n import t, when
from services.guardrails.models import PolicyVersion
from services.tenants.models import Actor, Permission, Tenant

DRAFT = "policy.draft"
SEEN = "policy.seen"
VIEWS = ("edit", "history")


def standing(current: PolicyVersion, tenant: Tenant) -> None:
    """Which version holds."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if current.version:
            st.badge(t("policy.version", version=current.version), color="green")
            st.caption(
                t("policy.since", when=when(current.created_at, tenant.timezone)), width="content"
            )
        else:
            st.badge(t("policy.default"), color="gray")
            st.caption(t("policy.default_text"), width="content")
        st.caption(f"`{current.digest[:12]}`", width="content")


def editor(actor: Actor, tenant: Tenant, current: PolicyVersion) -> None:
    """The policy's text: to change and save, or only to read."""
    if not actor.may(Permission.MANAGE_TENANT, tenant.id):
        st.code(current.source, language="yaml")
        policy_trial.draw(current.source)
        return
    if state.get(SEEN) != (tenant.id, current.version):
        state.put(SEEN, (tenant.id, current.version))
        state.put(DRAFT, current.source)
    st.text_area(t("policy.text"), key=DRAFT, height=420, help=t("policy.text_help"))
    st.button(
        t("policy.save"), type="primary", icon=":material/shield:", key="policy.save",
        on_click=save, args=(tenant.id, current.version),
        disabled=state.get(DRAFT) == current.source,
    )  # fmt: skip
    policy_trial.draw(str(state.get(DRAFT, "")))


@errors.guarded
def save(tenant_id: str, seen_version: int) -> None:
    """Make the draft the policy; the gateways follow within a second."""
    saved = wiring.services().guardrails.save(
        auth.actor(), tenant_id, str(state.get(DRAFT, "")), expected_version=seen_version
    )
    errors.leave(t("policy.saved", version=saved.version))


def history(actor: Actor, tenant: Tenant) -> None:
    """All versions, each with what it changed."""
    versions = wiring.services().guardrails.versions(actor, tenant.id)
    if not versions:
        empty.draw(t("policy.no_history"), t("policy.no_history_text"), icon="history")
        return
    default = wiring.services().guardrails.version(actor, tenant.id, 0)
    for later, earlier in zip(versions, [*versions[1:], default], strict=True):
        label = t(
            "policy.changed_at", version=later.version,
            when=when(later.created_at, tenant.timezone),
        )  # fmt: skip
        with st.expander(label):
            diff.draw(earlier.source, later.source)


def page() -> None:
    """Draw the policy of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    current = wiring.services().guardrails.current(actor, tenant.id)
    heading.draw(t("nav.policy"), t("policy.caption"))
    standing(current, tenant)
    view = st.segmented_control(
        t("policy.view"), VIEWS, default="edit", required=True, key="policy.view",
        format_func=lambda one: t(f"policy.view_{one}"), label_visibility="collapsed",
    )  # fmt: skip
    if view == "history":
        history(actor, tenant)
    else:
        editor(actor, tenant, current)


page()
