"""What an annotator sees, and how a tenant reviews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from services.preferences.evidence import AiVerdict
from services.preferences.models import Judgment, Language, Prompt, Response

Verdict = int | Literal["both_bad"]
"""-3 (left is much better) through 0 (tie) to 3 (right is much better), or both are bad."""

Ratings = Mapping[str, Mapping[str, int]]
"""By response id, by criterion: 1 (poor) to 5 (excellent); what was not rated is absent."""


@dataclass(frozen=True)
class ReviewPolicy:
    """How a tenant reviews.

    Attributes:
        overlap: How many people vote on a pair.
        risky_overlap: Likewise where the judge contradicts itself or the answers are close.
        is_revealing: Whether annotators see what the AI said once they have voted.
        gold_every: One card in so many is a planted pair; 0 for none.
        too_fast_ms: A vote in less active time is reported as too fast, milliseconds.
        guidelines: What stands beside the card, by language (`en`, `tr`), Markdown; untrusted.
    """

    overlap: int = 1
    risky_overlap: int = 1
    is_revealing: bool = True
    gold_every: int = 0
    too_fast_ms: int = 3_000
    guidelines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """People to whom pairs can be assigned together.

    Attributes:
        members: Ids of users.
    """

    id: str
    name: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Reviewer:
    """Somebody to whom pairs can be assigned.

    Attributes:
        id: Id of the user.
        name: As people write it; untrusted.
    """

    id: str
    name: str


@dataclass(frozen=True)
class Evidence:
    """What was kept from the annotator until the vote.

    Attributes:
        ai: The sum of it; None where no AI judged the pair.
        judgments: In the judge's own words; untrusted.
        scores: Imported score by id of the current response; None where there is none. Likewise
            the name of what generated it and the temperature. An edited answer has those of the
            text that it was made from.
    """

    ai: AiVerdict | None
    judgments: tuple[Judgment, ...]
    scores: Mapping[str, float | None]
    generators: Mapping[str, str | None]
    temperatures: Mapping[str, float | None]


@dataclass(frozen=True)
class Card:
    """One pair as one annotator sees it: blind, with sides that only this person has.

    Attributes:
        left: Current version, without scores and without the name of what generated it.
        is_edited: Whether a person changed one of the answers.
        lease_until: Until then nobody else is given the place; of a revealed card, nothing ends.
        drafts: This person's unsaved edits, by id of the current response.
        evidence: None while the card is blind.
        review_id: The annotator's vote, which `revise` replaces; None while there is none.
    """

    pair_id: str
    prompt: Prompt
    left: Response
    right: Response
    language: Language
    is_edited: bool
    lease_until: datetime
    drafts: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence | None = None
    review_id: str | None = None


@dataclass(frozen=True)
class Draft:
    """An edit that was not saved.

    Attributes:
        response_id: The version that was being edited; it may have a successor by now.
    """

    pair_id: str
    response_id: str
    text: str
    updated_at: datetime


@dataclass(frozen=True)
class Progress:
    """How far a tenant's queue is, and this annotator's part in it.

    Attributes:
        with_others: Cards that other people have before them at present.
        mine: The annotator's votes that count at present: not taken back, and the answers have
            not been edited since.
        mine_skipped: Skips that were not taken back.
    """

    total: int
    unreviewed: int
    disputed: int
    approved: int
    rejected: int
    with_others: int
    mine: int
    mine_skipped: int
