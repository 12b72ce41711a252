"""The tenant that the person looks at: shown on every page, chosen from those with a role."""

from __future__ import annotations

import streamlit as st

from console import state
from console.i18n import t
from services.tenants.models import Tenant


def draw(tenants: list[Tenant]) -> str | None:
    """Let the person choose among their tenants.

    Args:
        tenants: Those in which the person holds a role.

    Returns:
        Id of the chosen tenant, None where there is none.
    """
    names = {tenant.id: tenant.name for tenant in tenants}
    if state.tenant_id() not in names:
        state.drop(state.TENANT)  # a role was taken away, or somebody else signed in
    if not names:
        st.caption(t("tenant_picker.none"))
        return None
    # The address keeps the choice, so it survives a reload and can be sent to a colleague.
    return st.selectbox(
        t("tenant_picker.label"),
        list(names),
        format_func=names.__getitem__,
        key=state.TENANT,
        disabled=len(names) == 1,
        bind="query-params",
    )
