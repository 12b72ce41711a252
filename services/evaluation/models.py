"""What an evaluation asks, measures and concludes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.jobs.models import Job

Messages = tuple[Mapping[str, str], ...]
"""A prompt: turns of `role` and `content`, the last one the user's."""


class Verdict(StrEnum):
    """What the held-out pairs say about an adapter."""

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
class Summary:
    """What one evaluation found.

    Log-probabilities are natural logarithms (nats) of the whole answer given the prompt, as the
    chat template writes both.

    Attributes:
        verdict: See `Verdict`; decided by the accuracies alone.
        sentence: The verdict in one sentence, with its interval and n.
        n_pairs: Held-out pairs that were scored.
        n_prompts: Their prompts. All means, shares and counts below are over prompts, each the
            mean of its pairs: pairs of one prompt are no independent witnesses.
        n_seen: Pairs left out because the adapter has learned from their prompt.
        n_too_long: Pairs left out because they are longer than the model reads.
        base_accuracy: Share with log p(chosen) > log p(rejected) under the base.
        adapter_accuracy: The same under the adapter.
        base_accuracy_per_token: The same with the means over the answer's tokens, which do not
            favour short answers; likewise the adapter's.
        gained: Prompts that the adapter gets right more often; `lost` those that the base does.
        accuracy_low: Lower bound of the 95 % interval of adapter minus base accuracy.
        p_value: Of the exact McNemar test.
        minimum_detectable: Smallest true difference of accuracies that so many prompts show four
            times in five; None where no difference would be shown.
        base_margin: Mean of log p(chosen) - log p(rejected) under the base, nats; likewise the
            adapter's.
        beta: Of the run that made the adapter.
        reward_accuracy: Share whose DPO implicit reward prefers the chosen answer.
        reward_margin: Mean of beta times (adapter margin - base margin), nats.
        dpo_loss: Mean of -log sigmoid(reward margin), nats; log 2 for an adapter equal to its base.
        chosen_shift: Mean change of log p(chosen) per token, nats; far below zero means that
            good answers became unlikely, which a growing margin can hide.
        rejected_shift: The same of the rejected answers.
        n_answers: Prompts that both models answered.
        base_degenerate: Answers of the base that repeat themselves; likewise the adapter's.
        base_repetition: Mean share of repeated word pairs in an answer, 0 to 1; likewise.
        seconds: Duration of the scoring process.
    """

    verdict: Verdict
    sentence: str
    n_pairs: int
    n_prompts: int
    n_seen: int
    n_too_long: int
    base_accuracy: float
    adapter_accuracy: float
    base_accuracy_per_token: float
    adapter_accuracy_per_token: float
    gained: int
    lost: int
    accuracy_low: float
    accuracy_high: float
    p_value: float
    minimum_detectable: float | None
    base_margin: float
    adapter_margin: float
    beta: float
    reward_accuracy: float
    reward_margin: Range
    dpo_loss: float
    chosen_shift: Range
    rejected_shift: Range
    n_answers: int
    base_degenerate: int
    adapter_degenerate: int
    base_repetition: float
    adapter_repetition: float
    seconds: float

    @property
    def accuracy_difference(self) -> float:
        """Adapter minus base accuracy."""
        return self.adapter_accuracy - self.base_accuracy

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers by name, as MLflow keeps them."""
        found = {
            field.name: float(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), int | float)
        }
        ranges = ("reward_margin", "chosen_shift", "rejected_shift")
        return found | {name: getattr(self, name).mean for name in ranges}

    def as_json(self) -> dict[str, Any]:
        """As it is stored; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Summary:
        """A stored summary."""
        ranges = ("reward_margin", "chosen_shift", "rejected_shift")
        return cls(
            **{
                **values,
                "verdict": Verdict(values["verdict"]),
                **{name: Range(**values[name]) for name in ranges},
            }
        )


@dataclass(frozen=True)
class PairScore:
    """What base and adapter think of one held-out pair.

    Attributes:
        prompt_key: Equal for pairs of the same prompt.
        base_chosen: log p(chosen answer | prompt) under the base, nats, sum over its tokens;
            likewise the other three.
        chosen_tokens: Tokens of the chosen answer, the end of turn included.
    """

    pair_id: str
    prompt_key: str
    base_chosen: float
    base_rejected: float
    adapter_chosen: float
    adapter_rejected: float
    chosen_tokens: int
    rejected_tokens: int

    @property
    def base_margin(self) -> float:
        """How much likelier the chosen answer is under the base: log p - log p, nats."""
        return self.base_chosen - self.base_rejected

    @property
    def adapter_margin(self) -> float:
        """The same under the adapter."""
        return self.adapter_chosen - self.adapter_rejected

    @property
    def base_margin_per_token(self) -> float:
        """The same of means over tokens, under the base."""
        return self.base_chosen / self.chosen_tokens - self.base_rejected / self.rejected_tokens

    @property
    def adapter_margin_per_token(self) -> float:
        """The same of means over tokens, under the adapter."""
        chosen = self.adapter_chosen / self.chosen_tokens
        return chosen - self.adapter_rejected / self.rejected_tokens

    @property
    def chosen_shift(self) -> float:
        """Change of log p(chosen) from base to adapter, nats a token."""
        return (self.adapter_chosen - self.base_chosen) / self.chosen_tokens

    @property
    def rejected_shift(self) -> float:
        """Change of log p(rejected) from base to adapter, nats a token."""
        return (self.adapter_rejected - self.base_rejected) / self.rejected_tokens

    def reward_margin(self, beta: float) -> float:
        """Difference of the DPO implicit rewards of both answers, nats.

        Source: Rafailov et al. 2023, section 4, arXiv:2305.18290.
        """
        return beta * (self.adapter_margin - self.base_margin)


@dataclass(frozen=True)
class AnswerPair:
    """What base and adapter answer to one prompt, greedily. Model text: untrusted.

    Attributes:
        position: 0 for the first prompt.
        base_repetition: Share of repeated word pairs, 0 to 1; likewise the adapter's.
        base_degenerate: Whether the answer repeats itself; likewise the adapter's.
        base_tokens: Length of the answer; likewise the adapter's.
    """

    position: int
    prompt: Messages
    base: str
    adapter: str
    base_tokens: int
    adapter_tokens: int
    base_repetition: float
    adapter_repetition: float
    base_degenerate: bool
    adapter_degenerate: bool


@dataclass(frozen=True)
class Evaluation:
    """One adapter against its base on one dataset.

    Attributes:
        adapter: Its immutable name.
        dataset_id: Whose held-out part is scored.
        prompts: What both models answer; None for the worker's choice.
        beta: Of the run that made the adapter.
        job: Where it stands.
        summary: None until it has ended well.
    """

    id: str
    tenant_id: str
    adapter: str
    adapter_digest: str
    base_model: str
    base_digest: str
    dataset_id: str
    dataset_sha256: str
    prompts: tuple[Messages, ...] | None
    beta: float
    job: Job
    summary: Summary | None
    created_at: datetime
    created_by: str


@dataclass(frozen=True)
class Gate:
    """Whether an adapter may be promoted without a stated reason.

    Attributes:
        reasons: Why not, in whole sentences; empty if it passed.
    """

    passed: bool
    reasons: tuple[str, ...]
