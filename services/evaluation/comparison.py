"""Two to six adapters on the same held-out prompts: who is better, by how much, and where.

Loads scipy, so a page imports it only when there is something to compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.errors import InvalidInput
from services.evaluation.beside import SEED, spread_of
from services.evaluation.findings import Range, Verdict
from services.evaluation.models import Evaluation, PairScore
from services.evaluation.several import holm
from services.evaluation.statistics import (
    mcnemar_exact,
    mean_estimate,
    minimum_detectable_difference,
    paired_difference_interval,
)
from services.evaluation.summary import decide
from services.preferences.labels import PairLabel

BASE = "base"
"""Names the base model as what everything is compared with."""
LEAST, MOST = 2, 6
NO_LABEL = PairLabel("", "", "")


@dataclass(frozen=True)
class Contender:
    """One evaluation that takes part, with the scores of its pairs."""

    evaluation: Evaluation
    scores: Sequence[PairScore]

    @property
    def name(self) -> str:
        """The adapter's."""
        return self.evaluation.adapter


@dataclass(frozen=True)
class Row:
    """One adapter against what all are compared with.

    Attributes:
        accuracy: Share of prompts with log p(chosen) > log p(rejected); `against` the other's.
        low: Lower bound of the 95 % interval of the difference; likewise `high`.
        p_value: Of the exact McNemar test.
        p_adjusted: After Holm's correction over all rows: this one decides the verdict.
        margin: Change of log p(chosen) - log p(rejected), nats, mean over prompts.
        chosen_shift: Change of log p(chosen), nats a token, mean over prompts.
        minimum_detectable: Smallest difference of accuracies that so many prompts would show.
    """

    adapter: str
    accuracy: float
    against: float
    gained: int
    lost: int
    low: float
    high: float
    p_value: float
    p_adjusted: float
    margin: Range
    chosen_shift: Range
    minimum_detectable: float | None
    verdict: Verdict

    @property
    def difference(self) -> float:
        """Accuracy of the adapter minus the other's."""
        return self.accuracy - self.against


@dataclass(frozen=True)
class PromptChange:
    """One held-out prompt.

    Attributes:
        pair_ids: The pairs of the prompt that all have scored.
        margins: By adapter, log p(chosen) - log p(rejected), nats, mean over its pairs; under
            `BASE` the other's, whatever that is.
        label: Language and topic.
    """

    prompt_key: str
    pair_ids: tuple[str, ...]
    margins: Mapping[str, float]
    label: PairLabel

    def change(self, adapter: str) -> float:
        """How much an adapter's margin differs from the other's, nats."""
        return self.margins[adapter] - self.margins[BASE]

    @property
    def worst(self) -> float:
        """The lowest change of all adapters."""
        return min(self.change(name) for name in self.margins if name != BASE)


@dataclass(frozen=True)
class Comparison:
    """What all contenders show on the prompts that they share.

    Attributes:
        against: `BASE`, or the adapter that the others are compared with.
        n_prompts: Prompts that all have scored and that the filters keep.
        n_pairs: Their pairs.
        n_left_out: Pairs that some of them did not score, or that the filters leave out.
        rows: One for each adapter but the one compared with, in the order asked for.
        prompts: The worst changes first.
    """

    against: str
    n_prompts: int
    n_pairs: int
    n_left_out: int
    rows: tuple[Row, ...]
    prompts: tuple[PromptChange, ...]


def compare(
    contenders: Sequence[Contender],
    labels: Mapping[str, PairLabel],
    *,
    against: str = BASE,
    language: str | None = None,
    topic: str | None = None,
) -> Comparison:
    """Compare adapters on the held-out pairs that all of them have scored.

    Args:
        contenders: Finished evaluations of different adapters.
        labels: Language and topic by pair id; missing ones match no filter.
        against: `BASE`, or the name of a contender.
        language: Only pairs in it.
        topic: Only pairs about it.

    Raises:
        InvalidInput: Too few or too many, one twice, several base models, an unknown
            `against`, or no common pair.
    """
    _check(contenders, against)
    shared = _shared(contenders)
    kept = {
        pair_id
        for pair_id in shared
        if _matches(labels.get(pair_id, NO_LABEL), language=language, topic=topic)
    }
    if not kept:
        raise InvalidInput(
            f"expected held-out pairs that all {len(contenders)} adapters have scored, found none"
            + (" in this selection" if shared else "")
        )
    prompts = _prompts(contenders, kept, against, labels)
    rows = _rows(contenders, kept, against)
    everything = {score.pair_id for one in contenders for score in one.scores}
    return Comparison(
        against=against,
        n_prompts=len(prompts),
        n_pairs=len(kept),
        n_left_out=len(everything - kept),
        rows=rows,
        prompts=tuple(sorted(prompts, key=lambda one: (one.worst, one.prompt_key))),
    )


def _check(contenders: Sequence[Contender], against: str) -> None:
    names = [one.name for one in contenders]
    if not LEAST <= len(names) <= MOST:
        raise InvalidInput(f"expected {LEAST} to {MOST} adapters to compare, found {len(names)}")
    if len(set(names)) != len(names):
        raise InvalidInput(
            f"expected different adapters, found {max(names, key=names.count)} twice"
        )
    bases = {one.evaluation.base_digest for one in contenders}
    if len(bases) > 1:
        raise InvalidInput(f"expected adapters of one base model, found those of {len(bases)}")
    if against != BASE and against not in names:
        raise InvalidInput(
            f"compared with {against!r}: expected {BASE!r} or one of {', '.join(names)}"
        )


def _shared(contenders: Sequence[Contender]) -> set[str]:
    """Pairs that all have scored and that were the same texts each time.

    An answer may have been edited between two data sets under the same pair id: the base model,
    which all have in common, then counts other tokens or another likelihood.
    """
    first = {score.pair_id: score for score in contenders[0].scores}
    others = [{score.pair_id: score for score in one.scores} for one in contenders[1:]]
    return {
        pair_id
        for pair_id, score in first.items()
        if all(pair_id in other and _same_texts(score, other[pair_id]) for other in others)
    }


def _same_texts(one: PairScore, other: PairScore) -> bool:
    return (one.chosen_tokens, one.rejected_tokens) == (
        other.chosen_tokens,
        other.rejected_tokens,
    ) and all(
        math.isclose(a, b, rel_tol=1e-3, abs_tol=0.05)
        for a, b in (
            (one.base_chosen, other.base_chosen),
            (one.base_rejected, other.base_rejected),
        )
    )


def _matches(label: PairLabel, *, language: str | None, topic: str | None) -> bool:
    return language in {None, label.language} and topic in {None, label.topic}


Measure = Callable[[PairScore], float]


def _by_prompt(scores: Sequence[PairScore], kept: set[str], measure: Measure) -> dict[str, float]:
    """Mean over the kept pairs of each prompt, by prompt."""
    found: dict[str, list[float]] = {}
    for score in sorted(scores, key=lambda score: (score.prompt_key, score.pair_id)):
        if score.pair_id in kept:
            found.setdefault(score.prompt_key, []).append(float(measure(score)))
    return {key: math.fsum(values) / len(values) for key, values in found.items()}


def _rows(contenders: Sequence[Contender], kept: set[str], against: str) -> tuple[Row, ...]:
    other = next((one for one in contenders if one.name == against), None)
    tried = [one for one in contenders if one is not other]
    found = [_Raw.of(one, other, kept) for one in tried]
    adjusted = holm([one.p_value for one in found])
    return tuple(raw.row(one.name, p) for one, raw, p in zip(tried, found, adjusted, strict=True))


@dataclass(frozen=True)
class _Raw:
    """One comparison before the others are known."""

    adapter: Sequence[float]
    other: Sequence[float]
    margins: Sequence[float]
    shifts: Sequence[float]
    has_several: bool

    @classmethod
    def of(cls, tried: Contender, other: Contender | None, kept: set[str]) -> _Raw:
        def of_adapter(one: Contender, measure: Measure) -> dict[str, float]:
            return _by_prompt(one.scores, kept, measure)

        source = tried if other is None else other
        by_other = (
            (lambda s: s.base_margin, lambda s: s.base_chosen / s.chosen_tokens)
            if other is None
            else (lambda s: s.adapter_margin, lambda s: s.adapter_chosen / s.chosen_tokens)
        )
        margin = of_adapter(tried, lambda s: s.adapter_margin)
        margin_other = of_adapter(source, by_other[0])
        chosen = of_adapter(tried, lambda s: s.adapter_chosen / s.chosen_tokens)
        chosen_other = of_adapter(source, by_other[1])
        right = of_adapter(tried, lambda s: s.adapter_margin > 0)
        right_other = of_adapter(source, lambda s: by_other[0](s) > 0)
        keys = sorted(margin)
        return cls(
            adapter=[right[key] for key in keys],
            other=[right_other[key] for key in keys],
            margins=[margin[key] - margin_other[key] for key in keys],
            shifts=[chosen[key] - chosen_other[key] for key in keys],
            has_several=len(keys) < len(kept),
        )

    @property
    def changes(self) -> list[float]:
        return [new - old for new, old in zip(self.adapter, self.other, strict=True)]

    @property
    def gained_lost(self) -> tuple[int, int]:
        return sum(one > 0 for one in self.changes), sum(one < 0 for one in self.changes)

    @property
    def p_value(self) -> float:
        return mcnemar_exact(*self.gained_lost)

    def row(self, name: str, p_adjusted: float) -> Row:
        gained, lost = self.gained_lost
        n = len(self.adapter)
        low, high = paired_difference_interval(gained, lost, n)
        if self.has_several and len(set(self.changes)) > 1:
            # Several pairs to a prompt: its share may change by less than one whole.
            found = mean_estimate(self.changes, seed=SEED)
            if found.low is not None and found.high is not None:
                low, high = found.low, found.high
        return Row(
            adapter=name,
            accuracy=math.fsum(self.adapter) / n,
            against=math.fsum(self.other) / n,
            gained=gained,
            lost=lost,
            low=low,
            high=high,
            p_value=self.p_value,
            p_adjusted=p_adjusted,
            margin=spread_of(self.margins),
            chosen_shift=spread_of(self.shifts),
            minimum_detectable=minimum_detectable_difference(n, (gained + lost) / n),
            verdict=decide(n, low, high, p_adjusted),
        )


def _prompts(
    contenders: Sequence[Contender],
    kept: set[str],
    against: str,
    labels: Mapping[str, PairLabel],
) -> list[PromptChange]:
    other = next((one for one in contenders if one.name == against), None)
    margins = {
        one.name: _by_prompt(one.scores, kept, lambda s: s.adapter_margin)
        for one in contenders
        if one is not other
    }
    if other is None:
        margins[BASE] = _by_prompt(contenders[0].scores, kept, lambda s: s.base_margin)
    else:
        margins[BASE] = _by_prompt(other.scores, kept, lambda s: s.adapter_margin)
    pairs: dict[str, list[str]] = {}
    for score in contenders[0].scores:
        if score.pair_id in kept:
            pairs.setdefault(score.prompt_key, []).append(score.pair_id)
    return [
        PromptChange(
            prompt_key=key,
            pair_ids=tuple(sorted(ids)),
            margins={name: found[key] for name, found in margins.items()},
            label=labels.get(sorted(ids)[0], NO_LABEL),
        )
        for key, ids in pairs.items()
    ]
