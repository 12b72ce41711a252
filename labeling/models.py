"""What an annotator sees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.preferences.models import Language, Prompt, Response

Verdict = int | Literal["both_bad"]
"""-3 (left is much better) through 0 (tie) to 3 (right is much better), or both are bad."""


@dataclass(frozen=True)
class Card:
    """One pair as one annotator sees it: blind, with sides that only this person has.

    Attributes:
        left: Current version, without scores and without the name of what generated it.
        is_edited: Whether a person changed one of the answers.
        lease_until: Until then nobody else is given the pair.
    """

    pair_id: str
    prompt: Prompt
    left: Response
    right: Response
    language: Language
    is_edited: bool
    lease_until: datetime


@dataclass(frozen=True)
class Progress:
    """How far a tenant's queue is, and this annotator's part in it.

    Attributes:
        with_others: Unreviewed pairs that are other people's cards at present.
        mine: The annotator's votes that were not taken back.
        mine_skipped: Likewise the skips.
    """

    total: int
    unreviewed: int
    approved: int
    rejected: int
    with_others: int
    mine: int
    mine_skipped: int
