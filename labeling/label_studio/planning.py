"""Which pairs are to be tasks: chosen once, then kept in step with what happens to the pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from labeling.label_studio.models import Selection, TaskState
from labeling.label_studio.state import CHUNK
from labeling.label_studio.store import ProjectRow, TaskRow
from services.db import new_id
from services.preferences.models import PairStatus
from services.preferences.store import PairRow, ResponseRow

LIVE = (TaskState.PLANNED.value, TaskState.SENT.value)


def hand_over(session: Session, row: ProjectRow, selection: Selection, now: datetime) -> int:
    """Assign pairs to a project and plan their tasks; how many.

    Pairs that somebody has as a card, or that are assigned, are left where they are.
    """
    wanted = select(PairRow).where(
        PairRow.tenant_id == row.tenant_id,
        PairRow.status == PairStatus.UNREVIEWED.value,
        PairRow.assignee.is_(None),
        PairRow.taken == 0,
        PairRow.gold_response_id.is_(None),
    )
    if selection.source is not None:
        wanted = wanted.where(PairRow.source == selection.source)
    if selection.language is not None:
        wanted = wanted.where(PairRow.language == selection.language)
    if selection.pair_ids is not None:
        wanted = wanted.where(PairRow.id.in_(selection.pair_ids))
    ordered = wanted.order_by(PairRow.priority.desc(), PairRow.position).limit(selection.limit)
    # A row that somebody is claiming just now is theirs.
    pairs = session.scalars(ordered.with_for_update(skip_locked=True)).all()
    for pair in pairs:
        pair.assignee = f"label-studio:{row.id}"
    row.overlap = max([row.overlap, *(pair.overlap for pair in pairs)])
    session.flush()
    _plan(session, row, [pair.id for pair in pairs], now)
    return len(pairs)


def take_back(session: Session, row: ProjectRow) -> int:
    """Give the pairs on which nobody has voted yet back to the desk; how many."""
    mine = select(PairRow).where(*_ours(row), PairRow.taken == 0)
    pairs = session.scalars(mine.with_for_update()).all()
    for pair in pairs:
        pair.assignee = None
    return len(pairs)


def keep_in_step(session: Session, row: ProjectRow, now: datetime) -> tuple[int, int]:
    """Plan tasks for pairs that have none with their present texts; end those that are over.

    A task is over when its pair is decided, was taken back, or has another text by now.

    Returns:
        How many were planned, and how many are to be closed.
    """
    live = select(TaskRow.id).join(PairRow, PairRow.id == TaskRow.pair_id)
    over = or_(
        PairRow.assignee.is_(None),
        PairRow.assignee != f"label-studio:{row.id}",
        PairRow.status != PairStatus.UNREVIEWED.value,
        _is_old(TaskRow.left_response_id),
        _is_old(TaskRow.right_response_id),
    )
    ended = session.scalars(
        live.where(TaskRow.project_id == row.id, TaskRow.state.in_(LIVE), over)
    ).all()
    for ids in _chunks(ended):
        closing = update(TaskRow).where(TaskRow.id.in_(ids)).values(state=TaskState.CLOSING.value)
        session.execute(closing.execution_options(synchronize_session=False))
    task = aliased(TaskRow)
    has_task = (
        select(task.id)
        .where(task.project_id == row.id, task.pair_id == PairRow.id, task.state.in_(LIVE))
        .exists()
    )
    bare = session.scalars(select(PairRow.id).where(*_ours(row), ~has_task)).all()
    _plan(session, row, bare, now)
    return len(bare), len(ended)


def _ours(row: ProjectRow) -> tuple[ColumnElement[bool], ...]:
    return (
        PairRow.tenant_id == row.tenant_id,
        PairRow.assignee == f"label-studio:{row.id}",
        PairRow.status == PairStatus.UNREVIEWED.value,
    )


def _is_old(response_id: object) -> ColumnElement[bool]:
    """Whether a response has a newer version."""
    seen, newer = aliased(ResponseRow), aliased(ResponseRow)
    return (
        select(newer.id)
        .where(seen.id == response_id, newer.root_id == seen.root_id, newer.version > seen.version)
        .exists()
    )


def _plan(session: Session, row: ProjectRow, pair_ids: Collection[str], now: datetime) -> None:
    for ids in _chunks(pair_ids):
        newest = (
            select(ResponseRow.root_id, func.max(ResponseRow.version).label("version"))
            .where(ResponseRow.pair_id.in_(ids))
            .group_by(ResponseRow.root_id)
            .subquery()
        )
        rows = session.execute(
            select(ResponseRow.pair_id, ResponseRow.id)
            .join(
                newest,
                (newest.c.root_id == ResponseRow.root_id)
                & (newest.c.version == ResponseRow.version),
            )
            .order_by(ResponseRow.pair_id, ResponseRow.root_id)
        )
        answers: dict[str, list[str]] = {}
        for pair_id, response_id in rows:
            answers.setdefault(pair_id, []).append(response_id)
        session.add_all(_task(row, pair_id, answers[pair_id], now) for pair_id in ids)
        session.flush()


def _task(row: ProjectRow, pair_id: str, answers: Sequence[str], now: datetime) -> TaskRow:
    left, right = answers
    # One task is seen by several people: the sides come from the pair alone.
    if hashlib.sha256(f"param.label-studio.sides.v1|{pair_id}".encode()).digest()[0] & 1:
        left, right = right, left
    return TaskRow(
        id=new_id(), tenant_id=row.tenant_id, project_id=row.id, pair_id=pair_id,
        left_response_id=left, right_response_id=right, state=TaskState.PLANNED.value,
        has_prediction=False, remote_id=None, created_at=now,
    )  # fmt: skip


def _chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    every = list(ids)
    for start in range(0, len(every), CHUNK):
        yield every[start : start + CHUNK]
