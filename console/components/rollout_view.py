"""One rollout: how traffic splits, what each arm answered, and the way it went."""

from __future__ import annotations

from typing import Literal

import plotly.graph_objects as go
import streamlit as st

from console.components import amount, charts
from console.i18n import number, percent, t, when
from services.rollouts.models import ArmTraffic, Rollout, RolloutState, Traffic

Colour = Literal["gray", "blue", "green", "orange"]
_LOOKS: dict[RolloutState, tuple[Colour, str]] = {
    RolloutState.PLANNED: ("gray", "schedule"),
    RolloutState.STEPPING: ("blue", "call_split"),
    RolloutState.PROMOTED: ("green", "check_circle"),
    RolloutState.ROLLED_BACK: ("orange", "undo"),
}


def state_name(value: RolloutState) -> str:
    """A state in the reader's language."""
    return t(f"rollouts.state_{value.value}")


def badge(value: RolloutState) -> None:
    """Draw a state by sign, word and colour."""
    colour, icon = _LOOKS[value]
    st.badge(state_name(value), color=colour, icon=f":material/{icon}:")


def way(rollout: Rollout) -> None:
    """Draw from what to what the alias is moved."""
    stable = rollout.stable or t("rollouts.base_model")
    st.markdown(f"`{stable}` → `{rollout.candidate}`")


def split(rollout: Rollout, traffic: Traffic) -> None:
    """Draw the asked share beside the observed one with its interval."""
    asked = percent(traffic.asked_percent / 100)
    if (
        traffic.observed_percent is None
        or traffic.low_percent is None
        or traffic.high_percent is None
    ):
        st.caption(t("rollouts.no_traffic", asked=asked))
        return
    low, high = traffic.low_percent, traffic.high_percent
    fits = low <= traffic.asked_percent <= high
    st.markdown(
        t(
            "rollouts.split_fits" if fits else "rollouts.split_differs",
            asked=asked,
            observed=percent(traffic.observed_percent / 100, 1),
            low=percent(low / 100, 1),
            high=percent(high / 100, 1),
        )
    )
    figure = go.Figure(
        go.Scatter(
            x=[traffic.observed_percent], y=[""], mode="markers", name=t("rollouts.observed"),
            marker={"size": 12, "symbol": "diamond"},
            error_x={
                "type": "data", "symmetric": False, "array": [high - traffic.observed_percent],
                "arrayminus": [traffic.observed_percent - low], "thickness": 2, "width": 7,
            },
            hovertemplate="%{x:.1f} %<extra></extra>",
        )
    )  # fmt: skip
    figure.add_scatter(
        x=[traffic.asked_percent], y=[""], mode="markers", name=t("rollouts.asked"),
        marker={"size": 26, "symbol": "line-ns-open", "line": {"width": 3}},
        hovertemplate="%{x} %<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(range=[-2, 102], ticksuffix=" %")
    figure.update_yaxes(showgrid=False, showticklabels=False)
    charts.draw(figure, key=".".join(("rollouts", "split", rollout.id)), height_px=130)


def arms(traffic: Traffic) -> None:
    """Draw what both arms answered since the rollout began."""
    st.dataframe(
        [_arm(traffic.stable), _arm(traffic.canary)],
        column_config={
            "arm": t("rollouts.arm"),
            "requests": t("rollouts.requests"),
            "errors": t("rollouts.errors"),
            "partial": t("rollouts.partial"),
            "latency": t("rollouts.latency"),
            "tokens": t("rollouts.tokens"),
            "cost": t("rollouts.cost"),
        },
        hide_index=True,
    )


def _arm(found: ArmTraffic) -> dict[str, str]:
    return {
        "arm": t(f"rollouts.arm_{found.arm.value}"),
        "requests": number(found.requests),
        "errors": number(found.errors),
        "partial": number(found.partial),
        "latency": "–" if found.mean_latency_ms is None else number(found.mean_latency_ms),
        "tokens": number(found.prompt_tokens + found.completion_tokens),
        "cost": amount.shown(found.cost_micro),
    }


def history(rollout: Rollout, zone: str) -> None:
    """Draw every step, newest first."""
    st.dataframe(
        [
            {
                "at": when(step.at, zone),
                "state": state_name(step.state),
                "percent": percent(step.percent / 100),
                "who": step.actor_name,
                "reason": step.reason or "–",
            }
            for step in reversed(rollout.steps)
        ],
        column_config={
            "at": t("rollouts.at"),
            "state": t("rollouts.state"),
            "percent": t("rollouts.share"),
            "who": t("rollouts.who"),
            "reason": st.column_config.Column(t("rollouts.reason"), width="large"),
        },
        hide_index=True,
    )


def reasons(found: list[str]) -> None:
    """Draw what the gate says."""
    if not found:
        st.success(t("rollouts.gate_passes"), icon=":material/verified:")
        return
    lines = "\n".join(f"- {reason}" for reason in found)
    st.warning(f"{t('rollouts.gate_fails')}\n\n{lines}", icon=":material/gpp_maybe:")


def earlier(found: list[Rollout], zone: str) -> None:
    """Draw rollouts that have ended, one line each."""
    st.dataframe(
        [
            {
                "alias": rollout.alias,
                "candidate": rollout.candidate,
                "state": state_name(rollout.state),
                "at": when(rollout.ended_at or rollout.started_at, zone),
                "who": rollout.steps[-1].actor_name,
                "reason": rollout.steps[-1].reason or "–",
            }
            for rollout in found
        ],
        column_config={
            "alias": t("rollouts.alias"),
            "candidate": st.column_config.Column(t("rollouts.candidate"), width="medium"),
            "state": t("rollouts.state"),
            "at": t("rollouts.at"),
            "who": t("rollouts.who"),
            "reason": st.column_config.Column(t("rollouts.reason"), width="large"),
        },
        hide_index=True,
    )
