"""Rollouts: a candidate goes forward by a policy or by hand, and back at any time."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import (
    empty,
    errors,
    heading,
    rollout_actions,
    rollout_arms,
    rollout_form,
    rollout_proof,
    rollout_view,
)
from console.i18n import t
from services.rollouts.history import Checked, History
from services.rollouts.models import Rollout
from services.rollouts.overview import Overview
from services.tenants.models import Actor, Permission, Tenant


def overview() -> Overview:
    """What is shown of rollouts beyond their steps."""
    services = wiring.services()
    return Overview(services.db, services.rollouts)


def history() -> History:
    """Their signed history, which is compared with the log."""
    services = wiring.services()
    return History(services.db, services.rollouts, services.keyring.jwks)


def card(actor: Actor, tenant: Tenant, rollout: Rollout) -> None:
    """One rollout in full, with what may be done."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(rollout.alias, anchor=False, width="content")
            rollout_view.badge(rollout.state)
        rollout_view.way(rollout)
        rollout_view.why(rollout)
        checked = history().check(actor, rollout.id)
        rollout_proof.flaws(checked)
        if actor.may(Permission.ROLL_OUT, tenant.id):
            rollout_actions.draw(actor, rollout)
        shown = (rollout.id, rollout.steps[-1].seq)
        st.fragment(live, run_every="5s" if rollout.is_open else None)(*shown)
        rollout_view.timeline(rollout, tenant.timezone)
        with st.expander(t("rollouts.history")):
            rollout_view.history(rollout, tenant.timezone)
        with st.expander(t("rollouts.proof")):
            proof(actor, tenant, rollout, checked)


def live(rollout_id: str, drawn_seq: int) -> None:
    """Where it stands, how traffic splits, and both arms; drawn again while it is open."""
    with errors.shown():
        actor, services = auth.actor(), wiring.services()
        rollout = services.rollouts.get(actor, rollout_id)
        if rollout.steps[-1].seq != drawn_seq:
            st.rerun()  # The driver has moved it: buttons and badge are of another state.
        looks = overview().verdicts(actor, rollout_id)
        drive = overview().drive(actor, rollout_id)
        rollout_view.standing(rollout, drive, looks[0] if looks else None)
        if rollout_view.is_outside(rollout):
            rollout_view.routed(rollout, drive)
            return
        found = services.rollouts.traffic(actor, rollout_id)
        if rollout.is_open:
            rollout_view.split(rollout, found)
        rollout_arms.draw(overview().compared(actor, rollout_id), rollout_id)
        rollout_view.arms(found)


def proof(actor: Actor, tenant: Tenant, rollout: Rollout, checked: Checked) -> None:
    """The policy, every look, the signed steps, and who outside was told."""
    if rollout.plan is not None:
        st.code(rollout.plan.policy_source, language="yaml")
    rollout_proof.verdicts(overview().verdicts(actor, rollout.id), tenant.timezone)
    rollout_proof.signed(rollout, overview().signed(actor, rollout.id), checked)
    rollout_proof.changes(history().changes(actor, rollout.id), tenant.timezone)
    rollout_proof.alerts(overview().alerts(actor, rollout.id), tenant.timezone)


def page() -> None:
    """Draw the rollouts of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    found = wiring.services().rollouts.list(actor, tenant.id)
    adapters = wiring.services().registry.list(actor, tenant.id)
    heading.draw(t("nav.rollouts"), t("rollouts.caption"))
    if not adapters and not found:
        empty.draw(t("rollouts.no_adapter"), t("rollouts.no_adapter_text"), icon="call_split")
        return
    busy = {rollout.alias for rollout in found if rollout.is_open}
    if actor.may(Permission.ROLL_OUT, tenant.id):
        rollout_form.draw(actor, tenant, adapters, busy)
    newest: dict[str, Rollout] = {}
    for rollout in found:
        newest.setdefault(rollout.alias, rollout)
    for rollout in newest.values():
        card(actor, tenant, rollout)
    if not newest:
        empty.draw(t("rollouts.empty"), t("rollouts.empty_text"), icon="call_split")
    earlier = [rollout for rollout in found if newest[rollout.alias] is not rollout]
    if earlier:
        heading.section(t("rollouts.earlier"))
        rollout_view.earlier(earlier, tenant.timezone)


page()
