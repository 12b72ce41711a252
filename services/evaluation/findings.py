"""What an evaluation finds beside the held-out pairs: texts, references, judge, tasks, speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What a comparison says about an adapter."""

    BETTER = "better"
    WORSE = "worse"
    NON_INFERIOR = "non-inferior"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Range:
    """A mean over pairs with its 95 % interval.

    Attributes:
        mean: In the unit that the summary names.
        low: Lower bound; None where the sample is too small for an interval.
        high: Upper bound, likewise.
        p_value: Of the two-sided sign test, which asks less of the data than the interval.
        method: `t`, `bootstrap` or `none`.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float
    method: str


@dataclass(frozen=True)
class TextFinding:
    """How well both models predict neutral text, which no one trained on.

    Attributes:
        n_texts: Texts, each of which counts the same in `change`.
        n_tokens: Tokens that were predicted.
        base_perplexity: exp of the mean negative log-likelihood of a token; likewise the adapter's.
        change: Rise of the negative log-likelihood from base to adapter, nats a token; 0.02 are
            2 % more perplexity.
    """

    n_texts: int
    n_tokens: int
    base_perplexity: float
    adapter_perplexity: float
    change: Range


@dataclass(frozen=True)
class Compared:
    """A measure of both models' answers, 0 to 1, and its difference.

    Attributes:
        difference: Adapter minus base.
    """

    base: float
    adapter: float
    difference: Range


@dataclass(frozen=True)
class OverlapFinding:
    """How far answers share the words of their references.

    Attributes:
        n: Answers with a reference.
        rouge_l: F measure of the longest common subsequence of words.
        bleu: Of one answer, with effective order; its mean is no corpus BLEU.
    """

    n: int
    rouge_l: Compared
    bleu: Compared


@dataclass(frozen=True)
class JudgeFinding:
    """How often an AI judge prefers the adapter's answer, asked in both orders.

    Attributes:
        judge: Its name.
        n: Prompts that were judged in both orders.
        wins: Prompts whose both orders prefer the adapter; `losses` those that prefer the base.
        ties: The others: equal, or another answer in each order.
        inconsistent: Of the ties, those in which the order decided.
        win_rate: Mean of 1 for a win, 0.5 for a tie and 0 for a loss, with its interval.
        controlled: The same at equal lengths, by a logistic fit; its interval by a bootstrap of
            the whole fit.
        length_effect: Slope of that fit: above zero the judge likes longer answers.
        length_ratio: Mean length of the adapter's answers over the base's, characters.
        failed: Prompts of which some order brought no verdict; they are left out.
        unasked: Prompts that the cap left unasked; likewise.
    """

    judge: str
    n: int
    wins: int
    losses: int
    ties: int
    inconsistent: int
    win_rate: Range
    controlled: float
    controlled_low: float
    controlled_high: float
    length_effect: float
    length_ratio: float
    failed: int = 0
    unasked: int = 0


@dataclass(frozen=True)
class TaskFinding:
    """Both models on one of lm-eval's tasks.

    Attributes:
        gained: Documents that only the adapter gets right; `lost` those that only the base does.
        low: Lower bound of the 95 % interval of adapter minus base accuracy; likewise `high`.
        p_value: Of the exact McNemar test.
        p_adjusted: The same after Holm's correction over all tasks.
    """

    task: str
    n: int
    base: float
    adapter: float
    gained: int
    lost: int
    low: float
    high: float
    p_value: float
    p_adjusted: float
    verdict: Verdict

    @property
    def difference(self) -> float:
        """Adapter minus base accuracy."""
        return self.adapter - self.base


@dataclass(frozen=True)
class SpeedFinding:
    """What the answers took, measured in this evaluation's own process.

    A comparison on one machine, not a promise of what a gateway will do.

    Attributes:
        base_tokens_per_s: Over all answers, batches of several; likewise the adapter's.
        tokens: Change of an answer's length, tokens.
        base_cost_micro: Mean cost of a request, micro-USD, by the tenant's prices; None where
            there is none for the model. Likewise the adapter's.
        price_version: Of the price table; empty where there is no price.
    """

    base_tokens_per_s: float | None
    adapter_tokens_per_s: float | None
    tokens: Range
    base_cost_micro: float | None
    adapter_cost_micro: float | None
    price_version: str


def texts_of(values: Mapping[str, Any] | None) -> TextFinding | None:
    """A stored finding; likewise the others."""
    if values is None:
        return None
    return TextFinding(**{**values, "change": Range(**values["change"])})


def overlap_of(values: Mapping[str, Any] | None) -> OverlapFinding | None:
    """See `texts_of`."""
    if values is None:
        return None
    both = {
        name: Compared(**{**values[name], "difference": Range(**values[name]["difference"])})
        for name in ("rouge_l", "bleu")
    }
    return OverlapFinding(n=values["n"], **both)


def judged_of(values: Mapping[str, Any] | None) -> JudgeFinding | None:
    """See `texts_of`."""
    if values is None:
        return None
    return JudgeFinding(**{**values, "win_rate": Range(**values["win_rate"])})


def tasks_of(values: list[Mapping[str, Any]] | None) -> tuple[TaskFinding, ...]:
    """See `texts_of`."""
    return tuple(TaskFinding(**{**one, "verdict": Verdict(one["verdict"])}) for one in values or ())


def speed_of(values: Mapping[str, Any] | None) -> SpeedFinding | None:
    """See `texts_of`."""
    if values is None:
        return None
    return SpeedFinding(**{**values, "tokens": Range(**values["tokens"])})
