"""The frame around every page: who is it, which tenant, which pages, and one guard for refusals."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from console import auth, navigation, wiring
from console.components import cookie, errors, sign_in, tenant_picker
from console.i18n import t
from services.errors import NotPermitted

PICTURES = Path(__file__).parent / "components"


def _frame() -> None:
    st.set_page_config(
        page_title="Param Console", page_icon=str(PICTURES / "mark.svg"), layout="wide"
    )
    st.html(PICTURES / "style.css")
    st.logo(str(PICTURES / "logo.svg"), icon_image=str(PICTURES / "mark.svg"), size="large")


def _refused() -> None:
    errors.show(NotPermitted(t("errors.page_not_open")))


def _run() -> None:
    user = auth.user()
    cookie.keep()
    if user is None:
        navigation.page(None, None, otherwise=sign_in.form).run()
        return
    with st.sidebar:
        tenant_id = tenant_picker.draw(wiring.services().tenants.list(user.actor()))
    page = navigation.page(user.actor(), tenant_id, otherwise=_refused)
    with st.sidebar:
        sign_in.corner(user, tenant_id)
    errors.notices()
    page.run()


_frame()
with errors.shown():
    _run()
