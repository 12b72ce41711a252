"""What is concluded beside the held-out pairs: texts, references, tasks, judge, speed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.errors import InvalidInput
from services.evaluation.findings import (
    Compared,
    JudgeFinding,
    OverlapFinding,
    Range,
    SpeedFinding,
    TaskFinding,
    TextFinding,
    Verdict,
)
from services.evaluation.models import AnswerPair, JudgeScore, TaskScore, TextScore
from services.evaluation.several import holm
from services.evaluation.statistics import (
    mcnemar_exact,
    mean_estimate,
    paired_difference_interval,
    sign_test,
)

ALPHA = 0.05
SEED = 20_240_501
"""Of the bootstrap; fixed, so that the same scores give the same interval."""
TASK_MARGIN = 0.02
"""So much accuracy may be lost at most for a task to count as no worse."""


@dataclass(frozen=True)
class Prices:
    """What a request costs, as the price table has it.

    Attributes:
        version: Of the table.
        base: Micro-USD for a number of prompt tokens and of completion tokens; likewise `adapter`.
    """

    version: str
    base: Callable[[int, int], int]
    adapter: Callable[[int, int], int]


def spread_of(values: Sequence[float]) -> Range:
    """The mean of one number a prompt, with its interval and sign test."""
    found = mean_estimate(values, seed=SEED)
    return Range(found.mean, found.low, found.high, sign_test(values), found.method)


def texts(scores: Sequence[TextScore]) -> TextFinding | None:
    """How the prediction of neutral text changed; each text counts the same.

    Raises:
        InvalidInput: A likelihood is no number.
    """
    scores = [score for score in scores if score.tokens]
    if not scores:
        return None
    for score in scores:
        if not (math.isfinite(score.base_nll) and math.isfinite(score.adapter_nll)):
            raise InvalidInput(
                f"neutral text {score.text_id}: expected finite likelihoods, found "
                f"{score.base_nll} and {score.adapter_nll}; the weights may hold no numbers"
            )
    n_tokens = sum(score.tokens for score in scores)
    return TextFinding(
        n_texts=len(scores),
        n_tokens=n_tokens,
        base_perplexity=_perplexity([score.base_nll for score in scores], n_tokens),
        adapter_perplexity=_perplexity([score.adapter_nll for score in scores], n_tokens),
        change=spread_of([(score.adapter_nll - score.base_nll) / score.tokens for score in scores]),
    )


def overlap(answers: Sequence[AnswerPair]) -> OverlapFinding | None:
    """ROUGE-L and BLEU of the answers that have a reference; None without any."""
    found = [(one.reference, one) for one in answers if one.reference and one.reference.strip()]
    if not found:
        return None
    # Only whoever has references pays for the import.
    from services.evaluation.overlap import bleu, rouge_l

    def compared(measure: Callable[[str, str], float]) -> Compared:
        base = [measure(reference, one.base) for reference, one in found]
        adapter = [measure(reference, one.adapter) for reference, one in found]
        changed = spread_of([new - old for old, new in zip(base, adapter, strict=True)])
        return Compared(_mean(base), _mean(adapter), changed)

    return OverlapFinding(n=len(found), rouge_l=compared(rouge_l), bleu=compared(bleu))


def tasks(scores: Sequence[TaskScore]) -> tuple[TaskFinding, ...]:
    """Each task by name, with p values corrected over all of them."""
    by_task: dict[str, list[TaskScore]] = {}
    for score in scores:
        by_task.setdefault(score.task, []).append(score)
    names = sorted(by_task)
    exact = [mcnemar_exact(*_changed(by_task[name])) for name in names]
    return tuple(
        _task(name, by_task[name], p, adjusted)
        for name, p, adjusted in zip(names, exact, holm(exact), strict=True)
    )


def _task(name: str, scores: Sequence[TaskScore], p_value: float, p_adjusted: float) -> TaskFinding:
    n = len(scores)
    gained, lost = _changed(scores)
    low, high = paired_difference_interval(gained, lost, n)
    return TaskFinding(
        task=name,
        n=n,
        base=sum(score.base_right for score in scores) / n,
        adapter=sum(score.adapter_right for score in scores) / n,
        gained=gained,
        lost=lost,
        low=low,
        high=high,
        p_value=p_value,
        p_adjusted=p_adjusted,
        verdict=_verdict(gained, lost, low, p_adjusted),
    )


def _verdict(gained: int, lost: int, low: float, p_adjusted: float) -> Verdict:
    if p_adjusted < ALPHA:
        return Verdict.BETTER if gained > lost else Verdict.WORSE
    return Verdict.NON_INFERIOR if low > -TASK_MARGIN else Verdict.INCONCLUSIVE


def task_loss_low(scores: Sequence[TaskScore]) -> float | None:
    """Lower bound of the change of accuracy over the documents of all tasks; None without any."""
    if not scores:
        return None
    return paired_difference_interval(*_changed(scores), len(scores))[0]


def judged(scores: Sequence[JudgeScore], answers: Sequence[AnswerPair]) -> JudgeFinding | None:
    """How often the judge prefers the adapter, over prompts that it judged in both orders."""
    if not scores:
        return None
    by_prompt: dict[int, list[JudgeScore]] = {}
    for score in scores:
        by_prompt.setdefault(score.position, []).append(score)
    whole = {
        position: found
        for position, found in sorted(by_prompt.items())
        if {one.first for one in found if not one.failure} == {"base", "adapter"}
    }
    if not whole:
        return None
    # Loads numpy's linear algebra: only where something was judged.
    from services.evaluation.winrate import length_controlled

    asked = sum(len(found) == 2 for found in by_prompt.values())
    points = [_points(found) for found in whole.values()]
    of = {answer.position: answer for answer in answers}
    base = [len(of[position].base) for position in whole]
    adapter = [len(of[position].adapter) for position in whole]
    longer_by = [float(new - old) for old, new in zip(base, adapter, strict=True)]
    controlled = length_controlled(points, longer_by, seed=SEED)
    rate = spread_of([point - 0.5 for point in points])
    return JudgeFinding(
        judge=scores[0].judge,
        n=len(whole),
        wins=points.count(1.0),
        losses=points.count(0.0),
        ties=points.count(0.5),
        inconsistent=sum(_turns(found) for found in whole.values()),
        win_rate=Range(
            rate.mean + 0.5, _within(rate.low), _within(rate.high), rate.p_value, rate.method
        ),
        controlled=controlled.rate,
        controlled_low=controlled.low,
        controlled_high=controlled.high,
        length_effect=controlled.length_effect,
        length_ratio=sum(adapter) / max(sum(base), 1),
        failed=asked - len(whole),
        unasked=len(answers) - asked,
    )


def _points(found: Sequence[JudgeScore]) -> float:
    """1 where both orders prefer the adapter, 0 where both prefer the base, else 0.5."""
    preferred = {one.preferred for one in found if not one.failure}
    if preferred == {"adapter"}:
        return 1.0
    return 0.0 if preferred == {"base"} else 0.5


def _turns(found: Sequence[JudgeScore]) -> bool:
    return len({one.preferred for one in found if not one.failure}) > 1


def _within(bound: float | None) -> float | None:
    return None if bound is None else min(1.0, max(0.0, bound + 0.5))


def speed(answers: Sequence[AnswerPair], prices: Prices | None) -> SpeedFinding | None:
    """What the answers took and cost; None in evaluations that did not measure it."""
    timed = [one for one in answers if one.base_seconds and one.adapter_seconds]
    if not timed:
        return None
    base_cost = adapter_cost = None
    counted = [one for one in timed if one.prompt_tokens is not None]
    if prices is not None and counted:
        base_cost = _mean([prices.base(one.prompt_tokens or 0, one.base_tokens) for one in counted])
        adapter_cost = _mean(
            [prices.adapter(one.prompt_tokens or 0, one.adapter_tokens) for one in counted]
        )
    return SpeedFinding(
        base_tokens_per_s=_rate(
            [one.base_tokens for one in timed], [one.base_seconds or 0.0 for one in timed]
        ),
        adapter_tokens_per_s=_rate(
            [one.adapter_tokens for one in timed], [one.adapter_seconds or 0.0 for one in timed]
        ),
        tokens=spread_of([one.adapter_tokens - one.base_tokens for one in timed]),
        base_cost_micro=base_cost,
        adapter_cost_micro=adapter_cost,
        price_version="" if base_cost is None or prices is None else prices.version,
    )


def _rate(tokens: Sequence[int], seconds: Sequence[float]) -> float | None:
    return sum(tokens) / sum(seconds) if sum(seconds) > 0 else None


def _changed(scores: Sequence[TaskScore]) -> tuple[int, int]:
    gained = sum(score.adapter_right and not score.base_right for score in scores)
    lost = sum(score.base_right and not score.adapter_right for score in scores)
    return gained, lost


def _perplexity(nll: Sequence[float], n_tokens: int) -> float:
    # Beyond exp(700) a float has no more room; such a model is broken either way.
    return math.exp(min(math.fsum(nll) / n_tokens, 700.0))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
