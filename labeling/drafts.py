"""Edits that were not saved: they outlive a lost lease and a closed window."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from labeling.models import Draft
from labeling.store import DraftRow
from services.errors import InvalidInput
from services.preferences.models import Pair
from services.preferences.store import ResponseRow
from services.preferences.text import defect

MAX_EDIT = 100_000
"""Characters of an edited answer."""


def refuse(text: str) -> None:
    """Refuse a text that cannot be kept.

    Raises:
        InvalidInput: It is too long, or holds what a database cannot store.
    """
    if len(text) > MAX_EDIT:
        raise InvalidInput(
            f"text: expected at most {MAX_EDIT:,} characters, found {len(text):,}"
        ).because("too_long", field="answer", most=MAX_EDIT, found=len(text))
    if found := defect(text):
        raise InvalidInput(f"text: expected text that can be stored, found {found}").because(
            "not_storable", field="answer"
        )


def keep(
    session: Session, pair: Pair, response_id: str, text: str, *, annotator_id: str, at: datetime
) -> None:
    """Keep a text in place of the one that was kept for the response; an empty one drops it.

    Raises:
        InvalidInput: The pair has no such response.
    """
    if not is_of(session, pair, response_id):
        raise InvalidInput(f"pair {pair.id}: expected the id of a response of it, found another")
    drop(session, response_id, annotator_id)
    if text:
        session.add(
            DraftRow(
                annotator_id=annotator_id, response_id=response_id, tenant_id=pair.tenant_id,
                pair_id=pair.id, text=text, updated_at=at,
            )
        )  # fmt: skip


def is_of(session: Session, pair: Pair, response_id: str) -> bool:
    """Whether some version of an answer of the pair has this id."""
    known = select(ResponseRow.id).where(
        ResponseRow.id == response_id, ResponseRow.pair_id == pair.id
    )
    return session.scalar(known) is not None


def drop(session: Session, response_id: str, annotator_id: str) -> None:
    """Forget what the annotator kept for a response, whichever version it was."""
    root = select(ResponseRow.root_id).where(ResponseRow.id == response_id).scalar_subquery()
    versions = select(ResponseRow.id).where(ResponseRow.root_id == root)
    session.execute(
        delete(DraftRow)
        .where(DraftRow.annotator_id == annotator_id, DraftRow.response_id.in_(versions))
        .execution_options(synchronize_session=False)
    )


def of_pair(session: Session, pair: Pair, annotator_id: str) -> Mapping[str, str]:
    """What the annotator kept, by id of the current version of the response.

    A draft of a version that somebody has replaced since is offered with the new one.
    """
    wanted = (
        select(ResponseRow.root_id, DraftRow.text)
        .join(ResponseRow, ResponseRow.id == DraftRow.response_id)
        .where(DraftRow.annotator_id == annotator_id, DraftRow.pair_id == pair.id)
        .order_by(DraftRow.updated_at)
    )
    kept = {root_id: text for root_id, text in session.execute(wanted)}
    return {one.id: kept[one.root_id] for one in pair.responses if one.root_id in kept}


def of_annotator(session: Session, tenant_id: str, annotator_id: str) -> tuple[Draft, ...]:
    """All that the annotator kept, newest first."""
    wanted = select(DraftRow).where(
        DraftRow.annotator_id == annotator_id, DraftRow.tenant_id == tenant_id
    )
    rows = session.scalars(wanted.order_by(DraftRow.updated_at.desc()))
    return tuple(Draft(one.pair_id, one.response_id, one.text, one.updated_at) for one in rows)
