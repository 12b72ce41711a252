"""What an annotator can do with a card: vote, revise, edit, skip, and take it back."""

from __future__ import annotations

from dataclasses import dataclass

from labeling import claims, drafts
from labeling.ballots import Ballot
from labeling.desk import LEASE, Desk
from labeling.store import ClaimRow
from services.errors import Conflict, InvalidInput
from services.preferences import queries, records
from services.preferences.models import Origin, Pair, Response, Review, ReviewKind
from services.preferences.store import PairRow, ReviewRow
from services.preferences.text import normalised

Shown = tuple[str, str]
"""Ids of the left and the right response that somebody saw."""


@dataclass(frozen=True)
class Back:
    """What an undo gave back.

    Attributes:
        review_id: The older vote, where a revision of it was taken back; None for a card.
    """

    review_id: str | None


def cast(
    desk: Desk,
    row: PairRow,
    pair: Pair,
    mine: ClaimRow,
    ballot: Ballot,
    shown: Shown,
    *,
    origin: Origin = Origin.DESK,
    is_revealed: bool = False,
) -> Review:
    """Append a vote, which keeps the place, and decide the pair if it was the last one needed.

    Somebody who ever voted on the pair has been told since what the AI said of it: a vote after
    an undo is not blind any more.
    """
    knows = is_revealed or (desk.policy.is_revealing and desk.has_voted_before(pair.id))
    review = desk.append(
        pair,
        ReviewKind.VOTE,
        shown,
        **ballot.values(*shown),
        is_random=mine.is_random,
        is_gold=mine.place > claims.PLANTED,
        is_revealed=knows,
        origin=origin.value,
    )
    mine.review_id, mine.until = review.id, None
    desk.settle(row, pair, review, "pair.voted")
    return review


def revise(
    desk: Desk,
    review_id: str,
    ballot: Ballot,
    shown: Shown | None = None,
    *,
    origin: Origin = Origin.DESK,
    is_revealed: bool | None = None,
) -> Review:
    """Append a vote in the place of an older one.

    Args:
        is_revealed: The annotator knew the AI's verdict; by default as the desk reveals it.

    Raises:
        Conflict: The older one is not the annotator's standing vote, or someone else has decided.
    """
    found = desk.session.get(ReviewRow, review_id)
    if found is None or (found.tenant_id, found.annotator_id) != (
        desk.tenant_id,
        desk.annotator_id,
    ):
        raise Conflict(
            f"vote {review_id}: expected a vote of yours that counts, found none"
        ).because("vote_not_yours")
    former = records.review(found)
    row = queries.locked(desk.session, desk.tenant_id, former.pair_id)
    mine = claims.held(desk.session, row.id, desk.annotator_id)
    if former.kind is not ReviewKind.VOTE or mine is None or mine.review_id != former.id:
        raise Conflict(
            f"vote {review_id}: expected a vote of yours that counts, found none"
        ).because("vote_not_yours")
    desk.refuse_unless_ours(row, former)
    pair = queries.get(desk.session, desk.tenant_id, row.id)
    shown = shown or (former.left_response_id, former.right_response_id)
    review = desk.append(
        pair,
        ReviewKind.VOTE,
        shown,
        **ballot.values(*shown),
        revises_id=former.id,
        is_random=former.is_random,
        is_gold=former.is_gold,
        is_revealed=former.is_revealed
        or (desk.policy.is_revealing if is_revealed is None else is_revealed),
        origin=origin.value,
    )
    mine.review_id = review.id
    desk.settle(row, pair, review, "pair.vote_revised")
    return review


def skip(desk: Desk, row: PairRow, pair: Pair, mine: ClaimRow, *, reason: str, note: str) -> Review:
    """Append a skip and give the place to others."""
    review = desk.append(
        pair,
        ReviewKind.SKIP,
        reason=reason,
        note=note,
        is_random=mine.is_random,
        is_gold=mine.place > claims.PLANTED,
    )
    claims.skip(desk.session, row, mine, review.id)
    desk.audit("pair.skipped", pair.id, {"review": review.id})
    return review


def edit(
    desk: Desk,
    row: PairRow,
    pair: Pair,
    mine: ClaimRow | None,
    response_id: str,
    text: str,
    reason: str,
) -> Response:
    """Append a version of an answer.

    Raises:
        InvalidInput: The text is empty, unchanged, or that of the other answer.
        Conflict: The answer has changed.
    """
    current = next((one for one in pair.responses if one.id == response_id), None)
    if current is None:
        raise Conflict(f"pair {pair.id} has no current response {response_id!r}").because(
            "answer_changed"
        )
    _refuse_edit(pair, current, text)
    version = desk.new_version(row, pair, current, text, mine)
    desk.append(pair, ReviewKind.EDIT, response_id=version.id, reason=reason)
    drafts.drop(desk.session, response_id, desk.annotator_id)
    if mine is not None:
        mine.until = desk.now + LEASE
    desk.audit("pair.edited", pair.id, {"response": version.id, "parent": response_id})
    return version


def take_back(desk: Desk, row: PairRow, last: Review) -> Back | None:
    """Append the undo of an action and put things back as they were before it.

    Returns:
        None where the pair has no place for the annotator any more.

    Raises:
        Conflict: Someone else has decided or changed the pair since.
    """
    pair = queries.get(desk.session, desk.tenant_id, row.id)
    version: Response | None = None
    if last.kind is ReviewKind.VOTE:
        desk.refuse_unless_ours(row, last)
    elif last.kind is ReviewKind.EDIT:
        version = desk.restored(row, pair, last)
    undo = desk.append(
        pair,
        ReviewKind.UNDO,
        undoes_id=last.id,
        response_id=version.id if version else None,
        is_gold=last.is_gold,
    )
    mine = claims.held(desk.session, row.id, desk.annotator_id)
    counts = mine is not None and mine.review_id == last.id
    if mine is not None and counts and last.revises_id is not None:
        mine.review_id = last.revises_id
        former = records.review(desk.session.get_one(ReviewRow, last.revises_id))
        # The decision names the vote that stands again, so that this can be taken back as well.
        desk.settle(row, pair, former, "pair.vote_undone")
        return Back(former.id)
    seat = claims.hold(desk.session, row, desk.seeker)
    if last.kind is ReviewKind.VOTE and counts:
        desk.settle(row, pair, undo, "pair.vote_undone")
    else:
        details = {"review": undo.id, "undoes": last.id}
        desk.audit(f"pair.{last.kind.value}_undone", pair.id, details)
    if seat is None:
        return None
    seat.is_random = last.is_random
    return Back(None)


def refuse_other_versions(pair: Pair, shown: Shown) -> None:
    """Refuse a vote on texts that are not the current ones.

    Raises:
        Conflict: An answer has changed since it was shown.
    """
    if {*shown} != {one.id for one in pair.responses}:
        raise Conflict(
            f"pair {pair.id}: an answer has changed since it was shown; look again"
        ).because("answer_changed")


def _refuse_edit(pair: Pair, current: Response, text: str) -> None:
    if not text.strip():
        raise InvalidInput("text: expected an answer, found an empty one").because(
            "empty", field="answer"
        )
    if text == current.text:
        raise InvalidInput("text: expected a changed answer, found the same").because(
            "answer_unchanged"
        )
    if any(normalised(one.text) == normalised(text) for one in pair.responses if one != current):
        raise InvalidInput(
            "text: expected another answer than the other response, found the same"
        ).because("answers_alike")
