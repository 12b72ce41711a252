"""One evaluation in full, and several beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import navigation, wiring
from console.components import answer_pairs, beside_view, figures, heading, job_status, verdict
from console.i18n import number, percent, t
from services.evaluation.models import Evaluation, Summary
from services.jobs.models import JobStatus
from services.tenants.models import Actor

_STAGES = {"starting": "starting", "loading the models": "loading"}


def unfinished(actor: Actor, evaluation: Evaluation) -> None:
    """Draw where an evaluation without a summary stands."""
    job = evaluation.job
    job_status.trouble(job)
    if job.status is JobStatus.QUEUED:
        st.info(job_status.why_waiting(actor, job), icon=":material/hourglass_top:")
    if not job.status.is_final:
        stage = _STAGES.get(job.message, "scoring")
        text = t(
            "evaluate.not_begun" if job.status is JobStatus.QUEUED else f"evaluate.stage_{stage}"
        )
        st.progress(min(max(job.progress, 0.0), 1.0), text=text)


def finished(actor: Actor, evaluation: Evaluation, summary: Summary) -> None:
    """Draw what was found."""
    st.markdown(verdict.sentence(summary))
    _numbers(summary)
    reasons = verdict.gate_reasons(evaluation)
    if reasons:
        lines = "\n".join(f"- {reason}" for reason in reasons)
        st.warning(f"{t('evaluate.gate_fails')}\n\n{lines}", icon=":material/gpp_maybe:")
    else:
        st.success(t("evaluate.gate_passes"), icon=":material/verified:")
        navigation.link("rollouts", actor, evaluation.tenant_id, t("evaluate.roll_it_out"))
    verdict.forest([(evaluation.adapter, summary)], key="evaluate.forest")
    heading.section(t("evaluate.margins"), t("evaluate.margins_caption"))
    scores = wiring.services().evaluations.pair_scores(actor, evaluation.id)
    verdict.margins(scores, key="evaluate.margins_chart")
    beside_view.draw(summary)
    _more(summary)
    heading.section(t("evaluate.answers"), t("evaluate.answers_caption"))
    answers = wiring.services().evaluations.answers(actor, evaluation.id)
    if answers:
        answer_pairs.draw(answers)
    else:
        st.caption(t("evaluate.no_answers"))


def _numbers(summary: Summary) -> None:
    figures.draw(
        [
            (t("evaluate.base_accuracy"), percent(summary.base_accuracy, 1)),
            (t("evaluate.adapter_accuracy"), percent(summary.adapter_accuracy, 1)),
            (t("evaluate.adapter_minus_base"), verdict.signed(summary.accuracy_difference)),
            (t("evaluate.prompts"), number(summary.n_prompts)),
        ]
    )


def _more(summary: Summary) -> None:
    rows = [
        (
            t("evaluate.per_token"),
            percent(summary.base_accuracy_per_token, 1),
            percent(summary.adapter_accuracy_per_token, 1),
        ),
        (t("evaluate.margin"), number(summary.base_margin, 2), number(summary.adapter_margin, 2)),
        (
            t("evaluate.repeating"),
            f"{number(summary.base_degenerate)} / {number(summary.n_answers)}",
            f"{number(summary.adapter_degenerate)} / {number(summary.n_answers)}",
        ),
        (t("evaluate.shift_chosen"), "–", number(summary.chosen_shift.mean, 3)),
        (t("evaluate.shift_rejected"), "–", number(summary.rejected_shift.mean, 3)),
        (t("evaluate.reward_accuracy"), "–", percent(summary.reward_accuracy, 1)),
        (t("evaluate.changed"), "–", t("evaluate.gained_lost", gained=summary.gained, lost=summary.lost)),
        (t("evaluate.p_value"), "–", number(summary.p_value, 4)),
    ]  # fmt: skip
    with st.expander(t("evaluate.all_numbers")):
        st.dataframe(
            [{"what": what, "base": base, "adapter": adapter} for what, base, adapter in rows],
            column_config={
                "what": st.column_config.Column(t("evaluate.what"), width="large"),
                "base": t("evaluate.base"),
                "adapter": t("evaluate.adapter"),
            },
            hide_index=True,
        )
        st.caption(t("evaluate.left_out", seen=summary.n_seen, too_long=summary.n_too_long))


def compared(found: Sequence[tuple[Evaluation, Summary]]) -> None:
    """Draw several finished evaluations in one plot and one table."""
    if not found:
        st.caption(t("evaluate.choose_adapters"))
        return
    if len({evaluation.dataset_sha256 for evaluation, _summary in found}) > 1:
        st.warning(t("evaluate.other_pairs"), icon=":material/warning:")
    verdict.forest(
        [(evaluation.adapter, summary) for evaluation, summary in found], key="evaluate.compared"
    )
    st.dataframe(
        [
            {
                "adapter": evaluation.adapter,
                "verdict": verdict.word(summary.verdict),
                "base": percent(summary.base_accuracy, 1),
                "accuracy": percent(summary.adapter_accuracy, 1),
                "interval": t(
                    "evaluate.between",
                    low=verdict.signed(summary.accuracy_low),
                    high=verdict.signed(summary.accuracy_high),
                ),
                "prompts": summary.n_prompts,
                "repeating": f"{summary.adapter_degenerate} / {summary.n_answers}",
                "data": evaluation.dataset_sha256[:8],
            }
            for evaluation, summary in found
        ],
        column_config={
            "adapter": st.column_config.Column(t("evaluate.adapter"), width="medium"),
            "verdict": t("evaluate.verdict"),
            "base": t("evaluate.base_accuracy"),
            "accuracy": t("evaluate.adapter_accuracy"),
            "interval": t("evaluate.difference"),
            "prompts": t("evaluate.prompts"),
            "repeating": t("evaluate.repeating"),
            "data": t("evaluate.dataset"),
        },
        hide_index=True,
    )
