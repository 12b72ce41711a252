"""From scores and answers to a summary with a verdict. Loads scipy, so pages don't import it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.errors import InvalidInput
from services.evaluation import beside
from services.evaluation.beside import ALPHA, SEED, Prices, spread_of
from services.evaluation.models import (
    NOTHING,
    AnswerPair,
    Measured,
    PairScore,
    Range,
    Summary,
    Verdict,
)
from services.evaluation.policy import LEAST_PROMPTS
from services.evaluation.statistics import (
    mcnemar_exact,
    mean_estimate,
    minimum_detectable_difference,
    paired_difference_interval,
)

MIN_PROMPTS = LEAST_PROMPTS
"""Fewer held-out prompts are no ground for any verdict; 200 and more are for a firm one."""
NON_INFERIORITY = 0.02
"""So much accuracy may be lost at most for an adapter to count as no worse."""


@dataclass(frozen=True)
class LeftOut:
    """Held-out pairs that were not scored.

    Attributes:
        seen: The adapter has learned from their prompt.
        too_long: Longer than the model reads.
    """

    seen: int = 0
    too_long: int = 0


@dataclass(frozen=True)
class _Accuracies:
    """How often both models prefer the chosen answer, over prompts."""

    n: int
    base: float
    adapter: float
    gained: int
    lost: int
    low: float
    high: float
    p_value: float
    minimum_detectable: float | None


Measure = Callable[[PairScore], float]


def summarise(
    scores: Sequence[PairScore],
    answers: Sequence[AnswerPair],
    *,
    beta: float,
    left_out: LeftOut,
    seconds: float,
    measured: Measured = NOTHING,
    prices: Prices | None = None,
) -> Summary:
    """Conclude from all scores of one evaluation.

    Args:
        scores: One for each held-out pair. Pairs of one prompt are averaged first; prompts
            count as independent.
        answers: Side by side, may be empty.
        beta: Of the run that made the adapter, > 0.
        left_out: What was not scored.
        seconds: Duration of the scoring process.
        measured: What was measured beside pairs and answers.
        prices: What a request costs, where it is known.

    Raises:
        InvalidInput: There is no score at all, or one is no number.
    """
    if not scores:
        raise InvalidInput(
            "expected at least 1 held-out pair to score, found none "
            f"({left_out.seen} seen in training, {left_out.too_long} too long)"
        )
    _refuse_no_numbers(scores)
    found = _accuracies(scores)
    verdict = decide(found.n, found.low, found.high, found.p_value)

    def mean(measure: Measure) -> float:
        return _mean(_by_prompt(scores, measure))

    def spread(measure: Measure) -> Range:
        return spread_of(_by_prompt(scores, measure))

    return Summary(
        verdict=verdict,
        sentence=_sentence(verdict, found),
        n_pairs=len(scores),
        n_prompts=found.n,
        n_seen=left_out.seen,
        n_too_long=left_out.too_long,
        base_accuracy=found.base,
        adapter_accuracy=found.adapter,
        base_accuracy_per_token=mean(lambda score: score.base_margin_per_token > 0),
        adapter_accuracy_per_token=mean(lambda score: score.adapter_margin_per_token > 0),
        gained=found.gained,
        lost=found.lost,
        accuracy_low=found.low,
        accuracy_high=found.high,
        p_value=found.p_value,
        minimum_detectable=found.minimum_detectable,
        base_margin=mean(lambda score: score.base_margin),
        adapter_margin=mean(lambda score: score.adapter_margin),
        beta=beta,
        reward_accuracy=mean(lambda score: score.reward_margin(beta) > 0),
        reward_margin=spread(lambda score: score.reward_margin(beta)),
        dpo_loss=mean(lambda score: dpo_loss(score.reward_margin(beta))),
        chosen_shift=spread(lambda score: score.chosen_shift),
        rejected_shift=spread(lambda score: score.rejected_shift),
        n_answers=len(answers),
        base_degenerate=sum(answer.base_degenerate for answer in answers),
        adapter_degenerate=sum(answer.adapter_degenerate for answer in answers),
        base_repetition=_mean([answer.base_repetition for answer in answers]),
        adapter_repetition=_mean([answer.adapter_repetition for answer in answers]),
        seconds=seconds,
        texts=beside.texts(measured.texts),
        overlap=beside.overlap(answers),
        judged=beside.judged(measured.judged, answers),
        tasks=beside.tasks(measured.tasks),
        task_loss_low=beside.task_loss_low(measured.tasks),
        speed=beside.speed(answers, prices),
    )


def dpo_loss(reward_margin: float) -> float:
    """Sigmoid DPO loss of one pair: -log sigmoid(reward margin).

    Args:
        reward_margin: beta * ((log-ratio of chosen) - (log-ratio of rejected)), nats.

    Returns:
        The loss, nats, never negative; log 2 at a margin of 0.

    Source: Rafailov et al. 2023, equation 7, arXiv:2305.18290.
    """
    # Of both forms of log(1 + exp(-x)) the one whose exponential cannot overflow.
    return max(-reward_margin, 0.0) + math.log1p(math.exp(-abs(reward_margin)))


def decide(n: int, low: float, high: float, p_value: float) -> Verdict:
    """The verdict on a difference of accuracies.

    Args:
        n: Prompts.
        low: Lower bound of the 95 % interval of adapter minus base accuracy.
        high: Upper bound.
        p_value: Of the exact McNemar test; test and interval must agree.
    """
    if n < MIN_PROMPTS:
        return Verdict.INCONCLUSIVE
    if p_value < ALPHA and low > 0:
        return Verdict.BETTER
    if p_value < ALPHA and high < 0:
        return Verdict.WORSE
    return Verdict.NON_INFERIOR if low > -NON_INFERIORITY else Verdict.INCONCLUSIVE


def _accuracies(scores: Sequence[PairScore]) -> _Accuracies:
    base = _by_prompt(scores, lambda score: score.base_margin > 0)
    adapter = _by_prompt(scores, lambda score: score.adapter_margin > 0)
    differences = [now - before for before, now in zip(base, adapter, strict=True)]
    gained = sum(difference > 0 for difference in differences)
    lost = sum(difference < 0 for difference in differences)
    n = len(differences)
    low, high = paired_difference_interval(gained, lost, n)
    if n < len(scores) and len(set(differences)) > 1:
        # Several pairs to a prompt: its share may change by less than one whole.
        found = mean_estimate(differences, seed=SEED)
        if found.low is not None and found.high is not None:
            low, high = found.low, found.high
    return _Accuracies(
        n=n,
        base=_mean(base),
        adapter=_mean(adapter),
        gained=gained,
        lost=lost,
        low=low,
        high=high,
        p_value=mcnemar_exact(gained, lost),
        minimum_detectable=minimum_detectable_difference(n, (gained + lost) / n),
    )


def _by_prompt(scores: Sequence[PairScore], measure: Measure) -> list[float]:
    """The measure's mean over the pairs of each prompt, prompts in order of their key."""
    found: dict[str, list[float]] = {}
    for score in sorted(scores, key=lambda score: (score.prompt_key, score.pair_id)):
        found.setdefault(score.prompt_key, []).append(float(measure(score)))
    return [_mean(values) for values in found.values()]


def _sentence(verdict: Verdict, found: _Accuracies) -> str:
    numbers = (
        f"accuracy went from {found.base:.1%} to {found.adapter:.1%} on {found.n} held-out prompts "
        f"(95 % interval of the difference {found.low:+.1%} to {found.high:+.1%}, "
        f"exact McNemar p = {found.p_value:.3g})"
    )
    if verdict is not Verdict.INCONCLUSIVE:
        return f"{numbers}."
    if found.n < MIN_PROMPTS:
        return f"{numbers}; {found.n} are fewer than the {MIN_PROMPTS} that a verdict needs."
    if found.minimum_detectable is None:
        return f"{numbers}."
    return f"{numbers}; so many prompts show differences from {found.minimum_detectable:.1%} on."


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _refuse_no_numbers(scores: Sequence[PairScore]) -> None:
    for score in scores:
        sums = (
            score.base_chosen, score.base_rejected, score.adapter_chosen, score.adapter_rejected,
        )  # fmt: skip
        if not all(map(math.isfinite, sums)):
            raise InvalidInput(
                f"pair {score.pair_id}: expected finite log-probabilities, found {sums}; "
                "the adapter's weights may hold no numbers"
            )
