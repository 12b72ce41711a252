"""What an evaluation asks, measures and concludes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from services.evaluation.findings import (
    JudgeFinding,
    OverlapFinding,
    SpeedFinding,
    TaskFinding,
    TextFinding,
    judged_of,
    overlap_of,
    speed_of,
    tasks_of,
    texts_of,
)
from services.evaluation.findings import Range as Range
from services.evaluation.findings import Verdict as Verdict
from services.evaluation.policy import DEFAULT_POLICY, GatePolicy
from services.evaluation.policy import Gate as Gate
from services.jobs.models import Job

Messages = tuple[Mapping[str, str], ...]
"""A prompt: turns of `role` and `content`, the last one the user's."""


@dataclass(frozen=True)
class Checks:
    """What an evaluation measures beside the held-out pairs and the answers.

    Attributes:
        texts: Whether both models read neutral texts.
        text_count: How many of them; all where there are fewer.
        tasks: Whether both do the local lm-eval tasks.
        judge: Whether the AI judge compares their answers, which costs money.
        judge_cap_micro: What the judge may cost at most, micro-USD.
    """

    texts: bool = True
    tasks: bool = True
    judge: bool = False
    judge_cap_micro: int = 1_000_000
    text_count: int = 60


USUAL = Checks()


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
        texts: Neutral text; None where it was not measured. Likewise the following.
        overlap: Answers against their references.
        judged: What the AI judge prefers.
        tasks: lm-eval's tasks; empty where none was measured.
        task_loss_low: Lower bound of the 95 % interval of adapter minus base accuracy over the
            documents of all tasks together.
        speed: Speed, length and cost of the answers.
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
    texts: TextFinding | None = None
    overlap: OverlapFinding | None = None
    judged: JudgeFinding | None = None
    tasks: tuple[TaskFinding, ...] = ()
    task_loss_low: float | None = None
    speed: SpeedFinding | None = None

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
        found |= {name: getattr(self, name).mean for name in _RANGES}
        return found | {name: value for name, value in self._beside() if value is not None}

    def _beside(self) -> Iterator[tuple[str, float | None]]:
        if self.texts is not None:
            yield "base_perplexity", self.texts.base_perplexity
            yield "adapter_perplexity", self.texts.adapter_perplexity
            yield "neutral_nll_change", self.texts.change.mean
        if self.overlap is not None:
            for name in ("rouge_l", "bleu"):
                yield f"base_{name}", getattr(self.overlap, name).base
                yield f"adapter_{name}", getattr(self.overlap, name).adapter
        if self.judged is not None:
            yield "win_rate", self.judged.win_rate.mean
            yield "win_rate_length_controlled", self.judged.controlled
        for task in self.tasks:
            yield f"{task.task}_base", task.base
            yield f"{task.task}_adapter", task.adapter
        if self.speed is not None:
            yield "base_tokens_per_s", self.speed.base_tokens_per_s
            yield "adapter_tokens_per_s", self.speed.adapter_tokens_per_s

    def as_json(self) -> dict[str, Any]:
        """As it is stored; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Summary:
        """A stored summary; those of earlier versions hold fewer findings."""
        return cls(
            **{
                **values,
                "verdict": Verdict(values["verdict"]),
                **{name: Range(**values[name]) for name in _RANGES},
                "texts": texts_of(values.get("texts")),
                "overlap": overlap_of(values.get("overlap")),
                "judged": judged_of(values.get("judged")),
                "tasks": tasks_of(values.get("tasks")),
                "speed": speed_of(values.get("speed")),
            }
        )


_RANGES = ("reward_margin", "chosen_shift", "rejected_shift")


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
        prompt_tokens: Length of the prompt; None in evaluations of earlier versions, likewise
            the following.
        reference: What a good answer says; None where nobody gave one.
        base_seconds: The answer's share of the time that its batch took; likewise the adapter's.
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
    prompt_tokens: int | None = None
    reference: str | None = None
    base_seconds: float | None = None
    adapter_seconds: float | None = None


@dataclass(frozen=True)
class TextScore:
    """How both models read one neutral text.

    Attributes:
        tokens: How many were predicted.
        base_nll: Sum of -log p(token | everything before) under the base, nats; likewise the
            adapter's.
    """

    text_id: str
    language: str
    tokens: int
    base_nll: float
    adapter_nll: float


@dataclass(frozen=True)
class TaskScore:
    """Whether both models get one document of one task right."""

    task: str
    document: int
    base_right: bool
    adapter_right: bool


@dataclass(frozen=True)
class JudgeScore:
    """What the judge said of both answers to one prompt, shown in one order.

    Attributes:
        position: Of the prompt, as in `AnswerPair`.
        first: Whose answer was shown first: `base` or `adapter`.
        preferred: `base` or `adapter`; None for a tie, or where there is no verdict.
        failure: Why there is no verdict; empty where there is one.
        reason: The judge's own words; untrusted.
        prompt_tokens: As the judge counted them; likewise the completion's.
    """

    position: int
    first: str
    preferred: str | None
    failure: str
    reason: str
    judge: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Measured:
    """What one evaluation measured beside pairs and answers; empty where it did not."""

    texts: Sequence[TextScore] = ()
    tasks: Sequence[TaskScore] = ()
    judged: Sequence[JudgeScore] = ()


NOTHING = Measured()


@dataclass(frozen=True)
class Evaluation:
    """One adapter against its base on one dataset.

    Attributes:
        adapter: Its immutable name.
        dataset_id: Whose held-out part is scored.
        prompts: What both models answer; None for the worker's choice.
        references: What good answers say, one for each of `prompts` or none at all.
        checks: What else is measured; nothing in evaluations of earlier versions.
        beta: Of the run that made the adapter.
        job: Where it stands.
        summary: None until it has ended well.
        policy: What the tenant asks of a promotion, at the time of reading.
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
    references: tuple[str | None, ...] | None = None
    checks: Checks = Checks(texts=False, tasks=False)
    policy: GatePolicy = DEFAULT_POLICY
