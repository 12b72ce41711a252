"""Lineage: from an answer or adapter back to its people, and from a pair on to its adapters."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import custody_view, empty, heading, lineage_view
from console.i18n import t
from services.registry.lineage import KnownRun, Lineages
from services.tenants.models import Actor, Tenant

WHAT = ("adapter", "pair", "receipt")


def runs(actor: Actor, tenant: Tenant) -> list[KnownRun]:
    """The tenant's training runs."""
    return [
        KnownRun(run.id, run.dataset_sha256, run.job.status.value, run.adapter)
        for run in wiring.services().training.list(actor, tenant.id, limit=1_000)
    ]


def lineages() -> Lineages:
    """Lineage over the shared services."""
    shared = wiring.services()
    return Lineages(shared.registry, shared.preferences)


def of_adapter(actor: Actor, tenant: Tenant) -> None:
    """Let an adapter be chosen and draw where it comes from."""
    names = [one.name for one in wiring.services().registry.list(actor, tenant.id)]
    if not names:
        empty.draw(t("lineage.empty"), t("lineage.empty_text"), icon="account_tree")
        return
    asked = st.query_params.get("adapter")
    name = st.selectbox(
        t("lineage.adapter"), names, names.index(asked) if asked in names else 0,
        key="lineage.adapter",
    )  # fmt: skip
    found = lineages().of_adapter(actor, tenant.id, name, runs(actor, tenant))
    lineage_view.adapter(actor, tenant.id, found)
    custody_view.draw(wiring.services().chains.of_adapter(actor, tenant.id, name))


def of_pair(actor: Actor, tenant: Tenant) -> None:
    """Let a pair be named and draw what became of it."""
    asked = st.query_params.get("pair", "")
    pair_id = st.text_input(
        t("lineage.pair_id"), asked, key="lineage.pair", placeholder=t("lineage.pair_id_example")
    )
    if pair_id.strip():
        found = lineages().of_pair(actor, tenant.id, pair_id, runs(actor, tenant))
        lineage_view.pair(actor, tenant.id, found)


def of_receipt(actor: Actor) -> None:
    """Let an answer's receipt be named and draw its chain of custody."""
    receipt_id = st.text_input(
        t("custody.receipt_id"), st.query_params.get("receipt", ""), key="lineage.receipt",
        placeholder=t("custody.receipt_id_example"),
    ).strip()  # fmt: skip
    if receipt_id:
        custody_view.draw(wiring.services().chains.of_receipt(actor, receipt_id))


def page() -> None:
    """Draw the lineage that is asked for."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    heading.draw(t("nav.lineage"), t("lineage.caption"))
    start = next((what for what in WHAT if what in st.query_params), "adapter")
    what = st.segmented_control(
        t("lineage.what_of"), WHAT, default=start, key="lineage.what",
        format_func=lambda one: t(f"lineage.of_{one}"), label_visibility="collapsed",
    )  # fmt: skip
    if what == "pair":
        of_pair(actor, tenant)
    elif what == "receipt":
        of_receipt(actor)
    else:
        of_adapter(actor, tenant)


page()
