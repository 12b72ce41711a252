"""What the rooms know of a preference pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

Language = Literal["tr", "en", "other"]


CRITERIA = ("relevance", "helpfulness", "accuracy", "safety", "clarity")
"""What answers are rated on: 1 (poor) to 5 (excellent) by people, 0 to 10 by a judge."""

FLAGS = ("unsafe", "factual_error", "bad_prompt", "needs_expert")
"""Why somebody wants a second pair of eyes; a flagged vote is never the last word."""

SKIP_REASONS = ("not_my_field", "unclear", "too_long", "offensive", "other")


class PairStatus(StrEnum):
    """What the latest decision made of a pair.

    `disputed`: the votes disagree, or one of them is flagged; an adjudicator settles it.
    """

    UNREVIEWED = "unreviewed"
    DISPUTED = "disputed"
    APPROVED = "approved"
    REJECTED = "rejected"


class Origin(StrEnum):
    """Where a vote was cast."""

    DESK = "desk"
    LABEL_STUDIO = "label-studio"


class ReviewKind(StrEnum):
    """What an annotator did with a card."""

    VOTE = "vote"
    SKIP = "skip"
    EDIT = "edit"
    UNDO = "undo"


@dataclass(frozen=True)
class Turn:
    """One message of a dialogue.

    Attributes:
        role: `system`, `user` or `assistant`.
        content: Exactly as it came; untrusted where a model wrote it.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """What both responses answer: one or more turns, the last one the user's."""

    id: str
    turns: tuple[Turn, ...]
    language: Language

    @property
    def question(self) -> str:
        """The last user turn."""
        return self.turns[-1].content


@dataclass(frozen=True)
class Response:
    """One version of one answer.

    Attributes:
        id: Names exactly this text.
        root_id: Id of the first version; the same for all versions of an answer.
        parent_id: The version that this one was made from; None for the first.
        version: 1 for the first.
        author_id: The actor who wrote this version; None where it was imported.
        extra: `score` and `generator` as they were imported; empty on a blind card.
    """

    id: str
    root_id: str
    parent_id: str | None
    version: int
    text: str
    author_id: str | None
    created_at: datetime
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What was decided about a pair; the one with the highest number holds.

    Attributes:
        number: 1 for the pair's first decision.
        verdict: The status that the pair has from then on.
        chosen_response_id: None unless approved; likewise the rejected one.
        mark: `demo` or `bulk` where no person looked at the pair; empty otherwise.
        review_id: The vote or undo that decided; None where an engineer or a program did.
    """

    id: str
    number: int
    verdict: PairStatus
    chosen_response_id: str | None
    rejected_response_id: str | None
    reason: str
    mark: str
    actor_id: str
    review_id: str | None
    created_at: datetime


@dataclass(frozen=True)
class Review:
    """What one annotator did with a card, by response ids.

    Attributes:
        number: 1 for the annotator's first action in the tenant.
        left_response_id: The version that was shown left; likewise right.
        preferred_response_id: None for a tie, both bad, and what is no vote.
        strength: 0 (tie) to 3 (much better); None for both bad and what is no vote.
        response_id: The version that an edit, or the undo of an edit, made; None otherwise.
        undoes_id: The action that an undo takes back.
        active_ms: Time at the card without the pauses, milliseconds.
        reason: One of `SKIP_REASONS` of a skip, the reason of an edit; empty otherwise.
        flags: Of a vote, out of `FLAGS`.
        ratings: Of a vote: by response id, by criterion, 1 to 5; what was not rated is absent.
        revises_id: The vote that this one replaces; the older one stays as it was cast.
        is_revealed: The annotator had seen the AI's verdict when voting.
        is_random: The card was drawn by lot, so that it speaks for all pairs.
        is_gold: The card was planted: it measures the annotator and decides nothing.
        origin: Where it was cast.
    """

    id: str
    pair_id: str
    annotator_id: str
    number: int
    kind: ReviewKind
    left_response_id: str
    right_response_id: str
    preferred_response_id: str | None
    strength: int | None
    note: str
    active_ms: int | None
    response_id: str | None
    undoes_id: str | None
    created_at: datetime
    reason: str = ""
    flags: tuple[str, ...] = ()
    ratings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    revises_id: str | None = None
    is_revealed: bool = False
    is_random: bool = False
    is_gold: bool = False
    origin: Origin = Origin.DESK


@dataclass(frozen=True)
class Judgment:
    """What an AI judge said of a pair when it saw the answers in one order.

    Attributes:
        first_response_id: The version that it saw first; likewise second.
        preferred_response_id: None for a tie.
        scores: By response id, by criterion, 0 to 10; what it did not score is absent.
        reason: Its own words; untrusted.
        judge: Name of the model that judged.
        revision: Of its instructions; equal texts under one revision are comparable.
    """

    id: str
    pair_id: str
    first_response_id: str
    second_response_id: str
    preferred_response_id: str | None
    scores: Mapping[str, Mapping[str, float]]
    reason: str
    judge: str
    revision: str
    created_at: datetime


@dataclass(frozen=True)
class History:
    """Everything that happened to a pair, oldest first."""

    versions: tuple[Response, ...]
    reviews: tuple[Review, ...]
    decisions: tuple[Decision, ...]
    judgments: tuple[Judgment, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt.

    Attributes:
        responses: The current version of both answers; their order means nothing.
        imported_preference: Id of the response that the import preferred (always a first
            version); None where it had no preference.
        chosen_response_id: What the latest decision chose; None unless approved.
        extra: Metadata that came with the row; untrusted.
        source_line: Line of the imported file.
        lints: What stands out in the texts, by name; see `lints`.
        is_evaluation: Its prompt belongs to an evaluation set: it is never trained on.
        is_stale: An answer was edited after the AI scored it.
        overlap: How many people vote on it.
        assignee: `user:ID` or `group:ID` whose card alone it can be; None for everybody.
        gold_response_id: First version of the known better answer of a planted pair.
        history: Only filled by `Preferences.pair`.
    """

    id: str
    tenant_id: str
    prompt: Prompt
    responses: tuple[Response, Response]
    imported_preference: str | None
    chosen_response_id: str | None
    source: str
    source_line: int | None
    language: Language
    status: PairStatus
    extra: Mapping[str, Any]
    created_at: datetime
    lints: tuple[str, ...] = ()
    is_evaluation: bool = False
    is_stale: bool = False
    overlap: int = 1
    assignee: str | None = None
    gold_response_id: str | None = None
    history: History | None = None

    def response(self, response_id: str | None) -> Response | None:
        """The current version of the answer that has this id, or whose first version has it."""
        for response in self.responses:
            if response_id in {response.id, response.root_id}:
                return response
        return None

    @property
    def is_edited(self) -> bool:
        """Whether a person changed one of the answers."""
        return any(response.version > 1 for response in self.responses)


@dataclass(frozen=True)
class Page:
    """One page of a list.

    Attributes:
        total: Rows that match, on all pages; counted no further than `queries.COUNTED`.
        is_capped: There are more than were counted.
    """

    pairs: tuple[Pair, ...]
    total: int
    limit: int
    offset: int
    is_capped: bool = False


@dataclass(frozen=True)
class PairStats:
    """Counts of a tenant's pairs.

    Attributes:
        demo: Approved by a decision that is marked `demo`.
    """

    total: int
    by_status: Mapping[PairStatus, int]
    by_language: Mapping[str, int]
    by_source: Mapping[str, int]
    edited: int
    demo: int
    reviews: int


@dataclass(frozen=True)
class RowError:
    """Why a row was not taken.

    Attributes:
        line: Line of the file on which the row begins, from 1.
        reason: What was expected and what was found.
    """

    line: int
    reason: str


@dataclass(frozen=True)
class SampleRow:
    """A good row, to look at before anything is written.

    Attributes:
        line: Line of the file on which the row begins, from 1.
        preferred: Index of the answer that the file prefers; None where it prefers none.
    """

    line: int
    turns: tuple[Turn, ...]
    answers: tuple[str, str]
    preferred: int | None


@dataclass(frozen=True)
class ImportReport:
    """What became of a file.

    Attributes:
        read: Rows found, good and bad: `imported + duplicates + rejected`, unless nothing was
            to be written.
        duplicates: Pairs that were there already, in the file or in the tenant, sides swapped
            or not.
        rejected: Bad rows, all of them.
        errors: The first `formats.MAX_ERRORS` of the bad rows.
        contradictions: Duplicates that prefer the other answer (the first ones, likewise).
        sample: The first good rows.
    """

    read: int
    imported: int
    duplicates: int
    rejected: int
    errors: tuple[RowError, ...]
    format: str
    contradictions: tuple[RowError, ...] = ()
    sample: tuple[SampleRow, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The counts as `param pairs import --json` prints them."""
        return {
            "read": self.read,
            "imported": self.imported,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "errors": [{"line": error.line, "reason": error.reason} for error in self.errors],
            "contradictions": [
                {"line": error.line, "reason": error.reason} for error in self.contradictions
            ],
        }


@dataclass(frozen=True)
class Manifest:
    """What an exported folder holds.

    Attributes:
        folder: Where `train.jsonl`, `eval.jsonl`, `dropped.jsonl`, `manifest.json` are.
        sha256: Of the bytes of `manifest.json`, which names the digest of every other file.
        content: `manifest.json` as it was written.
    """

    folder: Path
    sha256: str
    n_train: int
    n_eval: int
    n_dropped: int
    content: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Dataset:
    """A frozen set of pairs that a run trains on.

    Attributes:
        sha256: Of its `manifest.json`; equal pairs and choices give an equal digest.
    """

    id: str
    tenant_id: str
    folder: Path
    sha256: str
    n_train: int
    n_eval: int
    manifest: Mapping[str, Any] = field(repr=False)
    created_at: datetime
    created_by: str
