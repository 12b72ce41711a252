"""What may be done with a rollout: back at any time, on with proof, a pause, a drill, a share."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import errors, rollout_view, verdict
from console.i18n import number, t
from services.rollouts.models import Rollout, RolloutState
from services.rollouts.overview import Overview
from services.tenants.models import Actor

_MOVES = {RolloutState.STEPPING, RolloutState.PAUSED}


def key(name: str, rollout_id: str) -> str:
    """Session key of one rollout's widget."""
    return ".".join(("rollouts", name, rollout_id))


def draw(actor: Actor, rollout: Rollout) -> None:
    """Everything that this rollout's state allows; the way back first."""
    if rollout.state is RolloutState.ROLLED_BACK:
        return
    reason, button = st.columns([3, 1], vertical_alignment="bottom")
    reason.text_input(
        t("rollouts.back_reason"), key=key("back_reason", rollout.id), max_chars=2_000
    )
    button.button(
        f":red[**{t('rollouts.roll_back_now')}**]", icon=":material/undo:",
        key=key("back", rollout.id), on_click=roll_back, args=(rollout.id,), width="stretch",
        help=t("rollouts.roll_back_text"),
    )  # fmt: skip
    if not rollout.is_open:
        return
    with st.container(horizontal=True):
        with st.popover(t("rollouts.promote"), icon=":material/check_circle:"):
            _promotion(actor, rollout)
        _others(rollout)
        with st.popover(t("rollouts.move_by_hand"), icon=":material/tune:"):
            _share(actor, rollout)


def _others(rollout: Rollout) -> None:
    can_drill = rollout.state in _MOVES and rollout.percent > 0
    if rollout.plan is not None and rollout.state is not RolloutState.PAUSED:
        st.button(
            t("rollouts.pause"), icon=":material/pause:", key=key("pause", rollout.id),
            on_click=pause, args=(rollout.id,), disabled=rollout.state is RolloutState.DRILLING,
        )  # fmt: skip
    if rollout.state is RolloutState.PAUSED:
        st.button(
            t("rollouts.resume"), icon=":material/play_arrow:", key=key("resume", rollout.id),
            on_click=resume, args=(rollout.id,),
        )  # fmt: skip
    st.button(
        t("rollouts.drill"), icon=":material/emergency:", key=key("drill", rollout.id),
        on_click=drill, args=(rollout.id,), disabled=not can_drill, help=t("rollouts.drill_help"),
    )  # fmt: skip


def _share(actor: Actor, rollout: Rollout) -> None:
    """Another share, and whom it would move before it does."""
    chosen = st.slider(
        t("rollouts.share"), 0, 100, rollout.percent, format="%d %%",
        key=key(f"share.{rollout.percent}", rollout.id),
    )  # fmt: skip
    services = wiring.services()
    found = Overview(services.db, services.rollouts).moved(
        actor, rollout.id, chosen, rollout.started_at
    )
    if not found.users:
        st.caption(t("rollouts.what_if_nobody"))
    else:
        st.caption(
            t(
                "rollouts.what_if",
                users=number(found.users),
                to_candidate=number(found.to_candidate),
                to_stable=number(found.to_stable),
            )
        )
    st.button(
        t("rollouts.apply"), icon=":material/tune:", key=key("apply", rollout.id),
        on_click=apply, args=(rollout.id, rollout.percent),
        disabled=rollout.state is RolloutState.DRILLING,
    )  # fmt: skip


def _promotion(actor: Actor, rollout: Rollout) -> None:
    """What the gate says, and the reason that it may ask for; off until one of them is there."""
    latest = wiring.services().evaluations.latest_for(actor, rollout.tenant_id, rollout.candidate)
    missing = verdict.gate_reasons(latest)
    rollout_view.reasons(missing)
    label = t("rollouts.reason_needed") if missing else t("rollouts.reason_optional")
    reason = st.text_area(label, key=key("reason", rollout.id), height=80)
    is_drill = rollout.state is RolloutState.DRILLING
    is_off = is_drill or bool(missing and not reason.strip())
    if is_off:
        st.caption(t("rollouts.off_drill" if is_drill else "rollouts.off_gate"))
    st.button(
        t("rollouts.promote_now"), type="primary", key=key("promote", rollout.id),
        on_click=promote, args=(rollout.id,), disabled=is_off,
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
    """Restore what the alias meant before; a reason can be left out when it burns."""
    reason = state.get(key("back_reason", rollout_id), "").strip() or t("rollouts.no_reason")
    done = wiring.services().rollouts.rollback(auth.actor(), rollout_id, reason=reason)
    errors.leave(t("rollouts.rolled_back", alias=done.alias))


@errors.guarded
def pause(rollout_id: str) -> None:
    """Have the driver go no further."""
    wiring.services().rollouts.pause(auth.actor(), rollout_id)
    errors.leave(t("rollouts.paused"))


@errors.guarded
def resume(rollout_id: str) -> None:
    """Have the driver go on."""
    wiring.services().rollouts.resume(auth.actor(), rollout_id)
    errors.leave(t("rollouts.resumed"))


@errors.guarded
def drill(rollout_id: str) -> None:
    """Rehearse a rollback."""
    wiring.services().rollouts.drill(auth.actor(), rollout_id)
    errors.leave(t("rollouts.drill_begun"))
