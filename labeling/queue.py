"""The review queue: one card at a time for each annotator, blind, with a way back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from labeling import actions, claims, drafts
from labeling.ballots import Ballot, refuse_note
from labeling.desk import LEASE, Desk, sides
from labeling.drafts import MAX_EDIT
from labeling.models import Card, Draft, Evidence, Progress, Ratings, Verdict
from labeling.store import ClaimRow
from services.db import Clock, Database, utcnow
from services.errors import Conflict, InvalidInput
from services.preferences import queries
from services.preferences.models import SKIP_REASONS, Origin, PairStatus, Response, Review
from services.preferences.service import Preferences
from services.preferences.store import PairRow
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

__all__ = ["LEASE", "MAX_EDIT", "ReviewQueue", "sides"]


class ReviewQueue:
    """Cards for annotators and what they make of them.

    Args:
        preferences: Where votes become a decision.
    """

    def __init__(self, db: Database, preferences: Preferences, *, clock: Clock = utcnow) -> None:
        self._db, self._preferences, self._clock = db, preferences, clock

    def next_card(self, actor: Actor, tenant_id: str) -> Card | None:
        """The annotator's card: the same one until it is voted on or skipped, then the next.

        Asking again renews the lease of ten minutes.

        Returns:
            None where nothing is left for this person.
        """
        with self._reading(actor, tenant_id) as desk:
            # Whoever draws the page again a moment later makes nobody wait for a place to write.
            seeker = desk.seeker
            if (known := claims.fresh(desk.session, seeker)) is not None:
                return desk.card(known.pair_id, until=known.until)
        with self._desk(actor, tenant_id) as desk:
            mine = claims.claim(desk.session, seeker)
        if mine is None:
            return None
        with self._reading(actor, tenant_id) as desk:
            return desk.card(mine.pair_id, until=mine.until)

    def vote(
        self,
        actor: Actor,
        tenant_id: str,
        pair_id: str,
        *,
        verdict: Verdict,
        ratings: Ratings | None = None,
        flags: Collection[str] = (),
        note: str = "",
        active_ms: int | None = None,
        shown: tuple[str, str] | None = None,
    ) -> Review:
        """Vote on the annotator's card; the last vote that a pair needs decides it.

        Args:
            verdict: From left to right, as the annotator sees the card.
            ratings: By response id, by criterion, 1 to 5.
            flags: Out of `FLAGS`; a flagged vote sends the pair to an adjudicator.
            active_ms: Time at the card, milliseconds.
            shown: Ids of the left and the right response that the annotator saw: another window
                may have changed one of them since.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: The verdict, a rating or a flag is none.
            Conflict: The pair is not this person's card any more, or an answer has changed.
        """
        ballot = Ballot.of(verdict, ratings or {}, flags, note, active_ms)
        with self._desk(actor, tenant_id) as desk:
            row, pair, mine = desk.own(pair_id)
            left, right = (one.id for one in sides(pair, actor.id))
            actions.refuse_other_versions(pair, shown or (left, right))
            return actions.cast(desk, row, pair, mine, ballot, (left, right))

    def evidence(self, actor: Actor, tenant_id: str, pair_id: str) -> Evidence:
        """What the AI had said of a pair on which the annotator has voted.

        Returns:
            All empty where the tenant's policy reveals nothing.

        Raises:
            NotFound: The tenant has no such pair.
            Conflict: The annotator has no standing vote on it.
        """
        with self._reading(actor, tenant_id) as desk:
            pair = queries.get(desk.session, desk.tenant_id, pair_id)
            if desk.standing_vote(pair_id) is None:
                raise Conflict(f"pair {pair_id}: expected your vote on it, found none")
            return desk.evidence(pair)

    def reveal(self, actor: Actor, tenant_id: str, pair_id: str) -> Card:
        """The pair once more, with the evidence, so that the annotator may revise the vote.

        Raises:
            NotFound: The tenant has no such pair.
            Conflict: The annotator has no standing vote on it, or someone else has decided since.
        """
        with self._reading(actor, tenant_id) as desk:
            row = queries.locked(desk.session, desk.tenant_id, pair_id)
            vote = desk.standing_vote(pair_id)
            if vote is None or claims.vote_of(desk.session, pair_id, actor.id) != vote.id:
                raise Conflict(
                    f"pair {pair_id}: expected a vote of yours that counts, found none"
                ).because("vote_not_yours")
            desk.refuse_unless_ours(row, vote)
            return desk.card(pair_id, review_id=vote.id)

    def revise(
        self,
        actor: Actor,
        tenant_id: str,
        review_id: str,
        *,
        verdict: Verdict,
        ratings: Ratings | None = None,
        flags: Collection[str] = (),
        note: str = "",
        active_ms: int | None = None,
    ) -> Review:
        """Put another vote in the place of one's own; the older one stays in the history.

        Args:
            review_id: The standing vote, as `Card.review_id` names it.

        Raises:
            InvalidInput: The verdict, a rating or a flag is none.
            Conflict: It is not this person's standing vote, or someone else has decided since.
        """
        ballot = Ballot.of(verdict, ratings or {}, flags, note, active_ms)
        with self._desk(actor, tenant_id) as desk:
            return actions.revise(desk, review_id, ballot)

    def record_outside(
        self,
        actor: Actor,
        tenant_id: str,
        pair_id: str,
        *,
        annotator_id: str,
        left_response_id: str,
        right_response_id: str,
        verdict: Verdict,
        ratings: Ratings | None = None,
        flags: Collection[str] = (),
        note: str = "",
        active_ms: int | None = None,
        origin: Origin = Origin.LABEL_STUDIO,
        replaces: str | None = None,
        is_revealed: bool = False,
        session: Session | None = None,
    ) -> Review:
        """Take in a vote that was cast elsewhere; the same rules decide.

        Args:
            annotator_id: Whose vote it is; the actor only carries it in.
            left_response_id: What was shown left there; likewise right.
            replaces: Id of the same annotator's standing vote that this one is to replace.
            is_revealed: The AI's verdict was shown there before the vote.
            session: The transaction that also notes where the vote is from; None for an own one.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: The verdict, a rating or a flag is none.
            Conflict: The answers have changed since, the pair is decided, its places are all
                taken, or this person has voted on it already.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        ballot = Ballot.of(verdict, ratings or {}, flags, note, active_ms)
        shown = (left_response_id, right_response_id)
        with self._at(actor, tenant_id, annotator_id, session) as desk:
            row = queries.locked(desk.session, tenant_id, pair_id)
            pair = queries.get(desk.session, tenant_id, pair_id)
            actions.refuse_other_versions(pair, shown)
            if replaces is not None:
                return actions.revise(
                    desk, replaces, ballot, shown, origin=origin, is_revealed=is_revealed
                )
            if row.status != PairStatus.UNREVIEWED.value:
                raise Conflict(f"pair {pair_id}: expected it unreviewed, found it {row.status}")
            mine = claims.held(desk.session, pair_id, annotator_id)
            if mine is not None and mine.place > claims.SKIPPED:
                claims.leave(desk.session, row, mine)
                mine = None
            if mine is not None and mine.review_id is not None:
                raise Conflict(f"pair {pair_id}: annotator {annotator_id} has voted on it already")
            mine = mine or claims.take_outside(desk.session, row, annotator_id, desk.policy)
            if mine is None:
                raise Conflict(f"pair {pair_id}: all of its {row.overlap} places are taken")
            return actions.cast(
                desk, row, pair, mine, ballot, shown, origin=origin, is_revealed=is_revealed
            )

    def edit(
        self,
        actor: Actor,
        tenant_id: str,
        pair_id: str,
        response_id: str,
        text: str,
        *,
        reason: str = "",
    ) -> Response:
        """Mend an answer of the annotator's card: a new version, the older one stays.

        Votes that others have cast on the older text do not count any more, and their places are
        free again. A card that was lost meanwhile leaves the text as a draft.

        Args:
            response_id: The version that the annotator saw.

        Returns:
            The new version.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: The text is empty, too long, unchanged, or that of the other answer.
            Conflict: The pair is not this person's card any more, or the answer has changed.
        """
        drafts.refuse(text)
        refuse_note(reason, "reason")
        try:
            with self._desk(actor, tenant_id) as desk:
                row, pair, mine = desk.own(pair_id)
                if mine.place > claims.PLANTED:
                    raise Conflict(
                        f"pair {pair_id}: its answers cannot be changed at present"
                    ).because("answers_fixed")
                return actions.edit(desk, row, pair, mine, response_id, text, reason)
        except Conflict as error:
            if not self._rescue(actor, tenant_id, pair_id, response_id, text):
                raise
            raise Conflict(f"{error.message}; your text is kept as a draft").because(
                "kept_as_draft"
            ) from error

    def edit_outside(
        self,
        actor: Actor,
        tenant_id: str,
        pair_id: str,
        response_id: str,
        text: str,
        *,
        annotator_id: str,
        reason: str = "",
        session: Session | None = None,
    ) -> Response:
        """Take in an edit that was made elsewhere, whoever has the pair as a card.

        A pair that was decided is opened again: what was decided was about another text.

        Args:
            session: As of `record_outside`.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: The text is empty, too long, unchanged, or that of the other answer.
            Conflict: The answer has changed since.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        drafts.refuse(text)
        refuse_note(reason, "reason")
        with self._at(actor, tenant_id, annotator_id, session) as desk:
            row = queries.locked(desk.session, tenant_id, pair_id)
            pair = queries.get(desk.session, tenant_id, pair_id)
            version = actions.edit(desk, row, pair, None, response_id, text, reason)
            if row.status != PairStatus.UNREVIEWED.value:
                queries.decide(
                    desk.session, row, PairStatus.UNREVIEWED, chosen_id=None, rejected_id=None,
                    actor_id=actor.id, at=desk.now, reason="edited",
                )  # fmt: skip
            return version

    def keep_draft(
        self, actor: Actor, tenant_id: str, pair_id: str, response_id: str, text: str
    ) -> None:
        """Keep an unsaved edit, whether or not the pair is still one's card.

        Args:
            text: Takes the place of what was kept before; an empty one drops it.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: The pair has no such response, or the text cannot be stored.
        """
        drafts.refuse(text)
        with self._desk(actor, tenant_id) as desk:
            pair = queries.get(desk.session, desk.tenant_id, pair_id)
            drafts.keep(desk.session, pair, response_id, text, annotator_id=actor.id, at=desk.now)

    def drafts(self, actor: Actor, tenant_id: str, pair_id: str) -> Mapping[str, str]:
        """One's unsaved edits of a pair, by id of the current response."""
        with self._reading(actor, tenant_id) as desk:
            pair = queries.get(desk.session, desk.tenant_id, pair_id)
            return drafts.of_pair(desk.session, pair, actor.id)

    def my_drafts(self, actor: Actor, tenant_id: str) -> tuple[Draft, ...]:
        """All of one's unsaved edits, newest first."""
        with self._reading(actor, tenant_id) as desk:
            return drafts.of_annotator(desk.session, desk.tenant_id, actor.id)

    def skip(
        self, actor: Actor, tenant_id: str, pair_id: str, reason: str = "other", note: str = ""
    ) -> Review:
        """Leave the annotator's card to others; this person is not given it again.

        Args:
            reason: One of `SKIP_REASONS`.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: The reason is none.
            Conflict: The pair is not this person's card any more.
        """
        if reason not in SKIP_REASONS:
            raise InvalidInput(f"reason: expected {', '.join(SKIP_REASONS)}, found {reason!r}")
        refuse_note(note)
        with self._desk(actor, tenant_id) as desk:
            row, pair, mine = desk.own(pair_id)
            return actions.skip(desk, row, pair, mine, reason=reason, note=note)

    def touch(self, actor: Actor, tenant_id: str, pair_id: str) -> datetime:
        """Renew the lease because the annotator is at work on the card.

        Returns:
            Until when the card is theirs.

        Raises:
            NotFound: The tenant has no such pair.
            Conflict: The pair is not this person's card any more.
        """
        with self._desk(actor, tenant_id) as desk:
            _row, _pair, mine = desk.own(pair_id)
            mine.until = desk.now + LEASE
            return mine.until

    def undo(self, actor: Actor, tenant_id: str) -> Card | None:
        """Take back the annotator's latest vote, revision, skip or edit, one after the other.

        Returns:
            The pair as the annotator's card again; after a revision with the evidence and the
            older vote, which stands again. None where there is nothing to take back, or where the
            pair has no place for this person any more.

        Raises:
            Conflict: Someone else has decided or changed the pair since; nothing was taken back.
        """
        with self._desk(actor, tenant_id) as desk:
            last = desk.latest()
            if last is None:
                return None
            others = set(claims.cards_out(desk.session, desk.tenant_id, actor.id))
            # Whoever locks several pairs does so in one order.
            for pair_id in sorted(others | {last.pair_id}):
                queries.locked(desk.session, desk.tenant_id, pair_id)
            row = queries.locked(desk.session, desk.tenant_id, last.pair_id)
            back = actions.take_back(desk, row, last)
            if back is None:
                return None
            if back.review_id is None:
                for pair_id in others - {row.id}:
                    claims.give_back(desk.session, pair_id, actor.id)
            return desk.card(row.id, review_id=back.review_id)

    def recount(self, actor: Actor, tenant_id: str, pair_ids: Collection[str]) -> int:
        """Decide those pairs that have all their votes now that fewer are asked for.

        Returns:
            How many were decided.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        decided = 0
        with self._at(actor, tenant_id, actor.id) as desk:
            for pair_id in sorted(set(pair_ids)):
                row = queries.locked(desk.session, tenant_id, pair_id)
                if row.status != PairStatus.UNREVIEWED.value or row.taken < row.overlap:
                    continue
                pair = queries.get(desk.session, tenant_id, pair_id)
                decided += desk.recount(row, pair)
        return decided

    def progress(self, actor: Actor, tenant_id: str) -> Progress:
        """Counts for the annotator's page."""
        with self._reading(actor, tenant_id) as desk:
            wanted = select(PairRow.status, func.count()).where(PairRow.tenant_id == tenant_id)
            grouped = desk.session.execute(wanted.group_by(PairRow.status))
            by_status = {PairStatus(status): number for status, number in grouped}
            in_tenant = ClaimRow.tenant_id == tenant_id
            with_others = select(func.count()).where(
                in_tenant, ClaimRow.annotator_id != actor.id, ClaimRow.until >= desk.now
            )
            mine = select(func.count()).where(
                in_tenant, ClaimRow.annotator_id == actor.id, ClaimRow.until.is_(None)
            )
            skipped = mine.where(ClaimRow.place > claims.SKIPPED)
            voted = mine.where(ClaimRow.place <= claims.SKIPPED)
            return Progress(
                total=sum(by_status.values()),
                unreviewed=by_status.get(PairStatus.UNREVIEWED, 0),
                disputed=by_status.get(PairStatus.DISPUTED, 0),
                approved=by_status.get(PairStatus.APPROVED, 0),
                rejected=by_status.get(PairStatus.REJECTED, 0),
                with_others=desk.session.scalar(with_others) or 0,
                mine=desk.session.scalar(voted) or 0,
                mine_skipped=desk.session.scalar(skipped) or 0,
            )

    def _rescue(
        self, actor: Actor, tenant_id: str, pair_id: str, response_id: str, text: str
    ) -> bool:
        """Keep the text of an edit that came too late, if it is of a response of the pair."""
        with self._desk(actor, tenant_id) as desk:
            pair = queries.get(desk.session, tenant_id, pair_id)
            if not drafts.is_of(desk.session, pair, response_id):
                return False
            drafts.keep(desk.session, pair, response_id, text, annotator_id=actor.id, at=desk.now)
            return True

    @contextmanager
    def _desk(self, actor: Actor, tenant_id: str) -> Iterator[Desk]:
        tenant_id = scope(actor, tenant_id, Permission.REVIEW)
        with self._at(actor, tenant_id, actor.id) as desk:
            yield desk

    @contextmanager
    def _at(
        self, actor: Actor, tenant_id: str, annotator_id: str, session: Session | None = None
    ) -> Iterator[Desk]:
        with self._db.write() if session is None else nullcontext(session) as session:
            # Two windows of the same person take turns, so that their actions have one order.
            queries.serialise(session, f"desk|{tenant_id}|{annotator_id}")
            yield Desk(session, self._preferences, actor, annotator_id, tenant_id, self._clock())

    @contextmanager
    def _reading(self, actor: Actor, tenant_id: str) -> Iterator[Desk]:
        tenant_id = scope(actor, tenant_id, Permission.REVIEW)
        with self._db.read() as session:
            yield Desk(session, self._preferences, actor, actor.id, tenant_id, self._clock())
