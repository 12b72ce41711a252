"""What an adapter must have shown before it is promoted. Pure, and quick to import."""

from __future__ import annotations

from services.evaluation.models import Evaluation, Gate, Summary, Verdict

SHIFT_ALARM = -0.05
"""Change of log p(chosen) in nats a token below which good answers count as displaced.

Likelihood displacement: the margin grows while both answers become unlikely (arXiv:2502.07599).
The alarm is raised only when the whole interval lies below.
"""

_SHORTFALLS = {
    Verdict.WORSE: "The adapter is worse than its base model on held-out pairs",
    Verdict.NON_INFERIOR: "The adapter is no worse than its base model, but not shown to be better",
    Verdict.INCONCLUSIVE: "The held-out pairs do not show that the adapter is better",
}


def gate(evaluation: Evaluation | None) -> Gate:
    """Judge an adapter by its latest evaluation.

    Args:
        evaluation: The latest one of the adapter; None if there is none.

    Returns:
        Passed only if the verdict is `better` and nothing got worse meanwhile.
    """
    if evaluation is None:
        return Gate(False, ("The adapter was never evaluated.",))
    if evaluation.summary is None:
        return Gate(False, (f"The evaluation of the adapter is {evaluation.job.status}.",))
    summary = evaluation.summary
    found = (_quality(summary), _displacement(summary), _degeneration(summary))
    reasons = tuple(reason for reason in found if reason is not None)
    return Gate(not reasons, reasons)


def _quality(summary: Summary) -> str | None:
    shortfall = _SHORTFALLS.get(summary.verdict)
    return None if shortfall is None else f"{shortfall}: {summary.sentence}"


def _displacement(summary: Summary) -> str | None:
    shift = summary.chosen_shift
    if shift.high is None or shift.high >= SHIFT_ALARM:
        return None
    return (
        "The chosen answers became less likely: log p changed by "
        f"{shift.mean:.3f} nats a token ({shift.low:.3f} to {shift.high:.3f}, "
        f"alarm below {SHIFT_ALARM})."
    )


def _degeneration(summary: Summary) -> str | None:
    if summary.adapter_degenerate <= summary.base_degenerate:
        return None
    return (
        f"The adapter repeats itself in {summary.adapter_degenerate} of {summary.n_answers} "
        f"answers, its base model in {summary.base_degenerate}."
    )
