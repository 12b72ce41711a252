"""What a run of AI feedback is told, and what it knows of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.errors import InvalidInput
from services.jobs.models import Job
from services.metering.models import Price
from services.rlaif.judge import MAX_TOKENS

TEMPERATURES = (0.3, 0.5, 0.7, 0.9)
MAX_CANDIDATES = 8
MAX_PROMPTS = 10_000
BATCH_FROM = 200
"""Calls from which a run goes through batches: half the price, and up to a day of waiting."""
BASE = "base"
"""Names the bare base model in a specification."""


class Kind(StrEnum):
    """Where the pairs of a run come from: made here, or already there."""

    GENERATE = "generate"
    JUDGE = "judge"


class Mode(StrEnum):
    """How the judge is asked."""

    AUTO = "auto"
    DIRECT = "direct"
    BATCH = "batch"


class Selection(StrEnum):
    """Which pairs that are already there are judged.

    `stale`: an answer was edited after the AI judged it. `unjudged`: no judge has seen it.
    """

    STALE = "stale"
    UNJUDGED = "unjudged"


class CallState(StrEnum):
    """How a call to the judge stands.

    `sent`: on its way. `waiting`: the judge asked for a pause; nothing is owed. `lost`: sent, and
    nobody knows what became of it; counted at its highest cost and never sent again unless a
    person says so, which makes it `abandoned`. `void`: ended without a verdict and without a bill.
    """

    SENT = "sent"
    WAITING = "waiting"
    DONE = "done"
    REFUSED = "refused"
    CUT_OFF = "cut_off"
    MALFORMED = "malformed"
    FAILED = "failed"
    LOST = "lost"
    ABANDONED = "abandoned"
    VOID = "void"


class Outcome(StrEnum):
    """How a run ended; the job's own status says no more than that it ended.

    `complete`: every pair was asked about. `cap_reached`: the money that it may spend is spent.
    """

    COMPLETE = "complete"
    CAP_REACHED = "cap_reached"


@dataclass(frozen=True)
class Spec:
    """The order of a run.

    Attributes:
        cap_micro: What it may spend at most, micro-USD; candidates and verdicts together.
        model: What answers: an adapter's name, `base`, or empty for what users are served now.
        temperatures: One candidate each.
        max_new_tokens: Longest candidate.
        pairs_per_prompt: How many pairs of a prompt's candidates are judged.
        system: A system message before each prompt; empty for none.
        source: Where the pairs will say that they are from.
        is_evaluation: The prompts are an evaluation set: nothing is ever trained on them.
        selection: For a run that judges what is there; likewise `from_source` and `limit`.
        from_source: Only pairs of this import; empty for all.
        mode: `auto` sends `BATCH_FROM` calls and more as batches.
        concurrency: Direct calls, and candidates, at one time.
        max_tokens: Longest verdict, tokens.
        margin: Distance of the scores, of 10, from which one answer counts as the better one.
        attempts: How often a verdict that cannot be read is asked for in all.
        seed: Of the candidates.
    """

    kind: Kind
    cap_micro: int
    model: str = ""
    temperatures: tuple[float, ...] = TEMPERATURES
    max_new_tokens: int = 256
    pairs_per_prompt: int = 2
    system: str = ""
    source: str = "generated"
    is_evaluation: bool = False
    selection: Selection = Selection.STALE
    from_source: str = ""
    limit: int = 1_000
    mode: Mode = Mode.AUTO
    concurrency: int = 4
    max_tokens: int = MAX_TOKENS
    margin: float = 0.5
    attempts: int = 2
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {**asdict(self), "temperatures": list(self.temperatures)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Spec:
        """Read what `as_json` wrote.

        Raises:
            InvalidInput: A field that is not known, or a value out of range.
        """
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(stored) - known):
            raise InvalidInput(f"run: expected {', '.join(sorted(known))}, found {unknown[0]!r}")
        values = dict(stored)
        try:
            for name, kind in (("kind", Kind), ("mode", Mode), ("selection", Selection)):
                if name in values:
                    values[name] = kind(values[name])
            values["temperatures"] = tuple(values.get("temperatures", TEMPERATURES))
            return validate(cls(**values))
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"run: {error}") from error


_RANGES: Mapping[str, tuple[float, float]] = {
    "cap_micro": (1, 10**12),
    "max_new_tokens": (1, 4_096),
    "pairs_per_prompt": (1, 28),
    "limit": (1, 10_000),
    "concurrency": (1, 32),
    "max_tokens": (200, 32_000),
    "margin": (0, 10),
    "attempts": (1, 5),
    "seed": (0, 2**31 - 1),
}


def validate(spec: Spec) -> Spec:
    """Refuse an order that cannot be carried out; it comes back as it is to be kept.

    Raises:
        InvalidInput: A number is out of range, or there are too few candidates.
    """
    for name, (low, high) in _RANGES.items():
        value = getattr(spec, name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise InvalidInput(
                f"{name}: expected a number from {low:g} to {high:g}, found {value!r}"
            ).because("range", field=name, low=low, high=high, found=value)
        if name != "margin" and not isinstance(value, int):
            raise InvalidInput(f"{name}: expected a whole number, found {value!r}")
    if not 2 <= len(spec.temperatures) <= MAX_CANDIDATES:
        raise InvalidInput(
            f"temperatures: expected 2 to {MAX_CANDIDATES}, found {len(spec.temperatures)}"
        ).because("temperatures_count", most=MAX_CANDIDATES, found=len(spec.temperatures))
    for one in spec.temperatures:
        if not (isinstance(one, int | float) and math.isfinite(one) and 0 <= one <= 2):
            raise InvalidInput(
                f"temperatures: expected numbers from 0 to 2, found {one!r}"
            ).because("range", field="temperature", low=0, high=2, found=one)
    source = " ".join(spec.source.split())
    if not 0 < len(source) <= 200:
        raise InvalidInput(f"source: expected 1 to 200 characters, found {len(source)}").because(
            "length", field="source", low=1, high=200, found=len(source)
        )
    possible = math.comb(len(spec.temperatures), 2)
    return replace(
        spec,
        source=source,
        temperatures=tuple(float(one) for one in spec.temperatures),
        pairs_per_prompt=min(spec.pairs_per_prompt, possible),
    )


@dataclass(frozen=True)
class JudgePrice:
    """What the judge costs.

    Attributes:
        version: Where the price is from, and which one.
    """

    price: Price
    version: str

    def cost_micro(self, prompt_tokens: int, completion_tokens: int, *, is_batch: bool) -> int:
        """Cost of one call, rounded up to whole micro-units; a batch costs half."""
        exact = (
            prompt_tokens * self.price.prompt_micro_per_mtok
            + completion_tokens * self.price.completion_micro_per_mtok
        )
        return -(-exact // (2_000_000 if is_batch else 1_000_000))


@dataclass(frozen=True)
class Estimate:
    """What a run will do and cost, before it begins.

    Attributes:
        candidates: Answers that the own engine writes.
        calls: Questions to the judge, both orders counted.
        is_batch: Whether they go as batches.
        candidate_micro: Expected cost of the candidates; likewise of the verdicts.
        most_micro: What no run of this order can exceed: every call at its longest.
        measured_calls: Verdicts of this judge that the lengths were learned from; 0 where they
            are guessed.
        price_version: Where the judge's price is from.
    """

    prompts: int
    candidates: int
    pairs: int
    calls: int
    is_batch: bool
    candidate_micro: int
    judge_micro: int
    most_micro: int
    measured_calls: int
    price_version: str

    @property
    def expected_micro(self) -> int:
        """Candidates and verdicts together."""
        return self.candidate_micro + self.judge_micro

    @property
    def pair_micro(self) -> int:
        """Expected cost of one pair, rounded up."""
        return -(-self.expected_micro // max(1, self.pairs))


@dataclass(frozen=True)
class Counts:
    """How far a run is.

    Attributes:
        calls: By state, of this run.
        published: Pairs that are in the tenant's queue, or judgments that were added to pairs.
    """

    prompts: int = 0
    candidates: int = 0
    pairs: int = 0
    published: int = 0
    consistent: int = 0
    inconsistent: int = 0
    calls: Mapping[CallState, int] = field(default_factory=dict)

    @property
    def calls_ended(self) -> int:
        """Calls of which nothing more is expected."""
        open_ones = {CallState.SENT, CallState.WAITING}
        return sum(number for state, number in self.calls.items() if state not in open_ones)


@dataclass(frozen=True)
class Run:
    """One run of AI feedback.

    Attributes:
        revision: Of the judge's instructions and settings.
        spent_micro: Paid so far, and what may have been paid for calls that were lost.
        reserved_micro: Held for calls on their way.
        outcome: None while it has not ended by itself.
    """

    id: str
    tenant_id: str
    job: Job
    spec: Spec
    judge: str
    revision: str
    price: JudgePrice
    cap_micro: int
    spent_micro: int
    reserved_micro: int
    outcome: Outcome | None
    counts: Counts
    created_at: datetime
    created_by: str


@dataclass(frozen=True)
class Call:
    """One question to the judge, as it ended; for people to look at.

    Attributes:
        note: Why there is no verdict; empty where there is one.
    """

    custom_id: str
    state: CallState
    is_batch: bool
    prompt_tokens: int
    completion_tokens: int
    cost_micro: int
    note: str
    sent_at: datetime
    ended_at: datetime | None


Prompts = Sequence[Sequence[Mapping[str, str]]]
"""Dialogues, each of turns with `role` and `content`."""
