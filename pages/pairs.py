"""Pairs: browse, search and change them, take files in."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import (
    empty,
    figures,
    heading,
    pair_bulk,
    pair_detail,
    pair_filters,
    pair_import,
    pair_list,
)
from console.i18n import number, t
from services.preferences.models import PairStatus
from services.tenants.models import Actor, Permission, Tenant

PER_PAGE = 25
VIEWS = ("browse", "import")


def counts(actor: Actor, tenant_id: str) -> int:
    """Draw how many pairs there are and how far their review is; how many in all."""
    found = wiring.services().preferences.counts(actor, tenant_id)
    total = sum(found.values())
    values = [(t("pairs.total"), total)]
    values += [(t(f"pairs.status_{status.value}"), found[status]) for status in PairStatus]
    figures.draw([(label, number(value)) for label, value in values], columns=5)
    return total


def choose_view(actor: Actor, tenant_id: str) -> str:
    """Which part of the page is drawn; only those who may edit pairs have a choice."""
    if not actor.may(Permission.EDIT_PAIRS, tenant_id):
        return "browse"
    chosen = st.segmented_control(
        t("pairs.view"),
        VIEWS,
        default="browse",
        required=True,
        format_func=lambda view: t(f"pairs.view_{view}"),
        key="pairs.view",
        label_visibility="collapsed",
    )
    return str(chosen)


def browse(actor: Actor, tenant: Tenant) -> None:
    """A filtered list, what can be done to all of it, and the chosen pair in full."""
    filters, sort = pair_filters.draw(actor, tenant)
    offset = (int(state.get(pair_filters.PAGE, 1)) - 1) * PER_PAGE
    found = wiring.services().preferences.pairs(
        actor, tenant.id, filters, sort=sort, limit=PER_PAGE, offset=offset
    )
    if not found.pairs:
        empty.draw(t("pairs.none"), t("pairs.none_text"), icon="search_off")
        return
    chosen = pair_list.table(found)
    pair_list.turn_pages(found)
    if actor.may(Permission.EDIT_PAIRS, tenant.id):
        pair_bulk.draw(actor, tenant, filters)
    if chosen is None:
        st.caption(t("pairs.choose_row"))
        return
    pair = wiring.services().preferences.pair(actor, tenant.id, chosen)
    changes = wiring.bulk().changes_of(actor, tenant.id, chosen)
    pair_detail.draw(pair, changes, reader_id=actor.id, zone=tenant.timezone)


def page() -> None:
    """Draw the pairs of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    heading.draw(t("nav.pairs"), t("pairs.caption"))
    total = counts(actor, tenant.id)
    if choose_view(actor, tenant.id) == "import":
        pair_import.draw(tenant.id)
    elif total:
        browse(actor, tenant)
    else:
        empty.draw(t("pairs.empty"), t("pairs.empty_text"), icon="compare_arrows")
        if actor.may(Permission.EDIT_PAIRS, tenant.id):
            pair_import.offer_demo(tenant.id)


page()
