"""Rollouts: give a candidate some of the traffic, then promote it or take it back."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import auth, state, wiring
from console.components import empty, errors, heading, rollout_view, verdict
from console.i18n import t
from services.registry.models import Adapter
from services.rollouts.models import Rollout, RolloutState
from services.tenants.models import Actor, Permission, Tenant


def key(name: str, rollout_id: str) -> str:
    """Session key of one rollout's widget."""
    return ".".join(("rollouts", name, rollout_id))


def starter(actor: Actor, tenant: Tenant, adapters: Sequence[Adapter], busy: set[str]) -> None:
    """Ask which candidate is tried on which alias, and with how much traffic."""
    meant = {
        target.alias: target.adapter
        for target in wiring.services().tenants.aliases(actor, tenant.id)
    }
    free = [one for one in adapters if one.alias not in busy and meant.get(one.alias) != one.name]
    aliases = sorted({one.alias for one in free})
    with st.expander(t("rollouts.new"), icon=":material/add:", expanded=not busy):
        if not aliases:
            st.caption(t("rollouts.nothing_to_start"))
            return
        left, middle, right = st.columns([2, 3, 3])
        alias = left.selectbox(t("rollouts.alias"), aliases, key="rollouts.alias")
        candidates = [one.name for one in free if one.alias == alias]
        middle.selectbox(t("rollouts.candidate"), candidates, key="rollouts.candidate")
        right.slider(t("rollouts.first_share"), 0, 100, 10, format="%d %%", key="rollouts.percent")
        st.button(
            t("rollouts.start"), type="primary", icon=":material/call_split:",
            key="rollouts.start", on_click=start, args=(tenant.id,),
        )  # fmt: skip


@errors.guarded
def start(tenant_id: str) -> None:
    """Begin the rollout of the form."""
    wiring.services().rollouts.start(
        auth.actor(),
        tenant_id,
        state.get("rollouts.alias", ""),
        state.get("rollouts.candidate", ""),
        percent=state.get("rollouts.percent", 0),
    )
    errors.leave(t("rollouts.started"))


def card(actor: Actor, tenant: Tenant, rollout: Rollout) -> None:
    """One rollout in full, with what may be done."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(rollout.alias, anchor=False, width="content")
            rollout_view.badge(rollout.state)
        rollout_view.way(rollout)
        if actor.may(Permission.ROLL_OUT, tenant.id):
            actions(actor, rollout)
        st.fragment(traffic, run_every="5s" if rollout.is_open else None)(rollout.id)
        with st.expander(t("rollouts.history")):
            rollout_view.history(rollout, tenant.timezone)


def actions(actor: Actor, rollout: Rollout) -> None:
    """Another share, promotion, rollback."""
    if rollout.is_open:
        st.slider(
            t("rollouts.share"), 0, 100, rollout.percent, format="%d %%",
            key=key(f"share.{rollout.percent}", rollout.id),
        )  # fmt: skip
    with st.container(horizontal=True):
        if rollout.is_open:
            st.button(
                t("rollouts.apply"), icon=":material/tune:", key=key("apply", rollout.id),
                on_click=apply, args=(rollout.id, rollout.percent),
            )  # fmt: skip
            with st.popover(t("rollouts.promote"), icon=":material/check_circle:"):
                promotion(actor, rollout)
        if rollout.state is not RolloutState.ROLLED_BACK:
            with st.popover(t("rollouts.roll_back"), icon=":material/undo:"):
                st.write(t("rollouts.roll_back_text"))
                st.text_area(t("rollouts.reason"), key=key("back_reason", rollout.id), height=80)
                st.button(
                    t("rollouts.roll_back_now"), type="primary", key=key("back", rollout.id),
                    on_click=roll_back, args=(rollout.id,),
                )  # fmt: skip


def promotion(actor: Actor, rollout: Rollout) -> None:
    """What the gate says, and the reason that it may ask for."""
    latest = wiring.services().evaluations.latest_for(actor, rollout.tenant_id, rollout.candidate)
    missing = verdict.gate_reasons(latest)
    rollout_view.reasons(missing)
    label = t("rollouts.reason_needed") if missing else t("rollouts.reason_optional")
    st.text_area(label, key=key("reason", rollout.id), height=80)
    st.button(
        t("rollouts.promote_now"), type="primary", key=key("promote", rollout.id),
        on_click=promote, args=(rollout.id,),
    )  # fmt: skip


@errors.guarded
def apply(rollout_id: str, shown: int) -> None:
    """Give the candidate the share of the slider."""
    chosen = state.get(key(f"share.{shown}", rollout_id), shown)
    wiring.services().rollouts.step(auth.actor(), rollout_id, chosen)
    errors.leave(t("rollouts.stepped", percent=chosen))


@errors.guarded
def promote(rollout_id: str) -> None:
    """Make the candidate what the alias means."""
    reason = state.get(key("reason", rollout_id), "")
    done = wiring.services().rollouts.promote(auth.actor(), rollout_id, reason=reason)
    errors.leave(t("rollouts.promoted", alias=done.alias, candidate=done.candidate))


@errors.guarded
def roll_back(rollout_id: str) -> None:
    """Restore what the alias meant before."""
    reason = state.get(key("back_reason", rollout_id), "")
    done = wiring.services().rollouts.rollback(auth.actor(), rollout_id, reason=reason)
    errors.leave(t("rollouts.rolled_back", alias=done.alias))


def traffic(rollout_id: str) -> None:
    """How traffic splits, and what each arm answered; drawn again while the rollout is open."""
    with errors.shown():
        actor = auth.actor()
        rollout = wiring.services().rollouts.get(actor, rollout_id)
        found = wiring.services().rollouts.traffic(actor, rollout_id)
        if rollout.is_open:
            rollout_view.split(rollout, found)
        rollout_view.arms(found)


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
        starter(actor, tenant, adapters, busy)
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
