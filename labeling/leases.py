"""Whose card a pair is at present."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from services.preferences.models import PairStatus, ReviewKind
from services.preferences.store import PairRow, ReviewRow


def claim(
    session: Session, tenant_id: str, annotator_id: str, *, now: datetime, until: datetime
) -> str | None:
    """Give the annotator the card that is theirs, renewed, or else the first free one.

    It is one statement: two people who ask at once are never given the same pair. A lease that
    ran out stays with its holder until somebody else takes the pair.

    Returns:
        The pair's id; None where nothing is left.
    """
    unreviewed = (
        PairRow.tenant_id == tenant_id,
        PairRow.status == PairStatus.UNREVIEWED.value,
    )
    mine = select(PairRow.id).where(*unreviewed, PairRow.lease_holder == annotator_id)
    free = select(PairRow.id).where(
        *unreviewed,
        or_(PairRow.lease_until.is_(None), PairRow.lease_until < now),
        ~_skipped(annotator_id),
    )
    # A locked row is about to be somebody's: take the next one instead of waiting for it.
    first = free.order_by(PairRow.position).limit(1).with_for_update(skip_locked=True)
    own = mine.order_by(PairRow.position).limit(1).with_for_update()
    taken = (
        update(PairRow)
        .where(PairRow.id == func.coalesce(own.scalar_subquery(), first.scalar_subquery()))
        .values(lease_holder=annotator_id, lease_until=until)
        .returning(PairRow.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(taken)


def is_free(row: PairRow, annotator_id: str, now: datetime) -> bool:
    """Whether the pair can be given to the annotator: unreviewed, and nobody else's card."""
    if row.status != PairStatus.UNREVIEWED.value:
        return False
    return (
        row.lease_holder in {None, annotator_id} or row.lease_until is None or row.lease_until < now
    )


def release_others(session: Session, tenant_id: str, annotator_id: str, *, keep: str) -> None:
    """Put the annotator's other cards back into the queue."""
    session.execute(
        update(PairRow)
        .where(
            PairRow.tenant_id == tenant_id,
            PairRow.lease_holder == annotator_id,
            PairRow.id != keep,
        )
        .values(lease_holder=None, lease_until=None)
        .execution_options(synchronize_session=False)
    )


def _skipped(annotator_id: str) -> ColumnElement[bool]:
    """Whether the annotator skipped the pair and did not take that back."""
    undo = aliased(ReviewRow)
    undone = select(undo.id).where(undo.undoes_id == ReviewRow.id).exists()
    return (
        select(ReviewRow.id)
        .where(
            ReviewRow.pair_id == PairRow.id,
            ReviewRow.annotator_id == annotator_id,
            ReviewRow.kind == ReviewKind.SKIP.value,
            ~undone,
        )
        .correlate(PairRow)
        .exists()
    )
