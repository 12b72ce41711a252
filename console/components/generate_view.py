"""One run of AI feedback: how far it is, what it cost, and what gave no verdict."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import amount, errors, figures, job_status
from console.i18n import number, percent, t, when
from services.jobs.models import JobStatus
from services.rlaif.models import CallState, Kind, Outcome, Run
from services.tenants.models import Actor, Tenant

_SHOWN = 100


def draw(actor: Actor, tenant: Tenant, run: Run) -> None:
    """Draw a run."""
    job_status.trouble(run.job)
    if not run.job.status.is_final:
        st.progress(run.job.progress, _where(run))
        if run.job.status is JobStatus.QUEUED:
            st.caption(job_status.why_waiting(actor, run.job))
    _numbers(run)
    st.progress(min(1.0, run.spent_micro / run.cap_micro), _money(run))
    if run.counts.calls.get(CallState.LOST):
        st.warning(
            t("generate.lost", count=run.counts.calls[CallState.LOST]), icon=":material/help:"
        )
    _calls(actor, tenant, run)
    if run.counts.published:
        st.caption(t("generate.where"))


def _where(run: Run) -> str:
    """What is being done, from the run's own counts: a job's message speaks English only."""
    counts = run.counts
    if run.job.status is JobStatus.QUEUED:
        return t("generate.not_begun")
    if run.job.status is JobStatus.STOPPING:
        return t("generate.stopping")
    asked = counts.prompts * len(run.spec.temperatures)
    if run.spec.kind is Kind.GENERATE and counts.candidates < asked:
        return t("generate.step_candidates", done=counts.candidates, of=asked)
    return t("generate.step_verdicts", done=counts.calls_ended, of=2 * counts.pairs)


def _money(run: Run) -> str:
    spent, cap = amount.shown(run.spent_micro), amount.shown(run.cap_micro)
    return t("generate.money", spent=spent, cap=cap)


def _numbers(run: Run) -> None:
    counts = run.counts
    both = counts.consistent + counts.inconsistent
    values = [
        (t("generate.candidates"), number(counts.candidates)),
        (t("generate.in_queue"), f"{number(counts.published)} / {number(counts.pairs)}"),
        (t("generate.verdicts"), number(counts.calls.get(CallState.DONE, 0))),
        (t("generate.agree"), percent(counts.consistent / both) if both else "–"),
    ]
    if counts.published:
        values.append((t("generate.a_pair"), amount.shown(-(-run.spent_micro // counts.published))))
    shown = values if counts.prompts else values[1:]
    figures.draw(shown, columns=len(shown))


def _calls(actor: Actor, tenant: Tenant, run: Run) -> None:
    """What gave no verdict, by name."""
    states = {one: n for one, n in run.counts.calls.items() if one is not CallState.DONE}
    if not states:
        return
    with st.expander(t("generate.without"), icon=":material/report:"):
        found = wiring.services().rlaif.calls(actor, run.id, limit=_SHOWN, only_failed=True)
        st.dataframe(
            [
                {
                    "state": t(f"generate.state_{call.state}"),
                    "note": call.note,
                    "cost": number(call.cost_micro / 1e6, 6),
                    "at": when(call.sent_at, tenant.timezone),
                    "call": call.custom_id,
                }
                for call in found
            ],
            column_config={
                "state": t("generate.state"),
                "note": st.column_config.Column(t("generate.note"), width="large"),
                "cost": t("generate.spent_usd"),
                "at": t("generate.sent_at"),
                "call": t("generate.call"),
            },
            hide_index=True,
        )


def again(run: Run) -> None:
    """Draw the way to go on with a run that has ended before its end."""
    lost = run.counts.calls.get(CallState.LOST, 0)
    if run.outcome is Outcome.COMPLETE and not lost:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if run.outcome is not Outcome.COMPLETE:
            st.number_input(
                t("generate.cap"), 0.001, 1_000_000.0, run.cap_micro / 1e6, 0.01, format=amount.ENTERED,
                key=f"generate.new_cap.{run.id}", width=220,
            )  # fmt: skip
            st.button(
                t("generate.resume"), icon=":material/play_arrow:", key="generate.resume",
                on_click=_resume, args=(run.id, run.cap_micro, False),
            )  # fmt: skip
        if lost:
            st.button(
                t("generate.ask_again", count=lost), icon=":material/replay:",
                key="generate.ask_again", help=t("generate.ask_again_help"),
                on_click=_resume, args=(run.id, run.cap_micro, True),
            )  # fmt: skip


@errors.guarded
def _resume(run_id: str, cap_micro: int, ask_lost_again: bool) -> None:
    cap = round(float(state.get(f"generate.new_cap.{run_id}", cap_micro / 1e6)) * 1_000_000)
    wiring.services().rlaif.resume(
        auth.actor(), run_id, cap_micro=cap if cap != cap_micro else None,
        ask_lost_again=ask_lost_again,
    )  # fmt: skip
    errors.leave(t("generate.resumed"))
