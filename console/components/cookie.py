"""Has the browser exchange a ticket for the session cookie, or for its removal."""

from __future__ import annotations

import streamlit as st

from console import state

# The ticket is posted once per page load; a rerun draws the component again with the same one.
_SCRIPT = """
export default function ({ data }) {
  const posted = (window.paramTickets ??= new Set());
  if (!data.ticket || posted.has(data.ticket)) return;
  posted.add(data.ticket);
  const base = document.querySelector("base")?.href ?? location.origin + "/";
  fetch(new URL("session", base), {
    method: "POST", body: data.ticket, credentials: "same-origin",
  });
}
"""


def keep() -> None:
    """Mount the exchange if a sign-in or sign-out left a ticket."""
    ticket = state.get(state.COOKIE_TICKET)
    if ticket is None:
        return
    exchange = st.components.v2.component("param_cookie", js=_SCRIPT)
    exchange(key="shared.cookie", data={"ticket": ticket}, height=1)
