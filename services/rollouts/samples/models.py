"""One request of a rollout, as verdicts see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.rollouts.models import Arm


class Standing(StrEnum):
    """Whether a request counts, and how.

    `EXCUSED`: no adapter is to blame. A policy stopped it before the engine, the engine found the
    request wrong, the client left, or the gateway was told to end.
    """

    OK = "ok"
    ERROR = "error"
    EXCUSED = "excused"


class Thumb(StrEnum):
    """What somebody thought of an answer; `NONE` takes an earlier thumb back."""

    UP = "up"
    DOWN = "down"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request.

    Attributes:
        place: The user's place in the split, 0 to 9999; None where it was not split.
        is_refused: The answer ended as `content_filter`.
        is_flagged: The guardrails found something.
        ttft_ms: To the first bytes of a stream; None without a stream.
        at: When it was over.
    """

    request_id: str
    tenant_id: str
    rollout_id: str
    arm: Arm
    place: int | None
    standing: Standing
    is_refused: bool
    is_flagged: bool
    latency_ms: int
    ttft_ms: int | None
    cost_micro: int
    at: datetime


def standing_of(status: str, finish_reason: str, problem: str) -> Standing:
    """Whether an outcome counts for its arm, and how.

    Args:
        status: `ok`, `partial` or `error`, as usage rows have it.
        finish_reason: As receipts have it.
        problem: Why there was no answer, as the audit log has it.
    """
    if status == "ok":
        return Standing.OK
    if status == "partial":
        return Standing.ERROR if finish_reason == "error" else Standing.EXCUSED
    is_excused = problem.startswith(("blocked_", "refused_4"))
    return Standing.EXCUSED if is_excused else Standing.ERROR
