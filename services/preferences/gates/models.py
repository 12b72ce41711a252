"""What a gate is, which there are, and how a data set's maker sets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.errors import InvalidInput
from services.preferences.models import Pair, Response

MAX_LENGTH = 1_024
"""Tokens that TRL's DPO keeps of prompt and answer unless told otherwise (`DPOConfig`)."""
PAIRS_A_PROMPT = 8
"""Six pairs come of four candidates; many more of one prompt outweigh the others."""


class Action(StrEnum):
    """What a gate does with a pair that it finds something in."""

    DROP = "drop"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True)
class Gate:
    """One rule.

    Attributes:
        default: What it does unless told otherwise.
        is_fixed: It cannot be told otherwise: such a pair would teach nothing, or harm.
        of_set: It looks at the whole set and can only warn.
    """

    name: str
    default: Action
    is_fixed: bool = False
    of_set: bool = False


GATES = (
    Gate("review", Action.DROP, is_fixed=True),
    Gate("evaluation_set", Action.DROP, is_fixed=True),
    Gate("schema", Action.DROP, is_fixed=True),
    Gate("identical", Action.DROP, is_fixed=True),
    Gate("stale", Action.DROP),
    Gate("truncated_identical", Action.DROP),
    Gate("leakage", Action.DROP),
    Gate("undecided", Action.DROP),
    Gate("contradiction", Action.DROP),
    Gate("crowded_prompt", Action.DROP),
    Gate("template_tokens", Action.DROP),
    Gate("error_text", Action.DROP),
    Gate("secrets", Action.DROP),
    Gate("personal_data", Action.WARN),
    Gate("score_conflict", Action.WARN),
    Gate("near_identical", Action.WARN),
    Gate("length_gap", Action.WARN),
    Gate("refusal", Action.WARN),
    Gate("identity_leak", Action.WARN),
    Gate("prompt_leak", Action.WARN),
    Gate("unfinished", Action.WARN),
    Gate("hidden_characters", Action.WARN),
    Gate("not_composed", Action.WARN),
    Gate("split_overlap", Action.WARN),
    Gate("length_bias", Action.WARN, of_set=True),
    Gate("source_balance", Action.WARN, of_set=True),
    Gate("agreement", Action.WARN, of_set=True),
)
"""All gates, those that drop first: a pair that several would drop is told by the first."""

BY_NAME = {gate.name: gate for gate in GATES}
RANK = {gate.name: rank for rank, gate in enumerate(GATES)}


@dataclass(frozen=True)
class Finding:
    """What a gate found in a pair.

    Attributes:
        reason: A few words; never a part of the text.
    """

    gate: str
    reason: str


@dataclass(frozen=True)
class Agreement:
    """How far people agree on the pairs, as it was measured before the export.

    Attributes:
        alpha: Krippendorff's, ordinal, -1 to 1; None where the data do not suffice.
        low: Lower end of its 95 % interval; likewise high.
        pairs: Pairs that two or more people voted on.
    """

    alpha: float | None
    low: float | None
    high: float | None
    pairs: int

    def as_json(self) -> dict[str, Any]:
        """As the manifest and a job's payload hold it."""
        return {"alpha": self.alpha, "low": self.low, "high": self.high, "pairs": self.pairs}


@dataclass(frozen=True)
class Rules:
    """How the gates are set.

    Attributes:
        actions: By gate, where it is not the gate's own default.
        max_length: Tokens after which the training cuts off.
        pairs_a_prompt: Pairs of one prompt that are taken.
        agreement: None where nobody measured it.
    """

    actions: Mapping[str, Action] = field(default_factory=dict)
    max_length: int = MAX_LENGTH
    pairs_a_prompt: int = PAIRS_A_PROMPT
    agreement: Agreement | None = None

    def __post_init__(self) -> None:
        """Refuse what no gate can do.

        Raises:
            InvalidInput: An unknown gate, an action that it cannot take, or a number out of range.
        """
        for name, action in self.actions.items():
            gate = BY_NAME.get(name)
            if gate is None:
                raise InvalidInput(f"gates: expected one of {', '.join(BY_NAME)}, found {name!r}")
            if gate.is_fixed and action is not gate.default:
                raise InvalidInput(f"gate {name}: it always drops, found {action.value!r}")
            if gate.of_set and action is Action.DROP:
                raise InvalidInput(f"gate {name}: expected warn or off, found 'drop'")
        if not 16 <= self.max_length <= 1_000_000:
            raise InvalidInput(
                f"max_length: expected 16 to 1,000,000, found {self.max_length}"
            ).because("range", field="max_length", low=16, high=1_000_000, found=self.max_length)
        if not 1 <= self.pairs_a_prompt <= 1_000_000:
            raise InvalidInput(
                f"pairs_a_prompt: expected from 1, found {self.pairs_a_prompt}"
            ).because(
                "range", field="pairs_a_prompt", low=1, high=1_000_000, found=self.pairs_a_prompt
            )

    def action(self, gate: str) -> Action:
        """What a gate does."""
        return self.actions.get(gate, BY_NAME[gate].default)

    def as_json(self) -> dict[str, Any]:
        """As a job's payload holds it; `rules_from` reads it back."""
        return {
            "actions": {name: action.value for name, action in sorted(self.actions.items())},
            "max_length": self.max_length,
            "pairs_a_prompt": self.pairs_a_prompt,
            "agreement": self.agreement.as_json() if self.agreement else None,
        }


def rules_from(content: Mapping[str, Any]) -> Rules:
    """The rules that `Rules.as_json` wrote."""
    agreement = content["agreement"]
    return Rules(
        actions={name: Action(action) for name, action in content["actions"].items()},
        max_length=content["max_length"],
        pairs_a_prompt=content["pairs_a_prompt"],
        agreement=Agreement(**agreement) if agreement else None,
    )


@dataclass(frozen=True)
class Candidate:
    """A pair with a better and a worse answer, before the gates.

    Attributes:
        by_person: A person decided it; otherwise only the import, a program or an AI did.
        is_confirmed: Both answers are the versions that were decided on.
    """

    pair: Pair
    chosen: Response
    rejected: Response
    by_person: bool
    is_confirmed: bool
