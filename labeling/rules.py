"""From votes to a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.preferences.models import PairStatus, Review


@dataclass(frozen=True)
class Outcome:
    """What the votes on a pair make of it.

    Attributes:
        chosen_response_id: Of an approval, the answer that everybody prefers.
        reason: Why it is not approved, in words; empty for an approval.
    """

    status: PairStatus
    chosen_response_id: str | None
    reason: str


def outcome(votes: Sequence[Review], *, overlap: int) -> Outcome | None:
    """What the current votes on a pair decide.

    All prefer the same answer: approved. All find the answers equal, or equally bad: rejected,
    since such a pair teaches nothing. Anything else, and any flag: disputed. How strongly people
    prefer the same answer cannot set them three steps apart, so that it needs no rule.

    Args:
        votes: The current votes of different people, planted cards left out.
        overlap: How many it takes.

    Returns:
        None while votes are missing.
    """
    if len(votes) < max(1, overlap):
        return None
    if any(vote.flags for vote in votes):
        return Outcome(PairStatus.DISPUTED, None, "flagged")
    preferred = {vote.preferred_response_id for vote in votes}
    if len(preferred) > 1:
        return Outcome(PairStatus.DISPUTED, None, "votes differ")
    chosen = preferred.pop()
    if chosen is not None:
        return Outcome(PairStatus.APPROVED, chosen, "")
    said = sorted({"both bad" if vote.strength is None else "tie" for vote in votes})
    return Outcome(PairStatus.REJECTED, None, " and ".join(said))
