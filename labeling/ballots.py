"""What a vote says, and what it may say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from labeling.models import Ratings, Verdict
from services.errors import InvalidInput
from services.preferences.models import CRITERIA, FLAGS
from services.preferences.service import MAX_NOTE
from services.preferences.text import defect

STRENGTHS = range(-3, 4)
STARS = range(1, 6)


@dataclass(frozen=True)
class Ballot:
    """What a vote says, checked as far as it can be without the pair."""

    verdict: Verdict
    ratings: Mapping[str, Mapping[str, int]]
    flags: tuple[str, ...]
    note: str
    active_ms: int | None

    @classmethod
    def of(
        cls,
        verdict: Verdict,
        ratings: Ratings,
        flags: Collection[str],
        note: str,
        active_ms: int | None,
    ) -> Ballot:
        """Check what was sent.

        Raises:
            InvalidInput: Something is not what a vote can say.
        """
        if verdict != "both_bad" and (isinstance(verdict, bool) or verdict not in STRENGTHS):
            raise InvalidInput(f"verdict: expected -3 to 3 or 'both_bad', found {verdict!r}")
        if unknown := sorted(set(flags) - set(FLAGS)):
            raise InvalidInput(f"flags: expected {', '.join(FLAGS)}, found {unknown[0]!r}")
        for given in ratings.values():
            _refuse_ratings(given)
        refuse_note(note)
        rated = {response_id: dict(given) for response_id, given in ratings.items() if given}
        active_ms = None if active_ms is None else max(0, int(active_ms))
        return cls(verdict, rated, tuple(one for one in FLAGS if one in flags), note, active_ms)

    def values(self, left_id: str, right_id: str) -> dict[str, Any]:
        """Columns of a vote on these two responses.

        Raises:
            InvalidInput: A rating is of another response.
        """
        if unknown := sorted(set(self.ratings) - {left_id, right_id}):
            raise InvalidInput(
                f"ratings: expected ids of the two current responses, found {unknown[0]!r}"
            )
        preferred: str | None = None
        if isinstance(self.verdict, int) and self.verdict != 0:
            preferred = left_id if self.verdict < 0 else right_id
        return {
            "preferred_response_id": preferred,
            "strength": abs(self.verdict) if isinstance(self.verdict, int) else None,
            "ratings": self.ratings or None,
            "flags": list(self.flags) or None,
            "note": self.note,
            "active_ms": self.active_ms,
        }


def refuse_note(note: str, name: str = "note") -> None:
    """Refuse a note that cannot be kept.

    Raises:
        InvalidInput: It is too long, or holds what a database cannot store.
    """
    if len(note) > MAX_NOTE:
        raise InvalidInput(
            f"{name}: expected at most {MAX_NOTE} characters, found {len(note)}"
        ).because("too_long", field=name, most=MAX_NOTE, found=len(note))
    if found := defect(note):
        raise InvalidInput(f"{name}: expected text that can be stored, found {found}").because(
            "not_storable", field=name
        )


def _refuse_ratings(given: Mapping[str, int]) -> None:
    for criterion, stars in given.items():
        if criterion not in CRITERIA:
            raise InvalidInput(f"ratings: expected {', '.join(CRITERIA)}, found {criterion!r}")
        if isinstance(stars, bool) or stars not in STARS:
            raise InvalidInput(f"ratings: expected 1 to 5 for {criterion}, found {stars!r}")
