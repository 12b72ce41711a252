"""One training run: where it stands, its curves, its log, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from console import navigation, wiring
from console.components import charts, figures, job_status
from console.i18n import duration, number, t, when
from services.jobs.models import JobStatus
from services.tenants.models import Actor, Tenant
from services.training.models import Point, Run

SMOOTH_STEPS = 8
"""A step sees few pairs, so its numbers jump; the strong line is the mean of so many steps."""

CURVES = ("loss", "margin", "accuracy", "learning_rate", "tokens_per_s", "rss_mb")
MAX_DRAWN = 800
"""More points than a chart is wide are not drawn."""
_CALM = ("learning_rate", "rss_mb", "gpu_mb")
"""Do not jump, and are drawn as they are."""

_STAGES = {
    "starting": "starting",
    "loading the base model": "loading",
    "preparing the pairs": "preparing",
    "training": "training",
    "saving the adapter": "saving",
}


def draw(actor: Actor, tenant: Tenant, run: Run, points: Sequence[Point]) -> None:
    """Draw everything but the buttons."""
    _progress(actor, run, points)
    job_status.trouble(run.job)
    if points:
        _figures(points[-1])
        _curves(points)
    _outcome(actor, tenant, run)


def _progress(actor: Actor, run: Run, points: Sequence[Point]) -> None:
    status = run.job.status
    if status is JobStatus.QUEUED:
        st.info(job_status.why_waiting(actor, run.job), icon=":material/hourglass_top:")
    if not status.is_final:
        st.progress(min(max(run.job.progress, 0.0), 1.0), text=_where(run, points))


def _where(run: Run, points: Sequence[Point]) -> str:
    """What is being done, and for how long still."""
    if run.job.status is JobStatus.STOPPING:
        return t("train.saving_state")
    if run.job.status is JobStatus.QUEUED:
        return t("train.not_begun")
    stage = _STAGES.get(run.job.message, "training")
    if not points or stage != "training":
        return t(f"train.stage_{stage}")
    last = points[-1]
    return t(
        "train.step_of", step=last.step, steps=last.max_steps, left=duration(max(last.eta_s, 0))
    )


def _figures(last: Point) -> None:
    figures.draw(
        [
            (t("train.step"), f"{number(last.step)} / {number(last.max_steps)}"),
            (t("train.loss"), number(last.loss, 3)),
            (t("train.margin"), number(last.margin, 3)),
            (t("train.speed"), number(last.tokens_per_s)),
        ]
    )


def _curves(points: Sequence[Point]) -> None:
    drawn = thinned(points, MAX_DRAWN)
    on_gpu = points[-1].gpu_mb > 0
    with st.grid(3, min_column_width=260):
        for name in (*CURVES[:-1], "gpu_mb" if on_gpu else "rss_mb"):
            with st.container():
                st.markdown(f"**{t(f'train.{name}')}**", help=t(f"train.{name}_curve_help"))
                charts.draw(
                    _curve(name, drawn), key=".".join(("train", "curve", name)), height_px=220
                )


def _curve(name: str, points: Sequence[Point]) -> go.Figure:
    """One number over the steps: faint as measured, strong as the mean of the last few."""
    steps = [point.step for point in points]
    values = [float(getattr(point, name)) for point in points]
    if name in _CALM:
        calm = go.Figure([go.Scatter(x=steps, y=values, mode="lines", line={"width": 2})])
        calm.update_layout(showlegend=False, xaxis_title=t("train.step"))
        return calm.update_yaxes(rangemode="tozero", exponentformat="power")
    figure = go.Figure(
        [
            go.Scatter(
                x=steps, y=smoothed(values, SMOOTH_STEPS), mode="lines",
                name=t("train.mean_of", count=SMOOTH_STEPS), line={"width": 2.5},
            ),
            go.Scatter(
                x=steps, y=values, mode="lines", name=t("train.each_step"), opacity=0.45,
                line={"width": 1},
            ),
        ]
    )  # fmt: skip
    figure.update_layout(showlegend=False, xaxis_title=t("train.step"))
    if name == "accuracy":
        figure.update_yaxes(range=[-0.03, 1.03], **charts.percents(0, 25, 50, 75, 100, scale=100))
    return figure


def thinned(points: Sequence[Point], at_most: int) -> Sequence[Point]:
    """Every so manieth point, the newest always."""
    stride = max(1, -(-len(points) // at_most))
    return points if stride == 1 else [*points[:-1:stride], points[-1]]


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """The mean of each value and of those before it, at most `width` together."""
    sums = [0.0, *accumulate(values)]
    return [
        # Rounded: differences of sums would draw a flat line as noise in the 17th digit.
        round((sums[end] - sums[max(0, end - width)]) / min(end, width), 9)
        for end in range(1, len(values) + 1)
    ]


def _outcome(actor: Actor, tenant: Tenant, run: Run) -> None:
    if run.adapter is not None:
        with st.container(border=True):
            st.markdown(t("train.adapter"))
            st.code(run.adapter, language=None)
            navigation.link("evaluate", actor, tenant.id, t("train.evaluate_it"))
    if part := folded("facts"):
        part.dataframe(
            _facts(run, tenant.timezone),
            column_config={"name": t("train.fact"), "value": t("train.value")},
            hide_index=True,
        )
    if part := folded("advanced"):
        part.code(run.spec.more.as_yaml(), language="yaml")
    if part := folded("log"):
        tail = wiring.services().training.log_tail(actor, run.id, max_bytes=16_384)
        part.code(tail or t("train.no_log"), language=None, height=320)


def folded(name: str) -> Any:
    """A part that is asked for and drawn only while it is open; None while it is not."""
    part = st.expander(t(f"train.{name}"), key=f"train.open_{name}", on_change="rerun")
    return part if part.open else None


def _facts(run: Run, zone: str) -> list[dict[str, str]]:
    facts = {
        t("train.run"): run.id,
        t("train.launched_by"): f"{run.created_by} · {when(run.created_at, zone)}",
        t("train.base_model"): f"{run.spec.base_model} · {run.base_digest[:12]}",
        t("train.dataset"): f"{run.spec.dataset_id} · {run.dataset_sha256[:12]}",
        t("train.attempts"): number(run.job.attempt),
        t("train.backend"): f"{run.backend} · {run.job.host}" if run.job.host else run.backend,
        **({t("train.parent"): run.parent_id} if run.parent_id else {}),
        "MLflow": run.mlflow_run_id or "–",
    }
    if processes := run.result.get("processes"):
        facts[t("train.processes")] = number(processes)
    told = {**run.spec.as_json(), **run.spec.more.as_json()}
    del told["advanced"]
    facts |= {name: str(value) for name, value in told.items()}
    return [{"name": name, "value": value} for name, value in facts.items()]
