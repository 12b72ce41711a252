"""A secret that is shown once: a fresh key or password, gone with the dialog that shows it."""

from __future__ import annotations

import streamlit as st

from console import state
from console.i18n import t

_LEFT = "shared.secret"


def leave(title: str, secret: str) -> None:
    """Leave a secret for the next drawing of the page; `title` is already translated."""
    state.put(_LEFT, (title, secret))


def draw_once() -> None:
    """Open the dialog if a callback left a secret, and forget the secret."""
    left: tuple[str, str] | None = state.get(_LEFT)
    if left is None:
        return
    state.drop(_LEFT)
    title, secret = left
    st.dialog(title, width="medium", icon=":material/key:")(_show)(secret)


def _show(secret: str) -> None:
    st.code(secret, language=None, wrap_lines=True)
    st.caption(t("secret.once"))
