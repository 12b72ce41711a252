"""What an adapter must have shown before it is promoted. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Iterator

from services.evaluation.models import Evaluation, Summary, Verdict
from services.evaluation.policy import Gate, GatePolicy, Quality, Shortfall

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
    """Judge an adapter by its latest evaluation, as the tenant's policy says.

    What was not measured is no good result: a policy that asks for neutral text or tasks is not
    met by an evaluation without them.

    Args:
        evaluation: The latest one of the adapter; None if there is none.

    Returns:
        Passed only if the quality is shown and nothing got worse meanwhile.
    """
    if evaluation is None:
        return _closed(Shortfall("never_evaluated", "The adapter was never evaluated."))
    if evaluation.summary is None:
        return _closed(
            Shortfall("not_finished", f"The evaluation of the adapter is {evaluation.job.status}.")
        )
    found = tuple(_shortfalls(evaluation.summary, evaluation.policy))
    return Gate(not found, tuple(one.sentence for one in found), found)


def _closed(shortfall: Shortfall) -> Gate:
    return Gate(False, (shortfall.sentence,), (shortfall,))


def _shortfalls(summary: Summary, policy: GatePolicy) -> Iterator[Shortfall]:
    yield from _quality(summary, policy)
    yield from _size(summary, policy)
    yield from _displacement(summary)
    yield from _degeneration(summary)
    yield from _texts(summary, policy)
    yield from _tasks(summary, policy)
    yield from _judge(summary, policy)


def _quality(summary: Summary, policy: GatePolicy) -> Iterator[Shortfall]:
    enough = {Verdict.BETTER}
    if policy.quality is Quality.NON_INFERIOR:
        enough.add(Verdict.NON_INFERIOR)
    if summary.verdict not in enough:
        yield Shortfall("quality", f"{_SHORTFALLS[summary.verdict]}: {summary.sentence}")


def _size(summary: Summary, policy: GatePolicy) -> Iterator[Shortfall]:
    if summary.n_prompts < policy.min_prompts:
        yield Shortfall(
            "too_few",
            f"Its evaluation has {summary.n_prompts} held-out prompts; the policy asks for "
            f"{policy.min_prompts}.",
            {"found": summary.n_prompts, "needed": policy.min_prompts},
        )


def _displacement(summary: Summary) -> Iterator[Shortfall]:
    shift = summary.chosen_shift
    if shift.high is not None and shift.high < SHIFT_ALARM:
        yield Shortfall(
            "displaced",
            "The chosen answers became less likely: log p changed by "
            f"{shift.mean:.3f} nats a token ({shift.low:.3f} to {shift.high:.3f}, "
            f"alarm below {SHIFT_ALARM}).",
            {"shift": shift.mean},
        )


def _degeneration(summary: Summary) -> Iterator[Shortfall]:
    if summary.adapter_degenerate > summary.base_degenerate:
        yield Shortfall(
            "degenerate",
            f"The adapter repeats itself in {summary.adapter_degenerate} of {summary.n_answers} "
            f"answers, its base model in {summary.base_degenerate}.",
            {
                "adapter": summary.adapter_degenerate,
                "base": summary.base_degenerate,
                "count": summary.n_answers,
            },
        )


def _texts(summary: Summary, policy: GatePolicy) -> Iterator[Shortfall]:
    if policy.max_nll_rise is None:
        return
    if summary.texts is None:
        yield Shortfall("no_texts", "Its perplexity on neutral text was not measured.")
        return
    change = summary.texts.change
    if change.high is None or change.high >= policy.max_nll_rise:
        high = "unknown" if change.high is None else f"{change.high:+.3f}"
        yield Shortfall(
            "texts",
            "Its perplexity on neutral text is not shown to be kept: "
            f"{summary.texts.base_perplexity:.1f} became {summary.texts.adapter_perplexity:.1f} "
            f"(change {change.mean:+.3f} nats a token, upper bound {high}, "
            f"allowed below {policy.max_nll_rise}).",
            {
                "base": summary.texts.base_perplexity,
                "adapter": summary.texts.adapter_perplexity,
                "high": change.high,
                "allowed": policy.max_nll_rise,
            },
        )


def _tasks(summary: Summary, policy: GatePolicy) -> Iterator[Shortfall]:
    if policy.max_task_loss is None:
        return
    if not summary.tasks:
        yield Shortfall("no_tasks", "The tasks that show forgetting were not done.")
        return
    worse = [one for one in summary.tasks if one.verdict is Verdict.WORSE]
    for one in worse:
        yield Shortfall(
            "task_worse",
            f"It does the task {one.task} worse: {one.base:.1%} became {one.adapter:.1%} on "
            f"{one.n} documents (p = {one.p_adjusted:.3g} after Holm's correction).",
            {"task": one.task, "base": one.base, "adapter": one.adapter, "p": one.p_adjusted},
        )
    low = summary.task_loss_low
    if not worse and (low is None or low <= -policy.max_task_loss):
        shown = "unknown" if low is None else f"{low:+.1%}"
        yield Shortfall(
            "tasks",
            "Its tasks together are not shown to be kept: the accuracy may have changed by "
            f"{shown}, allowed is less than {policy.max_task_loss:.1%} lost.",
            {"low": low, "allowed": policy.max_task_loss},
        )


def _judge(summary: Summary, policy: GatePolicy) -> Iterator[Shortfall]:
    found = summary.judged
    if found is None:
        if policy.needs_judge:
            yield Shortfall("no_judge", "The judge has not compared its answers.")
        return
    if found.controlled_high < 0.5:
        yield Shortfall(
            "judge",
            f"The judge {found.judge} prefers its base model: win rate "
            f"{found.win_rate.mean:.1%}, {found.controlled:.1%} at equal lengths, on {found.n} "
            "prompts.",
            {"rate": found.win_rate.mean, "controlled": found.controlled, "count": found.n},
        )
