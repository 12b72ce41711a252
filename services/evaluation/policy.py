"""What a tenant asks of an adapter before it is promoted, and what the gate answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from services.errors import InvalidInput

LEAST_PROMPTS = 20
"""A policy may ask for more held-out prompts, never for fewer: no verdict is given on fewer."""


class Quality(StrEnum):
    """What the held-out pairs must show."""

    BETTER = "better"
    NON_INFERIOR = "non-inferior"


@dataclass(frozen=True)
class GatePolicy:
    """What an adapter must have shown.

    Attributes:
        quality: `better`, or `non-inferior` where an adapter that is no worse is enough.
        min_prompts: So many held-out prompts at least.
        max_nll_rise: The whole interval of the rise on neutral text must lie below, nats a
            token (0.02 are 2 % perplexity); None if neutral text need not be measured.
        max_task_loss: The whole interval of the accuracy lost over all tasks together must lie
            below, 0 to 1, and no single task may be worse; None if tasks need not be done.
        needs_judge: Whether the judge must have compared the answers. Where it has, its
            preference must never lie clearly with the base, needed or not.
    """

    quality: Quality = Quality.BETTER
    min_prompts: int = LEAST_PROMPTS
    max_nll_rise: float | None = 0.02
    max_task_loss: float | None = 0.05
    needs_judge: bool = False

    def as_json(self) -> dict[str, Any]:
        """As it is stored; `policy_from` reads it back."""
        return asdict(self)


DEFAULT_POLICY = GatePolicy()


def policy_from(values: Mapping[str, Any]) -> GatePolicy:
    """A policy from a form, a file or a row.

    Raises:
        InvalidInput: An unknown name, or a value out of range.
    """
    known = [one.name for one in fields(GatePolicy)]
    if unknown := sorted(set(values) - set(known)):
        raise InvalidInput(f"gate policy: expected {', '.join(known)}, found {unknown[0]!r}")
    found = {**DEFAULT_POLICY.as_json(), **values}
    if found["quality"] not in list(Quality):
        raise InvalidInput(
            f"gate policy: quality: expected {' or '.join(Quality)}, found {found['quality']!r}"
        )
    if not isinstance(found["needs_judge"], bool):
        raise InvalidInput(
            f"gate policy: needs_judge: expected true or false, found {found['needs_judge']!r}"
        )
    least = found["min_prompts"]
    if isinstance(least, bool) or not isinstance(least, int) or not LEAST_PROMPTS <= least <= 10**6:
        raise InvalidInput(
            f"gate policy: min_prompts: expected a whole number from {LEAST_PROMPTS} on, "
            f"found {least!r}"
        )
    return GatePolicy(
        quality=Quality(found["quality"]),
        min_prompts=least,
        max_nll_rise=_share(found, "max_nll_rise"),
        max_task_loss=_share(found, "max_task_loss"),
        needs_judge=found["needs_judge"],
    )


def _share(values: Mapping[str, Any], name: str) -> float | None:
    found = values[name]
    if found is None:
        return None
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if not is_number or not math.isfinite(found) or not 0 < found <= 1:
        raise InvalidInput(
            f"gate policy: {name}: expected a number above 0 and up to 1, or nothing, "
            f"found {found!r}"
        )
    return float(found)


@dataclass(frozen=True)
class Shortfall:
    """One thing that an adapter has not shown.

    Attributes:
        code: Stable name, for translations.
        sentence: The same in English, with its numbers.
        values: The numbers by name.
    """

    code: str
    sentence: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Gate:
    """Whether an adapter may be promoted without a stated reason.

    Attributes:
        reasons: Why not, in whole sentences; empty if it passed.
        shortfalls: The same, for translations.
    """

    passed: bool
    reasons: tuple[str, ...]
    shortfalls: tuple[Shortfall, ...] = ()
