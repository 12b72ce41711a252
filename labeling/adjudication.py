"""Disagreements: what the votes on a pair say, without names, and how somebody settles them.

The votes stay as they were cast; settling appends a decision with its reason, and so do asking
one more annotator and reopening what was settled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, aliased

from labeling import votes
from labeling.desk import sides
from services.db import Database
from services.errors import Conflict, InvalidInput
from services.preferences import queries
from services.preferences.evidence import AiVerdict, ai_verdict
from services.preferences.models import Decision, History, Pair, PairStatus, Response, Review
from services.preferences.service import MAX_NOTE, Preferences
from services.preferences.store import DecisionRow, PairRow, PromptRow
from services.preferences.text import defect
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_LISTED = 200


class Quarrel(StrEnum):
    """What the votes on a pair quarrel about."""

    OPPOSITE = "opposite"
    """Both answers have somebody who prefers them."""
    UNDECIDED = "undecided"
    """Some prefer an answer, others find none better."""
    FLAGGED = "flagged"
    """Somebody wants a second pair of eyes."""


@dataclass(frozen=True)
class Dispute:
    """One row of the queue.

    Attributes:
        question: The last turn of the prompt; untrusted.
        quarrels: Empty where the votes were cast on a text that was edited since.
        votes: That count.
    """

    pair_id: str
    question: str
    language: str
    source: str
    quarrels: tuple[Quarrel, ...]
    votes: int


@dataclass(frozen=True)
class Opinion:
    """One annotator's vote, without the name.

    Attributes:
        letter: Which annotator; it says nothing outside this pair.
        preferred_response_id: None for a tie and for both bad.
        strength: 0 (tie) to 3 (much better); None for both bad.
        ratings: By response id, by criterion, 1 to 5.
        first: The vote before it was revised after the AI's verdict; None if it was not.
        is_own: The reader cast it.
    """

    letter: str
    preferred_response_id: str | None
    strength: int | None
    note: str
    flags: tuple[str, ...]
    ratings: Mapping[str, Mapping[str, int]]
    first: Opinion | None
    is_own: bool


@dataclass(frozen=True)
class Case:
    """A pair with what is said of it.

    Attributes:
        pair: With its history, for the versions of edited answers.
        left: As this reader sees it; sides are dealt for each reader anew.
        ai: What the AI says; to be shown after the people's reasons.
    """

    pair: Pair
    left: Response
    right: Response
    opinions: tuple[Opinion, ...]
    quarrels: tuple[Quarrel, ...]
    ai: AiVerdict | None

    @property
    def history(self) -> History:
        """Everything that happened to the pair."""
        return self.pair.history or History((), (), ())


@dataclass(frozen=True)
class Settlement:
    """A disagreement that somebody has settled, and that still is.

    Attributes:
        by_reader: The reader settled it.
    """

    pair_id: str
    question: str
    verdict: PairStatus
    reason: str
    at: datetime
    by_reader: bool


class Adjudication:
    """The queue of disagreements.

    Args:
        preferences: Where decisions are written.
    """

    def __init__(self, db: Database, preferences: Preferences) -> None:
        self._db, self._preferences = db, preferences

    def count(self, actor: Actor, tenant_id: str) -> int:
        """How many pairs are disputed."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            wanted = select(func.count()).where(*_disputed(tenant_id))
            return session.scalar(wanted) or 0

    def disputes(
        self, actor: Actor, tenant_id: str, *, limit: int = 50, offset: int = 0
    ) -> tuple[Dispute, ...]:
        """Disputed pairs, those first that teach most: by the queue's priority, then by arrival.

        Args:
            limit: From 1 to `MAX_LISTED`.
        """
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        wanted = (
            select(PairRow.id, PairRow.language, PairRow.source, PromptRow.turns)
            .join(PromptRow, PromptRow.id == PairRow.prompt_id)
            .where(*_disputed(tenant_id))
            .order_by(PairRow.priority.desc(), PairRow.position)
            .limit(max(1, min(limit, MAX_LISTED)))
            .offset(max(0, offset))
        )
        with self._db.read() as session:
            rows = session.execute(wanted).all()
            said = _votes_by_pair(session, tenant_id, [row.id for row in rows])
        return tuple(
            Dispute(
                pair_id=row.id,
                question=row.turns[-1]["content"],
                language=row.language,
                source=row.source,
                quarrels=quarrels(said.get(row.id, ())),
                votes=len(said.get(row.id, ())),
            )
            for row in rows
        )

    def case(self, actor: Actor, tenant_id: str, pair_id: str) -> Case:
        """One pair with its votes, disputed or not.

        Raises:
            NotFound: The tenant has no such pair.
        """
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            pair = queries.get(session, tenant_id, pair_id)
            history = queries.history(session, pair.id)
            cast = _votes_by_pair(session, tenant_id, [pair.id]).get(pair.id, ())
        left, right = sides(pair, actor.id)
        return Case(
            pair=replace(pair, history=history),
            left=left,
            right=right,
            opinions=_opinions(cast, history, actor.id),
            quarrels=quarrels(cast),
            ai=ai_verdict(history.versions, history.judgments),
        )

    def settle(
        self,
        actor: Actor,
        tenant_id: str,
        pair_id: str,
        *,
        chosen_response_id: str | None,
        reason: str,
    ) -> Decision:
        """Decide a disputed pair.

        Args:
            chosen_response_id: The current version that is better; None rejects the pair.
            reason: Why; whoever reads the pair's history will want to know.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: There is no reason, or the response is not the pair's.
            Conflict: The pair is not disputed any more.
        """
        verdict = PairStatus.REJECTED if chosen_response_id is None else PairStatus.APPROVED
        return self._decide(
            actor, tenant_id, pair_id, verdict, chosen_response_id, reason, action="pair.settled"
        )

    def ask_again(self, actor: Actor, tenant_id: str, pair_id: str, *, reason: str) -> Decision:
        """Put a disputed pair back into the queue for one more annotator; all votes stay.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: There is no reason.
            Conflict: The pair is not disputed any more.
        """
        return self._decide(
            actor, tenant_id, pair_id, PairStatus.UNREVIEWED, None, reason,
            action="pair.asked_again",
        )  # fmt: skip

    def reopen(self, actor: Actor, tenant_id: str, pair_id: str, *, reason: str) -> Decision:
        """Put what was settled back among the disagreements.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: There is no reason.
            Conflict: The latest decision settled no disagreement.
        """
        return self._decide(
            actor, tenant_id, pair_id, PairStatus.DISPUTED, None, reason, action="pair.reopened"
        )

    def settled(self, actor: Actor, tenant_id: str, *, limit: int = 50) -> tuple[Settlement, ...]:
        """What was settled and not decided anew since, newest first."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        before = aliased(DecisionRow)
        wanted = (
            select(DecisionRow, PromptRow.turns)
            .join(PairRow, PairRow.id == DecisionRow.pair_id)
            .join(PromptRow, PromptRow.id == PairRow.prompt_id)
            .join(
                before,
                (before.pair_id == DecisionRow.pair_id)
                & (before.number == DecisionRow.number - 1)
                & (before.verdict == PairStatus.DISPUTED.value),
            )
            .where(
                DecisionRow.tenant_id == tenant_id,
                DecisionRow.number == PairRow.decisions,
                DecisionRow.review_id.is_(None),
                DecisionRow.verdict.in_((PairStatus.APPROVED.value, PairStatus.REJECTED.value)),
            )
            .order_by(DecisionRow.created_at.desc(), DecisionRow.id.desc())
            .limit(max(1, min(limit, MAX_LISTED)))
        )
        with self._db.read() as session:
            rows: Sequence[Any] = session.execute(wanted).all()
        return tuple(
            Settlement(
                pair_id=decision.pair_id,
                question=turns[-1]["content"],
                verdict=PairStatus(decision.verdict),
                reason=decision.reason,
                at=decision.created_at,
                by_reader=decision.actor_id == actor.id,
            )
            for decision, turns in rows
        )

    def _decide(
        self,
        actor: Actor,
        tenant_id: str,
        pair_id: str,
        verdict: PairStatus,
        chosen_response_id: str | None,
        reason: str,
        *,
        action: str,
    ) -> Decision:
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        reason = _checked(reason)
        with self._db.write() as session:
            row = queries.locked(session, tenant_id, pair_id)
            if verdict is PairStatus.DISPUTED:
                _refuse_unless_settled(session, row)
            elif row.status != PairStatus.DISPUTED.value:
                raise Conflict(
                    f"pair {pair_id}: expected it disputed, found it {row.status}; "
                    "somebody has decided it, or its votes have changed"
                ).because("no_dispute_left")
            pair = queries.get(session, tenant_id, pair_id)
            return self._preferences.decide_in_session(
                session, actor, row, pair, verdict, chosen_response_id, reason=reason,
                action=action,
            )  # fmt: skip


def quarrels(cast: Sequence[Review]) -> tuple[Quarrel, ...]:
    """What votes on one pair quarrel about; empty where they agree."""
    preferred = {vote.preferred_response_id for vote in cast}
    found = []
    if len(preferred - {None}) > 1:
        found.append(Quarrel.OPPOSITE)
    if None in preferred and len(preferred) > 1:
        found.append(Quarrel.UNDECIDED)
    if any(vote.flags for vote in cast):
        found.append(Quarrel.FLAGGED)
    return tuple(found)


def _disputed(tenant_id: str) -> tuple[ColumnElement[bool], ...]:
    return (PairRow.tenant_id == tenant_id, PairRow.status == PairStatus.DISPUTED.value)


def _votes_by_pair(
    session: Session, tenant_id: str, pair_ids: Sequence[str]
) -> dict[str, list[Review]]:
    found: dict[str, list[Review]] = {}
    for vote in votes.current(session, tenant_id, pair_ids):
        if not vote.is_gold:
            found.setdefault(vote.pair_id, []).append(vote)
    return found


def _opinions(cast: Sequence[Review], history: History, reader_id: str) -> tuple[Opinion, ...]:
    """Letters by a hash, so that they tell neither who was first nor who it always is."""
    by_id = {review.id: review for review in history.reviews}

    def place(vote: Review) -> bytes:
        text = f"param.letters.v1|{vote.pair_id}|{vote.annotator_id}"
        return hashlib.sha256(text.encode()).digest()

    found = []
    for letter, vote in zip(LETTERS, sorted(cast, key=place), strict=False):
        first = by_id.get(vote.revises_id) if vote.revises_id else None
        before = None if first is None else _opinion(first, letter, None, reader_id)
        found.append(_opinion(vote, letter, before, reader_id))
    return tuple(found)


def _opinion(vote: Review, letter: str, first: Opinion | None, reader_id: str) -> Opinion:
    return Opinion(
        letter=letter,
        preferred_response_id=vote.preferred_response_id,
        strength=vote.strength,
        note=vote.note,
        flags=vote.flags,
        ratings=vote.ratings,
        first=first,
        is_own=vote.annotator_id == reader_id,
    )


def _refuse_unless_settled(session: Session, row: PairRow) -> None:
    last_two = session.scalars(
        select(DecisionRow.verdict)
        .where(DecisionRow.pair_id == row.id)
        .order_by(DecisionRow.number.desc())
        .limit(2)
    ).all()
    is_decided = row.status in {PairStatus.APPROVED.value, PairStatus.REJECTED.value}
    if not is_decided or len(last_two) < 2 or last_two[1] != PairStatus.DISPUTED.value:
        raise Conflict(
            f"pair {row.id}: expected its latest decision to have settled a disagreement, "
            f"found it {row.status}"
        )


def _checked(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise InvalidInput("reason: expected why, found an empty text").because(
            "empty", field="reason"
        )
    if len(reason) > MAX_NOTE:
        raise InvalidInput(
            f"reason: expected at most {MAX_NOTE} characters, found {len(reason)}"
        ).because("too_long", field="reason", most=MAX_NOTE, found=len(reason))
    if found := defect(reason):
        raise InvalidInput(f"reason: expected text that can be stored, found {found}").because(
            "not_storable", field="reason"
        )
    return reason
