"""The review queue: one card at a time for each annotator, blind, with a way back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from labeling import leases
from labeling.models import Card, Progress, Verdict
from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, InvalidInput
from services.preferences import queries, records
from services.preferences.models import Pair, PairStatus, Response, Review, ReviewKind
from services.preferences.service import MAX_NOTE, Preferences
from services.preferences.store import PairRow, ResponseRow, ReviewRow
from services.preferences.text import defect, normalised
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

LEASE = timedelta(minutes=10)
MAX_EDIT = 100_000
STRENGTHS = range(-3, 4)


def sides(pair: Pair, annotator_id: str) -> tuple[Response, Response]:
    """Both answers as this annotator sees them, left and right.

    The sides come from the pair and the annotator alone: they stay when the page is drawn again,
    and over many pairs neither side is favoured.
    """
    digest = hashlib.sha256(f"param.sides.v1|{pair.id}|{annotator_id}".encode()).digest()
    first, second = pair.responses
    return (second, first) if digest[0] & 1 else (first, second)


class ReviewQueue:
    """Cards for annotators and what they make of them.

    Args:
        preferences: Where a vote becomes a decision; in this version one vote decides.
    """

    def __init__(self, db: Database, preferences: Preferences, *, clock: Clock = utcnow) -> None:
        self._db, self._preferences, self._clock = db, preferences, clock

    def next_card(self, actor: Actor, tenant_id: str) -> Card | None:
        """The annotator's card: the same one until it is voted on or skipped, then the next.

        Asking again renews the lease of ten minutes.

        Returns:
            None where nothing is left for this person.
        """
        with self._desk(actor, tenant_id) as desk:
            pair_id = leases.claim(
                desk.session, desk.tenant_id, actor.id, now=desk.now, until=desk.now + LEASE
            )
            return None if pair_id is None else desk.card(pair_id)

    def vote(
        self,
        actor: Actor,
        tenant_id: str,
        pair_id: str,
        *,
        verdict: Verdict,
        note: str = "",
        active_ms: int | None = None,
    ) -> Review:
        """Vote on the annotator's card, which decides the pair.

        Args:
            verdict: From left to right, as the annotator sees the card. A preference approves
                the pair; a tie and both bad reject it, since neither teaches anything.
            active_ms: Time at the card, milliseconds.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: The verdict is none.
            Conflict: The pair is not this person's card any more.
        """
        if verdict != "both_bad" and verdict not in STRENGTHS:
            raise InvalidInput(f"verdict: expected -3 to 3 or 'both_bad', found {verdict!r}")
        _refuse_note(note)
        with self._desk(actor, tenant_id) as desk:
            row, pair = desk.own(pair_id)
            left, right = sides(pair, actor.id)
            preferred: Response | None = None
            if isinstance(verdict, int) and verdict != 0:
                preferred = left if verdict < 0 else right
            review = desk.append(
                pair,
                ReviewKind.VOTE,
                preferred_response_id=preferred.id if preferred else None,
                strength=abs(verdict) if isinstance(verdict, int) else None,
                note=note,
                active_ms=None if active_ms is None else max(0, int(active_ms)),
            )
            self._preferences.decide_in_session(
                desk.session,
                actor,
                row,
                pair,
                PairStatus.APPROVED if preferred else PairStatus.REJECTED,
                preferred.id if preferred else None,
                reason="" if preferred else ("tie" if verdict == 0 else "both bad"),
                review_id=review.id,
                action="pair.voted",
            )
            return review

    def edit(
        self, actor: Actor, tenant_id: str, pair_id: str, response_id: str, text: str
    ) -> Response:
        """Mend an answer of the annotator's card: a new version, the older one stays.

        Args:
            response_id: The version that the annotator saw.

        Returns:
            The new version.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: The text is empty, too long, unchanged, or that of the other answer.
            Conflict: The pair is not this person's card any more, or the answer has changed.
        """
        if len(text) > MAX_EDIT:
            raise InvalidInput(
                f"text: expected at most {MAX_EDIT:,} characters, found {len(text):,}"
            )
        if found := defect(text):
            raise InvalidInput(f"text: expected text that can be stored, found {found}")
        with self._desk(actor, tenant_id) as desk:
            row, pair = desk.own(pair_id)
            current = next((one for one in pair.responses if one.id == response_id), None)
            if current is None:
                raise Conflict(f"pair {pair_id} has no current response {response_id!r}")
            _refuse_edit(pair, current, text)
            version = queries.add_version(
                desk.session, current, pair, text, author_id=actor.id, at=desk.now
            )
            desk.append(pair, ReviewKind.EDIT, response_id=version.id)
            desk.lease(row)
            desk.audit("pair.edited", pair_id, {"response": version.id, "parent": response_id})
            return version

    def skip(self, actor: Actor, tenant_id: str, pair_id: str, reason: str = "") -> Review:
        """Leave the annotator's card to others; this person is not given it again.

        Raises:
            NotFound: The tenant has no such pair.
            Conflict: The pair is not this person's card any more.
        """
        _refuse_note(reason)
        with self._desk(actor, tenant_id) as desk:
            row, pair = desk.own(pair_id)
            review = desk.append(pair, ReviewKind.SKIP, note=reason)
            row.lease_holder = row.lease_until = None
            desk.audit("pair.skipped", pair_id, {"review": review.id})
            return review

    def undo(self, actor: Actor, tenant_id: str) -> Card | None:
        """Take back the annotator's latest vote, skip or edit; may be asked again and again.

        Returns:
            The pair as the annotator's card again; None where there is nothing to take back, or
            where a skipped pair is meanwhile decided or someone else's card.

        Raises:
            Conflict: Someone else has decided or changed the pair since; nothing was taken back.
        """
        with self._desk(actor, tenant_id) as desk:
            last = desk.latest()
            if last is None:
                return None
            row = queries.locked(desk.session, desk.tenant_id, last.pair_id)
            pair = queries.get(desk.session, desk.tenant_id, last.pair_id)
            version: Response | None = None
            if last.kind is ReviewKind.VOTE:
                desk.refuse_unless_deciding(row, last)
            elif last.kind is ReviewKind.EDIT:
                version = desk.restore(row, pair, last)
            review = desk.append(
                pair,
                ReviewKind.UNDO,
                undoes_id=last.id,
                response_id=version.id if version else None,
            )
            if last.kind is ReviewKind.VOTE:
                self._preferences.decide_in_session(
                    desk.session, actor, row, pair, PairStatus.UNREVIEWED, None,
                    reason="taken back", review_id=review.id, action="pair.vote_undone",
                )  # fmt: skip
            else:
                details = {"review": review.id, "undoes": last.id}
                desk.audit(f"pair.{last.kind.value}_undone", pair.id, details)
            if not leases.is_free(row, actor.id, desk.now):
                return None
            desk.lease(row)
            leases.release_others(desk.session, desk.tenant_id, actor.id, keep=row.id)
            return desk.card(row.id)

    def progress(self, actor: Actor, tenant_id: str) -> Progress:
        """Counts for the annotator's page."""
        tenant_id = scope(actor, tenant_id, Permission.REVIEW)
        with self._db.read() as session:
            wanted = select(PairRow.status, func.count()).where(PairRow.tenant_id == tenant_id)
            grouped = session.execute(wanted.group_by(PairRow.status))
            by_status = {status: number for status, number in grouped}
            with_others = select(func.count()).where(
                PairRow.tenant_id == tenant_id,
                PairRow.lease_holder.is_not(None),
                PairRow.lease_holder != actor.id,
                PairRow.lease_until >= self._clock(),
            )
            done = session.execute(
                select(ReviewRow.kind, func.count())
                .where(*_standing(tenant_id, actor.id))
                .group_by(ReviewRow.kind)
            )
            mine = {kind: number for kind, number in done}
            return Progress(
                total=sum(by_status.values()),
                unreviewed=by_status.get(PairStatus.UNREVIEWED.value, 0),
                approved=by_status.get(PairStatus.APPROVED.value, 0),
                rejected=by_status.get(PairStatus.REJECTED.value, 0),
                with_others=session.scalar(with_others) or 0,
                mine=mine.get(ReviewKind.VOTE.value, 0),
                mine_skipped=mine.get(ReviewKind.SKIP.value, 0),
            )

    @contextmanager
    def _desk(self, actor: Actor, tenant_id: str) -> Iterator[_Desk]:
        tenant_id = scope(actor, tenant_id, Permission.REVIEW)
        with self._db.write() as session:
            # Two windows of the same person take turns, so that their actions have one order.
            queries.serialise(session, f"desk|{tenant_id}|{actor.id}")
            yield _Desk(session, actor, tenant_id, self._clock())


@dataclass(frozen=True)
class _Desk:
    """One annotator in one transaction."""

    session: Session
    actor: Actor
    tenant_id: str
    now: datetime

    def own(self, pair_id: str) -> tuple[PairRow, Pair]:
        """The annotator's card, locked; a lease that ran out still counts until it is taken."""
        row = queries.locked(self.session, self.tenant_id, pair_id)
        if row.status != PairStatus.UNREVIEWED.value:
            raise Conflict(f"pair {pair_id}: expected it unreviewed, found it {row.status}")
        if row.lease_holder != self.actor.id:
            raise Conflict(f"pair {pair_id} is not your card any more; take the next one")
        return row, queries.get(self.session, self.tenant_id, pair_id)

    def lease(self, row: PairRow) -> None:
        """Make the pair the annotator's card for ten minutes from now."""
        row.lease_holder, row.lease_until = self.actor.id, self.now + LEASE

    def card(self, pair_id: str) -> Card:
        self.session.flush()
        pair = queries.get(self.session, self.tenant_id, pair_id)
        left, right = (replace(one, extra={}) for one in sides(pair, self.actor.id))
        return Card(
            pair_id=pair.id,
            prompt=pair.prompt,
            left=left,
            right=right,
            language=pair.language,
            is_edited=pair.is_edited,
            lease_until=self.now + LEASE,
        )

    def append(self, pair: Pair, kind: ReviewKind, **values: Any) -> Review:
        """Append an action of the annotator."""
        mine = select(func.max(ReviewRow.number)).where(
            ReviewRow.tenant_id == self.tenant_id, ReviewRow.annotator_id == self.actor.id
        )
        left, right = sides(pair, self.actor.id)
        row = ReviewRow(
            id=new_id(),
            tenant_id=self.tenant_id,
            pair_id=pair.id,
            annotator_id=self.actor.id,
            number=(self.session.scalar(mine) or 0) + 1,
            kind=kind.value,
            left_response_id=left.id,
            right_response_id=right.id,
            created_at=self.now,
            **{"note": "", **values},
        )
        self.session.add(row)
        self.session.flush()
        return records.review(row)

    def latest(self) -> Review | None:
        """The annotator's latest action that was not taken back."""
        standing = select(ReviewRow).where(*_standing(self.tenant_id, self.actor.id))
        row = self.session.scalar(standing.order_by(ReviewRow.number.desc()).limit(1))
        return None if row is None else records.review(row)

    def refuse_unless_deciding(self, row: PairRow, vote: Review) -> None:
        """Refuse to undo a vote whose decision another one has followed."""
        decisions = queries.history(self.session, row.id).decisions
        if not decisions or decisions[-1].review_id != vote.id:
            raise Conflict(f"pair {row.id}: someone else has decided on it since your vote")

    def restore(self, row: PairRow, pair: Pair, edit: Review) -> Response:
        """Append a version with the text from before an edit."""
        current = next((one for one in pair.responses if one.id == edit.response_id), None)
        if current is None or not leases.is_free(row, self.actor.id, self.now):
            raise Conflict(f"pair {row.id}: someone else has changed or decided it since your edit")
        before = self.session.get_one(ResponseRow, current.parent_id)
        return queries.add_version(
            self.session, current, pair, before.text, author_id=self.actor.id, at=self.now
        )

    def audit(self, action: str, pair_id: str, details: dict[str, Any]) -> None:
        record(
            self.session, self.actor, action, f"pair:{pair_id}", tenant_id=self.tenant_id,
            details=details, at=self.now,
        )  # fmt: skip


def _standing(tenant_id: str, annotator_id: str) -> tuple[Any, ...]:
    """Conditions on `ReviewRow`: the annotator's actions that were not taken back."""
    undo = aliased(ReviewRow)
    return (
        ReviewRow.tenant_id == tenant_id,
        ReviewRow.annotator_id == annotator_id,
        ReviewRow.kind != ReviewKind.UNDO.value,
        ~select(undo.id).where(undo.undoes_id == ReviewRow.id).exists(),
    )


def _refuse_edit(pair: Pair, current: Response, text: str) -> None:
    if not text.strip():
        raise InvalidInput("text: expected an answer, found an empty one")
    if text == current.text:
        raise InvalidInput("text: expected a changed answer, found the same")
    if any(normalised(one.text) == normalised(text) for one in pair.responses if one != current):
        raise InvalidInput("text: expected another answer than the other response, found the same")


def _refuse_note(note: str) -> None:
    if len(note) > MAX_NOTE:
        raise InvalidInput(f"note: expected at most {MAX_NOTE} characters, found {len(note)}")
    if found := defect(note):
        raise InvalidInput(f"note: expected text that can be stored, found {found}")
