"""The tenant that the person looks at: shown on every page, chosen from those with a role."""

from __future__ import annotations

from collections import Counter

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
    names = _labels(tenants)
    asked = st.query_params.get(state.TENANT)
    if asked in names and asked not in names.values():
        state.put(state.TENANT, asked)  # an address with the id, as a script or a person writes it
    if state.tenant_id() not in names:
        state.drop(state.TENANT)  # a role was taken away, or somebody else signed in
    if not names:
        st.caption(t("tenant_picker.none"))
        return None
    # The address keeps the choice by its label, so it survives a reload and can be sent on.
    return st.selectbox(
        t("tenant_picker.label"),
        list(names),
        format_func=names.__getitem__,
        key=state.TENANT,
        disabled=len(names) == 1,
        bind="query-params",
    )


def _labels(tenants: list[Tenant]) -> dict[str, str]:
    """What each tenant is called in the list: by name, and by id too where names are the same."""
    many = Counter(tenant.name for tenant in tenants)
    return {
        tenant.id: tenant.name if many[tenant.name] == 1 else f"{tenant.name} ({tenant.id})"
        for tenant in tenants
    }
