"""Gateway: whether answers can be given now, by which engine, and who may fall back."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import empty, errors, gateway_view, heading
from console.components.text import plain
from console.i18n import t
from services.operations.models import GatewayState
from services.tenants.models import EVERY_TENANT, Actor, Permission, Tenant

REASON = "gateway.reason"
DRAIN_REASON = "gateway.drain_reason"


def live(tenant: Tenant) -> None:
    """The gateway as it is now; drawn again every two seconds."""
    with errors.shown():
        actor, operations = auth.actor(), wiring.services().operations
        errors.notices()
        found = gateway_view.reached(lambda: operations.state(actor, tenant.id))
        if found is None:
            return
        gateway_view.standing(found, tenant.timezone)
        gateway_view.upstreams(found)
        if actor.may(Permission.MANAGE_TENANT, EVERY_TENANT):
            handles(found)
        view = operations.view(actor, tenant.id)
        heading.section(t("gateway.as_seen", tenant=plain(tenant.name)), t("gateway.as_seen_text"))
        if view is None:
            empty.draw(t("gateway.no_key"), t("gateway.no_key_text"), icon="key_off")
        else:
            gateway_view.tenant_view(view)


def handles(found: GatewayState) -> None:
    """What may be done to the process, by those who manage every tenant."""
    for upstream in found.upstreams:
        if upstream.state == "open":
            st.button(
                t("gateway.retry", name=t(f"gateway.name_{upstream.name}")),
                icon=":material/refresh:", key=f"gateway.retry.{upstream.name}",
                on_click=retry, args=(upstream.name,),
            )  # fmt: skip
    with st.popover(
        t("gateway.open_again" if found.is_draining else "gateway.drain"),
        icon=":material/play_arrow:" if found.is_draining else ":material/pause:",
    ):
        st.caption(t("gateway.drain_text"))
        st.text_input(t("gateway.reason"), key=DRAIN_REASON, max_chars=500)
        st.button(
            t("gateway.open_again" if found.is_draining else "gateway.drain_now"),
            key="gateway.drain_now", type="primary", on_click=drain, args=(not found.is_draining,),
        )  # fmt: skip


@errors.guarded
def retry(upstream: str) -> None:
    """Let the next request try an engine."""
    wiring.services().operations.retry(auth.actor(), upstream)
    errors.leave(t("gateway.retried"))


@errors.guarded
def drain(on: bool) -> None:
    """Take no more requests, or take them again."""
    operations = wiring.services().operations
    operations.drain(auth.actor(), on, reason=str(state.get(DRAIN_REASON, "")))
    state.put(DRAIN_REASON, "")
    errors.leave(t("gateway.drained" if on else "gateway.opened"))


def fallback(actor: Actor, tenant: Tenant) -> None:
    """Whether a second engine may answer this tenant, and who decided it."""
    operations = wiring.services().operations
    heading.section(t("gateway.fallback"), t("gateway.fallback_text"))
    decisions = operations.fallback(actor, tenant.id)
    is_allowed = bool(decisions) and decisions[0].allowed
    if not operations.fallback_model:
        st.info(t("gateway.no_fallback"), icon=":material/info:")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(
            t("gateway.allowed" if is_allowed else "gateway.not_allowed"),
            color="orange" if is_allowed else "gray",
        )
        if operations.fallback_model:
            st.caption(t("gateway.fallback_model", model=operations.fallback_model))
    if actor.may(Permission.MANAGE_TENANT, tenant.id) and (is_allowed or operations.fallback_model):
        st.text_input(t("gateway.reason"), key=REASON, max_chars=500, help=t("gateway.reason_help"))
        st.button(
            t("gateway.forbid" if is_allowed else "gateway.allow"), key="gateway.switch",
            on_click=switch, args=(tenant.id, not is_allowed),
        )  # fmt: skip
    gateway_view.decisions(decisions, tenant.timezone)


@errors.guarded
def switch(tenant_id: str, allowed: bool) -> None:
    """Decide about the second engine."""
    wiring.services().operations.set_fallback(
        auth.actor(), tenant_id, allowed=allowed, reason=str(state.get(REASON, ""))
    )
    state.put(REASON, "")
    errors.leave(t("gateway.now_allowed" if allowed else "gateway.now_forbidden"))


def page() -> None:
    """Draw the gateway and the chosen tenant's switch."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    heading.draw(t("nav.gateway"), t("gateway.caption"))
    st.fragment(live, run_every="2s")(tenant)
    fallback(actor, tenant)


page()
