"""One annotator at the review desk in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from labeling import claims, drafts, policies
from labeling.claims import Seeker
from labeling.models import Card, Evidence, ReviewPolicy
from labeling.rules import Outcome, outcome
from labeling.store import ClaimRow
from services.audit.outbox import record
from services.db import new_id
from services.errors import Conflict
from services.preferences import queries, records
from services.preferences.evidence import ai_verdict
from services.preferences.models import Pair, PairStatus, Response, Review, ReviewKind
from services.preferences.service import Preferences
from services.preferences.store import JudgmentRow, PairRow, ResponseRow, ReviewRow
from services.tenants.models import Actor

LEASE = timedelta(minutes=10)


def sides(pair: Pair, annotator_id: str) -> tuple[Response, Response]:
    """Both answers as this annotator sees them, left and right.

    The sides come from the pair and the annotator alone: they stay when the page is drawn again,
    and over many pairs neither side is favoured.
    """
    digest = hashlib.sha256(f"param.sides.v1|{pair.id}|{annotator_id}".encode()).digest()
    first, second = pair.responses
    return (second, first) if digest[0] & 1 else (first, second)


@dataclass
class Desk:
    """One annotator in one transaction.

    Attributes:
        actor: Who acts; for a vote that was cast elsewhere not the annotator.
        annotator_id: Whose card it is.
    """

    session: Session
    preferences: Preferences
    actor: Actor
    annotator_id: str
    tenant_id: str
    now: datetime

    @cached_property
    def policy(self) -> ReviewPolicy:
        """How the tenant reviews at present."""
        return policies.current(self.session, self.tenant_id)

    @cached_property
    def seeker(self) -> Seeker:
        """The annotator as one who asks for a card."""
        groups = policies.groups_of(self.session, self.tenant_id, self.annotator_id)
        return Seeker(
            tenant_id=self.tenant_id,
            annotator_id=self.annotator_id,
            assignees=(f"user:{self.annotator_id}", *(f"group:{one}" for one in groups)),
            turn=self.last_number() + 1,
            now=self.now,
            until=self.now + LEASE,
            policy=self.policy,
        )

    def own(self, pair_id: str) -> tuple[PairRow, Pair, ClaimRow]:
        """The annotator's card, locked; a lease that ran out still counts until it is taken.

        Raises:
            NotFound: The tenant has no such pair.
            Conflict: It is not this person's card, or not any more.
        """
        row = queries.locked(self.session, self.tenant_id, pair_id)
        mine = claims.held(self.session, pair_id, self.annotator_id)
        is_planted = mine is not None and mine.place > claims.PLANTED
        if row.status != PairStatus.UNREVIEWED.value and not is_planted:
            raise Conflict(
                f"pair {pair_id}: expected it unreviewed, found it {row.status}"
            ).because("pair_reviewed")
        if mine is None or mine.review_id is not None:
            raise Conflict(f"pair {pair_id} is not your card any more; take the next one").because(
                "card_gone"
            )
        return row, queries.get(self.session, self.tenant_id, pair_id), mine

    def card(
        self, pair_id: str, *, until: datetime | None = None, review_id: str | None = None
    ) -> Card:
        """The pair as a card; with the evidence where it is to revise a vote."""
        self.session.flush()
        pair = queries.get(self.session, self.tenant_id, pair_id)
        left, right = (replace(one, extra={}) for one in sides(pair, self.annotator_id))
        return Card(
            pair_id=pair.id,
            prompt=pair.prompt,
            left=left,
            right=right,
            language=pair.language,
            is_edited=pair.is_edited,
            lease_until=until or self.now + LEASE,
            drafts=drafts.of_pair(self.session, pair, self.annotator_id),
            evidence=None if review_id is None else self.evidence(pair),
            review_id=review_id,
        )

    def evidence(self, pair: Pair) -> Evidence:
        """What the AI said of a pair; nothing where the policy reveals nothing."""
        if not self.policy.is_revealing:
            return Evidence(None, (), {}, {}, {})
        versions = self._versions(pair.id)
        rows = self.session.scalars(
            select(JudgmentRow)
            .where(JudgmentRow.pair_id == pair.id)
            .order_by(JudgmentRow.created_at, JudgmentRow.id)
        )
        judgments = tuple(records.judgment(row) for row in rows)
        first = {one.root_id: one.extra for one in versions if one.version == 1}
        extras = {one.id: first.get(one.root_id, {}) for one in pair.responses}
        return Evidence(
            ai=ai_verdict(versions, judgments),
            judgments=judgments,
            scores={one: _number(extra.get("score")) for one, extra in extras.items()},
            generators={one: _name(extra.get("generator")) for one, extra in extras.items()},
            temperatures={one: _number(extra.get("temperature")) for one, extra in extras.items()},
        )

    def append(
        self, pair: Pair, kind: ReviewKind, shown: Sequence[str] | None = None, **values: Any
    ) -> Review:
        """Append an action of the annotator.

        Args:
            shown: Ids of the left and the right response; by default as the desk shows them.
        """
        left, right = shown or [one.id for one in sides(pair, self.annotator_id)]
        row = ReviewRow(
            id=new_id(),
            tenant_id=self.tenant_id,
            pair_id=pair.id,
            annotator_id=self.annotator_id,
            number=self.last_number() + 1,
            kind=kind.value,
            left_response_id=left,
            right_response_id=right,
            created_at=self.now,
            **{"note": "", **values},
        )
        self.session.add(row)
        self.session.flush()
        return records.review(row)

    def last_number(self) -> int:
        """Number of the annotator's latest action; 0 for none."""
        mine = select(func.max(ReviewRow.number)).where(
            ReviewRow.tenant_id == self.tenant_id, ReviewRow.annotator_id == self.annotator_id
        )
        return self.session.scalar(mine) or 0

    def latest(self) -> Review | None:
        """The annotator's latest action that was not taken back."""
        undo = aliased(ReviewRow)
        standing = select(ReviewRow).where(
            ReviewRow.tenant_id == self.tenant_id,
            ReviewRow.annotator_id == self.annotator_id,
            ReviewRow.kind != ReviewKind.UNDO.value,
            ~select(undo.id).where(undo.undoes_id == ReviewRow.id).exists(),
        )
        row = self.session.scalar(standing.order_by(ReviewRow.number.desc()).limit(1))
        return None if row is None else records.review(row)

    def has_voted_before(self, pair_id: str) -> bool:
        """Whether the annotator ever voted on the pair, taken back or not."""
        wanted = select(ReviewRow.id).where(
            ReviewRow.pair_id == pair_id,
            ReviewRow.annotator_id == self.annotator_id,
            ReviewRow.kind == ReviewKind.VOTE.value,
        )
        return self.session.scalar(wanted.limit(1)) is not None

    def standing_vote(self, pair_id: str) -> Review | None:
        """The annotator's last vote on the pair that was not taken back."""
        undo = aliased(ReviewRow)
        wanted = select(ReviewRow).where(
            ReviewRow.tenant_id == self.tenant_id,
            ReviewRow.pair_id == pair_id,
            ReviewRow.annotator_id == self.annotator_id,
            ReviewRow.kind == ReviewKind.VOTE.value,
            ~select(undo.id).where(undo.undoes_id == ReviewRow.id).exists(),
        )
        row = self.session.scalar(wanted.order_by(ReviewRow.number.desc()).limit(1))
        return None if row is None else records.review(row)

    def refuse_unless_ours(self, row: PairRow, vote: Review) -> None:
        """Refuse to change a vote after which somebody else has decided the pair."""
        if row.status == PairStatus.UNREVIEWED.value or vote.is_gold:
            return
        if self.decided_by(row) != vote.id:
            raise Conflict(
                f"pair {row.id}: someone else has decided on it since your vote"
            ).because("pair_decided")

    def decided_by(self, row: PairRow) -> str | None:
        """Id of the vote that the pair's latest decision names."""
        decisions = queries.history(self.session, row.id).decisions
        return decisions[-1].review_id if decisions else None

    def settle(self, row: PairRow, pair: Pair, review: Review, action: str) -> None:
        """Decide the pair by the votes that now stand, and leave one event of the action."""
        found = None if review.is_gold else self._outcome(row)
        if found is None and row.status != PairStatus.UNREVIEWED.value and not review.is_gold:
            found = Outcome(PairStatus.UNREVIEWED, None, "taken back")
        if found is None:
            self.audit(action, row.id, {"review": review.id})
            return
        self.preferences.decide_in_session(
            self.session, self.actor, row, pair, found.status, found.chosen_response_id,
            reason=found.reason, review_id=review.id, action=action,
        )  # fmt: skip

    def recount(self, row: PairRow, pair: Pair) -> bool:
        """Decide an unreviewed pair if it has all the votes that it needs."""
        found = self._outcome(row)
        if found is None:
            return False
        self.preferences.decide_in_session(
            self.session, self.actor, row, pair, found.status, found.chosen_response_id,
            reason=found.reason, action="pair.recounted",
        )  # fmt: skip
        return True

    def new_version(
        self, row: PairRow, pair: Pair, current: Response, text: str, keep: ClaimRow | None
    ) -> Response:
        """Append a version of an answer; what was said of the older one does not count for it."""
        version = queries.add_version(
            self.session, current, pair, text, author_id=self.annotator_id, at=self.now
        )
        self.session.flush()
        claims.begin_round(self.session, row, keep=keep)
        versions = self._versions(row.id)
        judged = select(JudgmentRow.id).where(JudgmentRow.pair_id == row.id).limit(1)
        is_judged = self.session.scalar(judged) is not None
        row.is_stale = _differs_from_first(versions) and (
            is_judged or any("score" in one.extra for one in versions)
        )
        return version

    def restored(self, row: PairRow, pair: Pair, edit: Review) -> Response:
        """Append a version with the text from before an edit.

        Raises:
            Conflict: Somebody else has changed, judged or decided the pair since.
        """
        current = next((one for one in pair.responses if one.id == edit.response_id), None)
        if (
            current is None
            or row.status != PairStatus.UNREVIEWED.value
            or claims.are_others_at_work(self.session, row, self.annotator_id, self.now)
        ):
            raise Conflict(
                f"pair {row.id}: someone else has changed or decided it since your edit"
            ).because("pair_decided")
        before = self.session.get_one(ResponseRow, current.parent_id)
        mine = claims.held(self.session, row.id, self.annotator_id)
        return self.new_version(row, pair, current, before.text, mine)

    def audit(self, action: str, pair_id: str, details: dict[str, Any]) -> None:
        """Leave an event of the actor."""
        record(
            self.session, self.actor, action, f"pair:{pair_id}", tenant_id=self.tenant_id,
            details=details, at=self.now,
        )  # fmt: skip

    def _outcome(self, row: PairRow) -> Outcome | None:
        ids = claims.votes_in(self.session, row.id)
        found = self.session.scalars(select(ReviewRow).where(ReviewRow.id.in_(ids)))
        return outcome([records.review(one) for one in found], overlap=row.overlap)

    def _versions(self, pair_id: str) -> list[Response]:
        rows = self.session.scalars(select(ResponseRow).where(ResponseRow.pair_id == pair_id))
        return [records.response(row) for row in rows]


def _differs_from_first(versions: Sequence[Response]) -> bool:
    ordered = sorted(versions, key=lambda one: one.version)
    first = {one.root_id: one.text for one in reversed(ordered)}
    return first != {one.root_id: one.text for one in ordered}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None
