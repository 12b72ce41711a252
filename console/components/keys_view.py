"""Signing keys: the list, and the two forms that change it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import auth, state, wiring
from console.components import errors, heading
from console.i18n import number, t, when
from services.attestation.keys import PURPOSES
from services.attestation.signing_keys import SigningKey

KID_PX = 330
"""Wide enough for the whole of a key's name."""


def draw(found: Sequence[SigningKey]) -> None:
    """Draw all keys, the newest of each purpose first."""
    st.dataframe(
        [
            {
                "purpose": t(f"signing_keys.purpose_{key.purpose}"),
                "state": _state(key),
                "kid": key.kid,
                "since": when(key.not_before),
                "until": when(key.not_after) if key.not_after else "–",
                "reason": key.revoked_reason or "–",
            }
            for key in found
        ],
        column_config={
            "purpose": t("signing_keys.purpose"),
            "state": t("signing_keys.state"),
            "kid": st.column_config.Column(t("signing_keys.kid"), width=KID_PX),
            "since": t("signing_keys.since"),
            "until": t("signing_keys.until"),
            "reason": st.column_config.Column(t("signing_keys.reason"), width="medium"),
        },
        hide_index=True,
        height="content",
    )
    st.caption(t("signing_keys.note"))


def _state(key: SigningKey) -> str:
    if key.last_valid_index is not None:
        return t("signing_keys.revoked", entry=number(key.last_valid_index))
    if not key.is_in_use:
        return t("signing_keys.replaced")
    return t("signing_keys.elsewhere") if key.is_elsewhere else t("signing_keys.in_use")


def explain() -> None:
    """Say who may change keys."""
    st.info(t("signing_keys.not_yours"), icon=":material/lock:")


def change(found: Sequence[SigningKey]) -> None:
    """Draw the forms side by side."""
    left, right = st.columns(2)
    with left:
        heading.section(t("signing_keys.rotate"), t("signing_keys.rotate_caption"))
        with st.form("signing_keys.rotate", border=True):
            st.selectbox(
                t("signing_keys.purpose"), PURPOSES, key="signing_keys.rotated",
                format_func=lambda one: t(f"signing_keys.purpose_{one}"),
            )  # fmt: skip
            st.form_submit_button(t("signing_keys.do_rotate"), type="primary", on_click=_rotate)
    with right:
        heading.section(t("signing_keys.revoke"), t("signing_keys.revoke_caption"))
        countable = {key.kid: key for key in found if key.last_valid_index is None}
        with st.form("signing_keys.revoke", border=True):
            st.selectbox(
                t("signing_keys.kid"), list(countable), index=None, key="signing_keys.revoked",
                placeholder=t("signing_keys.choose"),
                format_func=lambda kid: f"{t(f'signing_keys.purpose_{countable[kid].purpose}')} · {kid}",
            )  # fmt: skip
            st.text_input(t("signing_keys.reason"), key="signing_keys.why", max_chars=200)
            st.number_input(
                t("signing_keys.last"), min_value=0, value=None, step=1, key="signing_keys.last",
                help=t("signing_keys.last_help"), placeholder=t("signing_keys.last_none"),
            )  # fmt: skip
            st.form_submit_button(t("signing_keys.do_revoke"), on_click=_revoke)


@errors.guarded
def _rotate() -> None:
    purpose = state.get("signing_keys.rotated")
    key = wiring.services().evidence.signing_keys.rotate(auth.actor(), purpose)
    errors.leave(t("signing_keys.rotated", kid=key.kid))


@errors.guarded
def _revoke() -> None:
    kid = state.get("signing_keys.revoked")
    if kid is None:
        errors.leave(t("signing_keys.choose_first"), "warning")
        return
    wiring.services().audit.sequence()
    key = wiring.services().evidence.signing_keys.revoke(
        auth.actor(),
        kid,
        reason=state.get("signing_keys.why", ""),
        last_valid_index=state.get("signing_keys.last"),
    )
    entry = number(key.last_valid_index or 0)
    errors.leave(t("signing_keys.now_revoked", kid=key.kid, entry=entry))
    for name in ("signing_keys.why", "signing_keys.last"):
        state.drop(name)
