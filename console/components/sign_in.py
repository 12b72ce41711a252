"""The sign-in form, and the corner that shows who is signed in."""

from __future__ import annotations

import streamlit as st

from console import auth, i18n, state, wiring
from console.components import errors
from console.components.text import plain
from console.i18n import t
from services.tenants.models import Role, User


def form() -> None:
    """Ask for name and password in the middle of the page."""
    _, middle, _ = st.columns([1, 1.4, 1])
    with middle:
        st.title(t("sign_in.title"))
        st.caption(t("sign_in.intro"))
        errors.notices()
        with st.form("sign_in.form"):
            st.text_input(t("sign_in.username"), key="sign_in.username", autocomplete="username")
            st.text_input(
                t("sign_in.password"),
                type="password",
                key="sign_in.password",
                autocomplete="current-password",
            )
            st.form_submit_button(
                t("sign_in.submit"), type="primary", width="stretch", on_click=_enter
            )
        _language(signed_in=None)


@errors.guarded
def _enter() -> None:
    username, password = state.get("sign_in.username", ""), state.get("sign_in.password", "")
    auth.sign_in(username.strip(), password)


def corner(user: User, tenant_id: str | None) -> None:
    """Draw who is signed in; behind it roles, language and the way out."""
    roles = sorted(user.actor().roles_in(tenant_id or "*"))
    names = ", ".join(t(f"role.{role.value}") for role in roles if role is not Role.SYSTEM)
    with st.popover(
        plain(user.display_name), icon=":material/account_circle:", type="tertiary", width="stretch"
    ):
        st.caption(names or t("sign_in.no_role"))
        _language(signed_in=user)
        st.button(
            t("sign_in.out"),
            icon=":material/logout:",
            on_click=auth.sign_out,
            key="shared.sign_out",
            width="stretch",
        )


def _language(signed_in: User | None) -> None:
    st.segmented_control(
        t("sign_in.language"),
        i18n.LANGUAGES,
        format_func=i18n.NAMES.__getitem__,
        default=i18n.language(),
        required=True,
        key="shared.language_choice",
        label_visibility="collapsed",
        on_change=_speak,
        args=(signed_in.id if signed_in else None,),
    )


@errors.guarded
def _speak(user_id: str | None) -> None:
    chosen = state.get("shared.language_choice")
    state.put(state.LANGUAGE, chosen)
    if user_id is not None:
        wiring.services().tenants.set_language(user_id, chosen)
