"""Who holds which place at which pair.

A pair has as many places as people vote on it. Somebody who is given the card takes one, the vote
keeps it, and the database lets no place be held twice, so that a pair cannot get more votes than
its overlap. `PairRow.taken` counts the places that are held; it changes only together with them,
while the pair's row is locked.

A lease that ran out stays with its holder until somebody else takes over the place. Planted pairs
and skips have places beyond the counted ones: they only keep the card from coming back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Select,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from labeling.models import ReviewPolicy
from labeling.store import ClaimRow
from services.preferences.evidence import UNDECIDED
from services.preferences.models import PairStatus
from services.preferences.store import PairRow

PLANTED, SKIPPED = 1_000, 2_000
"""Places above `PLANTED` are of planted pairs, above `SKIPPED` of people who skipped the pair."""
RENEWED_EVERY = timedelta(minutes=1)
RANDOM_EVERY = 10
"""One card in so many is drawn by lot, whatever its priority."""
_UNREVIEWED: ColumnElement[str] = literal_column(f"'{PairStatus.UNREVIEWED.value}'")


@dataclass(frozen=True)
class Seeker:
    """An annotator who asks for a card.

    Attributes:
        assignees: Whose pairs this person is given before those of everybody: `user:ID`, and
            `group:ID` of each group.
        turn: Number of the person's next action; draws the lots.
        until: How long the card is theirs.
    """

    tenant_id: str
    annotator_id: str
    assignees: Sequence[str]
    turn: int
    now: datetime
    until: datetime
    policy: ReviewPolicy

    def draws(self, name: str, every: int) -> bool:
        """Whether this turn is one in `every`, at a spot that nobody can foresee."""
        drawn = f"param.draw.v1|{name}|{self.annotator_id}|{self.turn}".encode()
        return every > 0 and int.from_bytes(hashlib.sha256(drawn).digest()[:8], "big") % every == 0


def claim(session: Session, seeker: Seeker) -> ClaimRow | None:
    """Give the annotator the card that is theirs, renewed, or else the next one.

    The next one is a place that somebody let lapse, so that what was begun is finished; or else,
    when the lot says so, a planted pair or one drawn by lot; or else the first by priority.

    Returns:
        None where nothing is left for this person.
    """
    return (
        _own(session, seeker)
        or _lapsed(session, seeker)
        or (_planted(session, seeker) if seeker.draws("gold", seeker.policy.gold_every) else None)
        or _open(session, seeker, by_lot=seeker.draws("lot", RANDOM_EVERY))
        or _last(session, seeker)
    )


def fresh(session: Session, seeker: Seeker) -> ClaimRow | None:
    """The annotator's card, if its lease was renewed within the last minute."""
    wanted = (
        select(ClaimRow)
        .join(PairRow, PairRow.id == ClaimRow.pair_id)
        .where(
            ClaimRow.tenant_id == seeker.tenant_id,
            ClaimRow.annotator_id == seeker.annotator_id,
            ClaimRow.until > seeker.until - RENEWED_EVERY,
            or_(ClaimRow.place > PLANTED, PairRow.status == _UNREVIEWED),
        )
    )
    return session.scalar(wanted.limit(1))


def held(session: Session, pair_id: str, annotator_id: str) -> ClaimRow | None:
    """What the annotator holds at the pair, locked: a card, a vote, or a skip."""
    wanted = select(ClaimRow).where(
        ClaimRow.pair_id == pair_id, ClaimRow.annotator_id == annotator_id
    )
    return session.scalar(wanted.with_for_update().execution_options(populate_existing=True))


def hold(session: Session, row: PairRow, seeker: Seeker) -> ClaimRow | None:
    """Make a pair the annotator's card again, if it has a place for this person.

    Args:
        row: The pair's row, locked.
    """
    mine = held(session, row.id, seeker.annotator_id)
    if mine is not None and mine.place <= SKIPPED:
        mine.until, mine.review_id = seeker.until, None
        return mine
    if mine is not None:
        session.delete(mine)
        session.flush()
    if row.gold_response_id is not None:
        return _sit(session, row.id, seeker, _beyond(session, row.id, PLANTED))
    if row.status != PairStatus.UNREVIEWED.value:
        return None
    row.overlap = asked(row, seeker.policy)
    if row.taken < row.overlap:
        row.taken += 1
        return _sit(session, row.id, seeker, _free_place(session, row.id))
    lapsed = _counted(row.id), ClaimRow.until < seeker.now
    found = session.scalar(select(ClaimRow).where(*lapsed).limit(1).with_for_update())
    if found is not None:
        found.annotator_id, found.until = seeker.annotator_id, seeker.until
    return found


def skip(session: Session, row: PairRow, mine: ClaimRow, review_id: str) -> None:
    """Leave the place to others, and remember not to give this person the card again."""
    seat = ClaimRow(
        pair_id=row.id, place=_beyond(session, row.id, SKIPPED), tenant_id=row.tenant_id,
        annotator_id=mine.annotator_id, until=None, review_id=review_id, is_random=False,
    )  # fmt: skip
    leave(session, row, mine)
    session.add(seat)


def leave(session: Session, row: PairRow, mine: ClaimRow) -> None:
    """Give a place back.

    Args:
        row: The pair's row, locked.
    """
    if mine.place <= PLANTED:
        row.taken -= 1
    session.delete(mine)
    session.flush()


def give_back(session: Session, pair_id: str, annotator_id: str) -> None:
    """Put a card that is out back into the queue."""
    # The pair first, then the place: whoever locks both does so in this order.
    row = session.get_one(PairRow, pair_id, with_for_update=True, populate_existing=True)
    mine = held(session, pair_id, annotator_id)
    if mine is not None and mine.until is not None:
        leave(session, row, mine)


def cards_out(session: Session, tenant_id: str, annotator_id: str) -> list[str]:
    """Ids of the pairs that are the annotator's cards at present."""
    wanted = select(ClaimRow.pair_id).where(
        ClaimRow.tenant_id == tenant_id,
        ClaimRow.annotator_id == annotator_id,
        ClaimRow.until.is_not(None),
    )
    return list(session.scalars(wanted))


def begin_round(session: Session, row: PairRow, *, keep: ClaimRow | None = None) -> None:
    """Free all places of a pair whose answers have changed; the votes stay as history.

    Cards that are out are taken back too: their holders saw the older text.

    Args:
        row: The pair's row, locked.
        keep: The place of whoever made the change.
    """
    others = [_counted(row.id)]
    if keep is not None:
        others.append(ClaimRow.annotator_id != keep.annotator_id)
    session.execute(delete(ClaimRow).where(*others))
    row.taken = 0 if keep is None or keep.place > PLANTED else 1


def asked(row: PairRow, policy: ReviewPolicy) -> int:
    """How many people vote on a pair: the policy may ask for more than the pair, never for fewer."""
    is_risky = row.priority >= UNDECIDED
    return max(row.overlap, policy.overlap, policy.risky_overlap if is_risky else 1)


def take_outside(
    session: Session, row: PairRow, annotator_id: str, policy: ReviewPolicy
) -> ClaimRow | None:
    """A place for a vote that was cast elsewhere; None where no place is free.

    Args:
        row: The pair's row, locked.
    """
    row.overlap = asked(row, policy)
    if row.taken >= row.overlap:
        return None
    row.taken += 1
    seat = ClaimRow(
        pair_id=row.id, place=_free_place(session, row.id), tenant_id=row.tenant_id,
        annotator_id=annotator_id, until=None, review_id=None, is_random=False,
    )  # fmt: skip
    session.add(seat)
    return seat


def votes_in(session: Session, pair_id: str) -> list[str]:
    """Ids of the votes that hold a place: those that count."""
    wanted = select(ClaimRow.review_id).where(_counted(pair_id), ClaimRow.review_id.is_not(None))
    return [review_id for review_id in session.scalars(wanted) if review_id is not None]


def vote_of(session: Session, pair_id: str, annotator_id: str) -> str | None:
    """Id of the annotator's vote that holds a place at the pair."""
    wanted = select(ClaimRow.review_id).where(
        ClaimRow.pair_id == pair_id,
        ClaimRow.annotator_id == annotator_id,
        ClaimRow.place <= SKIPPED,
    )
    return session.scalar(wanted)


def are_others_at_work(session: Session, row: PairRow, annotator_id: str, now: datetime) -> bool:
    """Whether somebody else has voted on the pair or has it as a card at present."""
    wanted = select(ClaimRow.place).where(
        _counted(row.id),
        ClaimRow.annotator_id != annotator_id,
        or_(ClaimRow.review_id.is_not(None), ClaimRow.until >= now),
    )
    return session.scalar(wanted.limit(1)) is not None


def _own(session: Session, seeker: Seeker) -> ClaimRow | None:
    mine = (
        ClaimRow.tenant_id == seeker.tenant_id,
        ClaimRow.annotator_id == seeker.annotator_id,
        ClaimRow.until.is_not(None),
    )
    overtaken = (
        select(ClaimRow.pair_id)
        .join(PairRow, PairRow.id == ClaimRow.pair_id)
        .where(*mine, ClaimRow.place <= PLANTED, PairRow.status != PairStatus.UNREVIEWED.value)
    )
    for pair_id in session.scalars(overtaken).all():
        give_back(session, pair_id, seeker.annotator_id)
    renewed = update(ClaimRow).where(*mine).values(until=seeker.until).returning(ClaimRow)
    return session.scalars(
        renewed, execution_options={"synchronize_session": False, "populate_existing": True}
    ).first()


def _lapsed(session: Session, seeker: Seeker) -> ClaimRow | None:
    place, pair = aliased(ClaimRow), aliased(PairRow)
    first = (
        select(place.pair_id, place.place)
        .join(pair, pair.id == place.pair_id)
        .where(
            place.tenant_id == seeker.tenant_id,
            place.until < seeker.now,
            place.place <= pair.overlap,
            pair.status == _UNREVIEWED,
            or_(pair.assignee.is_(None), pair.assignee.in_(seeker.assignees)),
            ~_is_held(pair.id, seeker.annotator_id),
        )
        .order_by(place.until, place.pair_id)
        .limit(1)
        .with_for_update(skip_locked=True, of=place)
    )
    taken = (
        update(ClaimRow)
        .where(tuple_(ClaimRow.pair_id, ClaimRow.place) == first.scalar_subquery())
        .values(annotator_id=seeker.annotator_id, until=seeker.until)
        .returning(ClaimRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.scalar(taken)


def _planted(session: Session, seeker: Seeker) -> ClaimRow | None:
    wanted = (
        select(PairRow.id)
        .where(
            PairRow.tenant_id == seeker.tenant_id,
            PairRow.gold_response_id.is_not(None),
            or_(PairRow.assignee.is_(None), PairRow.assignee.in_(seeker.assignees)),
            ~_is_held(PairRow.id, seeker.annotator_id),
        )
        .order_by(PairRow.lottery)
        .limit(1)
        # A locked row is somebody's at this moment: take the next instead of waiting for it.
        .with_for_update(skip_locked=True)
    )
    pair_id = session.scalar(wanted)
    if pair_id is None:
        return None
    return _sit(session, pair_id, seeker, _beyond(session, pair_id, PLANTED))


def _last(session: Session, seeker: Seeker) -> ClaimRow | None:
    """Take a place at a pair that is open but was somebody's at that moment, waiting for its row.

    Each turn either gives a place or finds that others have taken it meanwhile.
    """
    if session.get_bind().dialect.name == "sqlite":
        return None  # One transaction writes at a time: nothing was passed over.
    choices = (*seeker.assignees, None)
    is_open = or_(*(_first(seeker, one, by_lot=False).exists() for one in choices))
    while session.scalar(select(is_open)):
        if (found := _open(session, seeker, by_lot=False, waits=True)) is not None:
            return found
    return None


def _open(
    session: Session, seeker: Seeker, *, by_lot: bool, waits: bool = False
) -> ClaimRow | None:
    """Take a place at an open pair: the person's own ones first, then those for everybody.

    One statement chooses and counts; whoever it gives a pair has that pair's row locked.
    """
    choices = (*seeker.assignees, None)
    firsts = (
        _first(seeker, one, by_lot=by_lot).with_for_update(skip_locked=not waits).scalar_subquery()
        for one in choices
    )
    policy = seeker.policy
    wanted = case(
        (PairRow.priority >= UNDECIDED, max(policy.overlap, policy.risky_overlap)),
        else_=policy.overlap,
    )
    taken = (
        update(PairRow)
        .where(PairRow.id == func.coalesce(*firsts))
        .values(
            taken=PairRow.taken + 1,
            # The same as `asked`.
            overlap=case((PairRow.overlap < wanted, wanted), else_=PairRow.overlap),
        )
        .returning(PairRow.id)
        .execution_options(synchronize_session=False)
    )
    pair_id = session.scalar(taken)
    if pair_id is None:
        return None
    place = _free_place(session, pair_id)
    return _sit(session, pair_id, seeker, place, is_random=by_lot)


def _first(seeker: Seeker, assignee: str | None, *, by_lot: bool) -> Select[str]:
    """The first pair that is open to the annotator; the conditions are those of an index."""
    pair = aliased(PairRow)
    order = (pair.lottery, pair.id) if by_lot else (pair.priority.desc(), pair.position)
    return (
        select(pair.id)
        .where(
            pair.tenant_id == seeker.tenant_id,
            pair.assignee.is_(None) if assignee is None else pair.assignee == assignee,
            pair.status == _UNREVIEWED,
            pair.taken < pair.overlap,
            pair.gold_response_id.is_(None),
            ~_is_held(pair.id, seeker.annotator_id),
        )
        .order_by(*order)
        .limit(1)
    )


def _is_held(pair_id: InstrumentedAttribute[str], annotator_id: str) -> ColumnElement[bool]:
    mine = aliased(ClaimRow)
    return (
        select(mine.place)
        .where(mine.pair_id == pair_id, mine.annotator_id == annotator_id)
        .exists()
    )


def _counted(pair_id: str) -> ColumnElement[bool]:
    return (ClaimRow.pair_id == pair_id) & (ClaimRow.place <= PLANTED)


def _free_place(session: Session, pair_id: str) -> int:
    """The lowest free place of a locked pair."""
    places = set(session.scalars(select(ClaimRow.place).where(_counted(pair_id))))
    return next(place for place in range(1, PLANTED + 1) if place not in places)


def _beyond(session: Session, pair_id: str, start: int) -> int:
    """The next place above `start` of a locked pair."""
    highest = select(func.max(ClaimRow.place)).where(
        ClaimRow.pair_id == pair_id, ClaimRow.place > start, ClaimRow.place <= start + 1_000
    )
    return (session.scalar(highest) or start) + 1


def _sit(
    session: Session, pair_id: str, seeker: Seeker, place: int, *, is_random: bool = False
) -> ClaimRow:
    seat = ClaimRow(
        pair_id=pair_id, place=place, tenant_id=seeker.tenant_id,
        annotator_id=seeker.annotator_id, until=seeker.until, review_id=None, is_random=is_random,
    )  # fmt: skip
    session.add(seat)
    session.flush()
    return seat
