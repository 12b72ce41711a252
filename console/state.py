"""What one browser session remembers: keys that several pages share, and the readers of them.

A page's own keys are `"<page>.<name>"`. Ids are kept, never objects: objects grow stale.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from services.errors import NotFound

TOKEN = "shared.token"
"""The session token; the same text is in the browser's HttpOnly cookie."""

TENANT = "tenant"
"""Id of the tenant that the person looks at; also the name of the query parameter that keeps it."""

LANGUAGE = "shared.language"
"""`en` or `tr`."""

NOTICES = "shared.notices"
"""Messages that a callback left for the next drawing of the page."""

COOKIE_TICKET = "shared.cookie_ticket"
"""Ticket that the browser exchanges for a cookie, or for its removal."""


def get(key: str, default: Any = None) -> Any:
    """Read one key of the session."""
    return st.session_state.get(key, default)


def put(key: str, value: Any) -> None:
    """Write one key of the session."""
    st.session_state[key] = value


def drop(key: str) -> None:
    """Forget one key of the session."""
    st.session_state.pop(key, None)


def clear() -> None:
    """Forget everything but the language, as at sign-out."""
    for key in list(st.session_state):
        if key != LANGUAGE:
            del st.session_state[key]


def tenant_id() -> str | None:
    """Id of the chosen tenant, if there is one."""
    chosen = st.session_state.get(TENANT)
    return None if chosen is None else str(chosen)


def require_tenant() -> str:
    """Id of the chosen tenant.

    Raises:
        NotFound: The person belongs to no tenant yet.
    """
    chosen = tenant_id()
    if chosen is None:
        raise NotFound("expected a chosen tenant, found none; ask an administrator for a role")
    return chosen
