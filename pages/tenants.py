"""Tenants: how much one may ask for, its API keys, and what its aliases mean."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import budget_view, empty, errors, heading, limits_form, secret
from console.components.text import plain
from console.i18n import t, when
from services.tenants.models import EVERY_TENANT, Actor, ApiKey, Limits, Permission, Tenant


def limits(actor: Actor, tenant: Tenant) -> None:
    """Show the limits, and let those change them who may."""
    heading.section(t("tenants.limits"))
    limits_form.draw(tenant.limits)
    budget_view.draw(wiring.services().metering.budget(actor, tenant.id), tenant.timezone)
    if not actor.may(Permission.MANAGE_TENANT, tenant.id):
        return
    with (
        st.popover(t("tenants.change_limits"), icon=":material/tune:"),
        st.form("tenants.limits", border=False),
    ):
        limits_form.fields(tenant.id, tenant.limits)
        st.form_submit_button(
            t("tenants.save"), type="primary", on_click=save_limits, args=(tenant.id,)
        )


@errors.guarded
def save_limits(tenant_id: str) -> None:
    """Store the limits of the form."""
    wiring.services().tenants.set_limits(auth.actor(), tenant_id, limits_form.chosen(tenant_id))
    errors.leave(t("tenants.limits_saved"))


def keys(actor: Actor, tenant: Tenant) -> None:
    """List the API keys; make and revoke them."""
    heading.section(t("tenants.keys"), t("tenants.keys_caption"))
    if not actor.may(Permission.MANAGE_TENANT, tenant.id):
        st.caption(t("tenants.keys_hidden"))
        return
    with st.form("tenants.new_key", border=False), st.container(horizontal=True):
        st.text_input(
            t("tenants.key_name"),
            key="tenants.key_name",
            placeholder=t("tenants.key_name_example"),
            label_visibility="collapsed",
        )
        st.form_submit_button(
            t("tenants.create_key"), icon=":material/add:", on_click=create_key, args=(tenant.id,)
        )
    found = wiring.services().tenants.list_keys(actor, tenant.id)
    if not found:
        empty.draw(t("tenants.no_keys"), t("tenants.no_keys_text"), icon="key")
    for key in found:
        key_row(tenant, key)


def key_row(tenant: Tenant, key: ApiKey) -> None:
    """One key: what may still be known of it, and its end."""
    with st.container(border=True):
        what, since, end = st.columns([3, 3, 3], vertical_alignment="center")
        what.markdown(f"**{plain(key.name)}**  \n`{key.prefix}…`")
        if own := limits_form.line(key.limits):
            what.caption(own)
        since.caption(t("tenants.created", when=when(key.created_at, tenant.timezone)))
        if key.revoked_at is not None:
            at = when(key.revoked_at, tenant.timezone)
            end.badge(t("tenants.revoked", when=at), color="gray", icon=":material/block:")
            return
        with end.container(horizontal=True):
            key_limits(tenant, key)
            with st.popover(t("tenants.revoke"), type="tertiary"):
                st.write(t("tenants.revoke_text"))
                st.button(
                    t("tenants.revoke_now"),
                    type="primary",
                    key=f"tenants.revoke.{key.id}",
                    on_click=revoke_key,
                    args=(tenant.id, key.id),
                )


def key_limits(tenant: Tenant, key: ApiKey) -> None:
    """Let one key's own limits be changed."""
    with (
        st.popover(t("tenants.key_limits"), type="tertiary"),
        st.form(f"tenants.limits.{key.id}", border=False),
    ):
        st.caption(t("tenants.key_limits_text"))
        limits_form.key_fields(key.id, key.limits)
        st.form_submit_button(t("tenants.save"), on_click=save_key_limits, args=(tenant.id, key.id))


@errors.guarded
def save_key_limits(tenant_id: str, key_id: str) -> None:
    """Store the limits of one key's form."""
    wiring.services().tenants.set_key_limits(
        auth.actor(), tenant_id, key_id, limits_form.chosen_key(key_id)
    )
    errors.leave(t("tenants.limits_saved"))


@errors.guarded
def create_key(tenant_id: str) -> None:
    """Issue a key and have it shown once."""
    issued = wiring.services().tenants.create_key(
        auth.actor(), tenant_id, state.get("tenants.key_name", "")
    )
    state.put("tenants.key_name", "")
    secret.leave(t("tenants.fresh_key"), issued.key)


@errors.guarded
def revoke_key(tenant_id: str, key_id: str) -> None:
    """End a key for good."""
    wiring.services().tenants.revoke_key(auth.actor(), tenant_id, key_id)
    errors.leave(t("tenants.key_revoked"))


def aliases(actor: Actor, tenant: Tenant) -> None:
    """What the names mean that clients ask for."""
    heading.section(t("tenants.aliases"), t("tenants.aliases_caption"))
    st.dataframe(
        [
            {
                "alias": target.alias,
                "adapter": target.adapter or t("tenants.base_model"),
                "since": when(target.since, tenant.timezone),
            }
            for target in wiring.services().tenants.aliases(actor, tenant.id)
        ],
        column_config={
            "alias": t("tenants.alias"),
            "adapter": t("tenants.serves"),
            "since": t("tenants.since"),
        },
        hide_index=True,
    )


def new_tenant() -> None:
    """Ask for a new tenant's name and limits."""
    with (
        st.popover(t("tenants.new"), icon=":material/add_business:"),
        st.form("tenants.new", border=False),
    ):
        st.text_input(t("tenants.name"), key="tenants.new_name")
        limits_form.fields("new", Limits(tps=5, rpm=150, daily_tokens=1_000_000))
        st.form_submit_button(t("tenants.create"), type="primary", on_click=create_tenant)


@errors.guarded
def create_tenant() -> None:
    """Make the tenant of the form."""
    made = wiring.services().tenants.create(
        auth.actor(), state.get("tenants.new_name", ""), limits=limits_form.chosen("new")
    )
    errors.leave(t("tenants.created_tenant", name=plain(made.name)))


def page() -> None:
    """Draw the page of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    heading.draw(plain(tenant.name), t("tenants.caption", id=tenant.id, zone=tenant.timezone))
    if actor.may(Permission.MANAGE_TENANT, EVERY_TENANT):
        new_tenant()
    secret.draw_once()
    limits(actor, tenant)
    keys(actor, tenant)
    aliases(actor, tenant)


page()
