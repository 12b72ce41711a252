"""Users: who may do what in the chosen tenant."""

from __future__ import annotations

import streamlit as st

from console import auth, i18n, state, wiring
from console.components import errors, heading, secret
from console.components.text import plain
from console.i18n import t
from services.tenants.models import EVERY_TENANT, Actor, Permission, Role, User

ROLES = (Role.ANNOTATOR, Role.ENGINEER, Role.MANAGER, Role.ADMIN)


def role_name(role: Role) -> str:
    """A role in the reader's language."""
    return t(f"role.{role.value}")


def new_user(actor: Actor, tenant_id: str) -> None:
    """Ask for a new user's names, language and roles here."""
    with (
        st.popover(t("users.new"), icon=":material/person_add:"),
        st.form("users.new", border=False),
    ):
        st.text_input(t("users.username"), key="users.username", help=t("users.username_help"))
        st.text_input(t("users.display_name"), key="users.display_name")
        st.pills(
            t("users.roles_here"),
            ROLES,
            selection_mode="multi",
            format_func=role_name,
            key="users.roles",
        )
        if actor.may(Permission.MANAGE_USERS, EVERY_TENANT):
            st.checkbox(t("users.everywhere"), key="users.everywhere")
        st.segmented_control(
            t("users.language"),
            i18n.LANGUAGES,
            format_func=i18n.NAMES.__getitem__,
            default=i18n.language(),
            required=True,
            key="users.language",
        )
        st.form_submit_button(t("users.create"), type="primary", on_click=create, args=(tenant_id,))


@errors.guarded
def create(tenant_id: str) -> None:
    """Make the account of the form and show its password once."""
    here, everywhere = state.get("users.roles", []), state.get("users.everywhere", False)
    grants = {tenant_id: frozenset(here)} if here else {}
    if everywhere:
        grants[EVERY_TENANT] = frozenset({Role.ADMIN})
    user, password = wiring.services().tenants.create_user(
        auth.actor(),
        state.get("users.username", ""),
        display_name=state.get("users.display_name", ""),
        grants=grants,
        language=state.get("users.language", "en"),
    )
    for key in ("users.username", "users.display_name"):
        state.put(key, "")
    secret.leave(t("users.password_of", name=plain(user.username)), password)


def row(user: User, tenant_id: str, *, is_self: bool) -> None:
    """One user: names, roles here, and what may be done."""
    with st.container(border=True):
        who, what, change = st.columns([3, 5, 2], vertical_alignment="center")
        who.markdown(f"**{plain(user.display_name)}**  \n{plain(user.username)}")
        with what:
            badges(user, tenant_id)
        with change.popover(t("users.change"), icon=":material/edit:", type="tertiary"):
            st.pills(
                t("users.roles_here"),
                ROLES,
                selection_mode="multi",
                format_func=role_name,
                default=sorted(user.grants.get(tenant_id, frozenset())),
                key=f"users.roles.{user.id}.{tenant_id}",
            )
            actions(user, tenant_id, is_self=is_self)


def badges(user: User, tenant_id: str) -> None:
    """The roles that count here, and whether the account is shut."""
    with st.container(horizontal=True, gap="xsmall"):
        if user.disabled:
            st.badge(t("users.disabled"), color="gray", icon=":material/block:")
        for role in sorted(user.grants.get(tenant_id, frozenset())):
            st.badge(role_name(role), color="green")
        if user.grants.get(EVERY_TENANT):
            st.badge(t("users.everywhere"), color="violet", icon=":material/shield_person:")


def actions(user: User, tenant_id: str, *, is_self: bool) -> None:
    """Save the roles, reset the password, shut out or let in."""
    with st.container(horizontal=True):
        st.button(
            t("users.save_roles"),
            type="primary",
            key=f"users.save.{user.id}",
            on_click=save_roles,
            args=(user.id, tenant_id),
        )
        st.button(
            t("users.reset"),
            key=f"users.reset.{user.id}",
            on_click=reset,
            args=(user.id, user.username),
        )
        st.button(
            t("users.enable") if user.disabled else t("users.disable"),
            key=f"users.disable.{user.id}",
            on_click=set_disabled,
            args=(user.id, not user.disabled),
            disabled=is_self,
        )


@errors.guarded
def save_roles(user_id: str, tenant_id: str) -> None:
    """Replace the user's roles in this tenant; those elsewhere stay."""
    tenants = wiring.services().tenants
    user = next(found for found in tenants.list_users(auth.actor()) if found.id == user_id)
    chosen = frozenset(state.get(f"users.roles.{user_id}.{tenant_id}", []))
    grants = {**user.grants, tenant_id: chosen}
    tenants.set_grants(auth.actor(), user_id, {t: r for t, r in grants.items() if r})
    errors.leave(t("users.saved", name=plain(user.display_name)))


@errors.guarded
def reset(user_id: str, username: str) -> None:
    """Make a fresh password and show it once."""
    password = wiring.services().tenants.reset_password(auth.actor(), user_id)
    secret.leave(t("users.password_of", name=plain(username)), password)


@errors.guarded
def set_disabled(user_id: str, disabled: bool) -> None:
    """Shut a user out, or let the user in again."""
    user = wiring.services().tenants.set_user_disabled(auth.actor(), user_id, disabled)
    key = "users.now_disabled" if disabled else "users.now_enabled"
    errors.leave(t(key, name=plain(user.display_name)))


def page() -> None:
    """Draw the users that the actor may administer."""
    actor, tenant_id = auth.actor(), state.require_tenant()
    tenants = wiring.services().tenants
    name = plain(tenants.get(actor, tenant_id).name)
    heading.draw(t("nav.users"), t("users.caption", tenant=name))
    new_user(actor, tenant_id)
    secret.draw_once()
    for user in tenants.list_users(actor):
        row(user, tenant_id, is_self=user.id == actor.id)


page()
