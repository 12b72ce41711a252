"""One rollout: how traffic splits, what each arm answered, and the way it went."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

import plotly.graph_objects as go
import streamlit as st

from console.components import amount, charts
from console.components.text import plain
from console.i18n import number, percent, t, when
from services.rollouts.backends import GATEWAY
from services.rollouts.driving.notebook import Drive
from services.rollouts.driving.store import KeptVerdict
from services.rollouts.models import ArmTraffic, Rollout, RolloutState, Traffic
from services.rollouts.policy import read_policy

Colour = Literal["gray", "blue", "green", "orange"]
_LOOKS: dict[RolloutState, tuple[Colour, str]] = {
    RolloutState.PLANNED: ("gray", "schedule"),
    RolloutState.PRELOADING: ("gray", "downloading"),
    RolloutState.STEPPING: ("blue", "call_split"),
    RolloutState.PAUSED: ("orange", "pause"),
    RolloutState.DRILLING: ("orange", "emergency"),
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


def is_outside(rollout: Rollout) -> bool:
    """Whether a cluster splits its traffic, so that the gateway sees no arms."""
    return rollout.plan is not None and rollout.plan.backend != GATEWAY


def way(rollout: Rollout) -> None:
    """Draw from what to what the alias is moved."""
    stable = rollout.stable or t("rollouts.base_model")
    st.markdown(f"`{stable}` → `{rollout.candidate}`")
    if rollout.plan is not None and is_outside(rollout):
        target = rollout.plan.target
        where = f"{target.get('namespace', '')}/{target.get('name', '')}"
        st.caption(t("rollouts.split_by", backend=rollout.plan.backend, where=plain(where)))


def standing(rollout: Rollout, drive: Drive | None, latest: KeptVerdict | None) -> None:
    """Draw which step it is at, and what the driver waits for.

    Args:
        latest: The newest look; None where nobody has looked.
    """
    if rollout.plan is None or not rollout.is_open:
        return
    steps = read_policy(rollout.plan.policy_source).steps
    place = 0 if drive is None else drive.progress.step
    if rollout.percent:
        st.progress(
            (place + 1) / (len(steps) + 1),
            text=t("rollouts.at_step", step=place + 1, steps=len(steps), percent=rollout.percent),
        )
    if waits := _waits(rollout, drive, latest, steps[place].min_requests):
        st.caption(f":material/hourglass_empty: {waits}")


def _waits(rollout: Rollout, drive: Drive | None, latest: KeptVerdict | None, least: int) -> str:
    if drive is None:
        return t("rollouts.no_driver")
    if latest is None or latest.seq != rollout.steps[-1].seq:
        return plain(drive.note)
    fewest = min(int(latest.facts["stableN"]), int(latest.facts["canaryN"]))
    open_ones = [
        t(f"rollouts.metric_{one['metric']}")
        for one in latest.facts["comparisons"]
        if one["required"] and one["outcome"] == "inconclusive"
    ]
    told = []
    if fewest < least:
        told.append(t("rollouts.waits_requests", least=number(least), found=number(fewest)))
    if open_ones:
        told.append(t("rollouts.waits_metrics", names=", ".join(open_ones)))
    return " ".join(told) or t("rollouts.waits_hold")


def timeline(rollout: Rollout, zone: str) -> None:
    """Draw the share from step to step, each with its state and time."""
    local = ZoneInfo(zone)
    places = list(range(len(rollout.steps)))
    names = [
        f"{state_name(step.state)}<br>{step.at.astimezone(local):%d.%m. %H:%M}"
        for step in rollout.steps
    ]
    figure = go.Figure(
        go.Scatter(
            x=places, y=[step.percent for step in rollout.steps], mode="lines+markers",
            line={"shape": "hv", "width": 2}, marker={"size": 10}, text=names,
            hovertemplate="%{text}: %{y} %<extra></extra>",
        )
    )  # fmt: skip
    every = max(1, len(names) // 8)
    figure.update_xaxes(
        tickvals=places[::every], ticktext=names[::every], tickangle=0, tickfont={"size": 11},
        range=[-0.4, len(places) - 0.6], automargin=True,
    )  # fmt: skip
    figure.update_yaxes(range=[-6, 108], **charts.percents(0, 25, 50, 75, 100))
    figure.update_layout(showlegend=False, hovermode="closest")
    charts.draw(figure, key=".".join(("rollouts", "timeline", rollout.id)), height_px=210)


def why(rollout: Rollout) -> None:
    """Draw why it has ended or stands still, and who says so."""
    last = rollout.steps[-1]
    if last.reason and (not rollout.is_open or last.state is RolloutState.PAUSED):
        st.caption(t("rollouts.why", who=plain(last.actor_name), reason=plain(last.reason)))


def routed(rollout: Rollout, drive: Drive | None) -> None:
    """Draw the asked share beside the one that was read back from the cluster."""
    asked = percent(rollout.percent / 100)
    found = None if drive is None else drive.routed_percent
    if found is None:
        st.caption(t("rollouts.routed_unknown", asked=asked))
    else:
        key = "routed_fits" if found == rollout.percent else "routed_differs"
        st.markdown(t(f"rollouts.{key}", asked=asked, routed=percent(found / 100)))
    if drive is not None and drive.note and not rollout.is_open:
        st.caption(f":material/info: {plain(drive.note)}")
    st.caption(t("rollouts.arms_hidden"))


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
    figure.update_xaxes(range=[-2, 102], **charts.percents(0, 20, 40, 60, 80, 100))
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
    if traffic.elsewhere:
        st.caption(t("rollouts.elsewhere", count=number(traffic.elsewhere)))


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
