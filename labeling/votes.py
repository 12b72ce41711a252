"""Which votes count: the one place that says so.

A vote is current while both answers that it saw are the current versions of the pair's answers,
it was not taken back, and no standing vote revises it. Everything else is history. A blind vote
is one that was cast before its annotator saw the AI's verdict; it stays what it was when the
annotator revises it afterwards, which is why agreement is measured on blind votes.

All rules are conditions on rows, so that they cost one statement however many pairs there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session, aliased

from services.preferences import records
from services.preferences.models import Review, ReviewKind
from services.preferences.store import ResponseRow, ReviewRow

CHUNK = 500


class Basis(StrEnum):
    """Which of an annotator's votes on a pair is meant."""

    CURRENT = "current"
    """The last word, whether or not the AI's verdict had been seen."""
    BLIND = "blind"
    """What the annotator said before the AI's verdict was revealed."""


def counted(tenant_id: str, basis: Basis = Basis.CURRENT) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `ReviewRow`: the tenant's votes that count, those on planted pairs included.

    Planted pairs measure the annotator and decide nothing: a caller who decides, or who measures
    agreement, leaves out `ReviewRow.is_gold`.
    """
    common = (
        ReviewRow.tenant_id == tenant_id,
        ReviewRow.kind == ReviewKind.VOTE.value,
        ~_undone(ReviewRow),
        ~_superseded(ReviewRow.left_response_id),
        ~_superseded(ReviewRow.right_response_id),
    )
    if basis is Basis.BLIND:
        return (*common, ReviewRow.is_revealed.is_(False))
    return (*common, ~_revised())


def standing() -> tuple[ColumnElement[bool], ...]:
    """Conditions on `ReviewRow`: actions of any kind that were not taken back."""
    return (ReviewRow.kind != ReviewKind.UNDO.value, ~_undone(ReviewRow))


def revised_by(revision: Any) -> ColumnElement[bool]:
    """Whether a row (an alias of `ReviewRow`) is the standing revision of a `ReviewRow`."""
    return and_(revision.revises_id == ReviewRow.id, ~_undone(revision))


def current(
    session: Session,
    tenant_id: str,
    pair_ids: Collection[str] | None = None,
    *,
    basis: Basis = Basis.CURRENT,
) -> list[Review]:
    """The votes that count, one a pair and annotator, in the order in which they were cast.

    Args:
        pair_ids: Only on these pairs; None for all pairs of the tenant.
    """
    found: list[Review] = []
    for of_pairs in _chunks(pair_ids):
        wanted = select(*_COLUMNS).where(*counted(tenant_id, basis), *of_pairs)
        found += (records.review(row) for row in session.execute(wanted))
    return latest_of_each(found)


def latest_of_each(votes: Iterable[Review]) -> list[Review]:
    """Of several votes of one annotator on one pair only the last, in the order of casting.

    A pair that is put back into the queue may be voted on again by the same person.
    """
    last: dict[tuple[str, str], Review] = {}
    for vote in votes:
        known = last.get((vote.pair_id, vote.annotator_id))
        if known is None or known.number < vote.number:
            last[vote.pair_id, vote.annotator_id] = vote
    return sorted(last.values(), key=lambda vote: (vote.created_at, vote.number, vote.id))


def _undone(row: Any) -> ColumnElement[bool]:
    undo = aliased(ReviewRow)
    return select(undo.id).where(undo.undoes_id == row.id).exists()


def _revised() -> ColumnElement[bool]:
    revision = aliased(ReviewRow)
    return select(revision.id).where(revised_by(revision)).exists()


def _superseded(response_id: Any) -> ColumnElement[bool]:
    """Whether a newer version of the answer exists; both steps go by a unique index."""
    seen, newer = aliased(ResponseRow), aliased(ResponseRow)
    return (
        select(newer.id)
        .join(seen, and_(newer.root_id == seen.root_id, newer.version == seen.version + 1))
        .where(seen.id == response_id)
        .exists()
    )


def _chunks(pair_ids: Collection[str] | None) -> Iterable[tuple[ColumnElement[bool], ...]]:
    if pair_ids is None:
        yield ()
        return
    ids = list(dict.fromkeys(pair_ids))
    for start in range(0, len(ids), CHUNK):
        yield (ReviewRow.pair_id.in_(ids[start : start + CHUNK]),)


# Columns instead of mapped objects: this reads a hundred thousand rows and changes none.
_COLUMNS = tuple(ReviewRow.__table__.columns)
