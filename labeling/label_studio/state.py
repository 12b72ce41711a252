"""Rows of the synchronisation as the rest of the program knows them, and the ways to find them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from labeling.label_studio.form import task_data
from labeling.label_studio.models import FormLanguage, Person, Project
from labeling.label_studio.store import PersonRow, ProjectRow, TaskRow
from services.db import Database, new_id
from services.errors import NotFound
from services.preferences import records
from services.preferences.models import Response, Turn
from services.preferences.store import PairRow, PromptRow, ResponseRow

HOLD = timedelta(minutes=5)
"""How long a synchronisation that gives no sign keeps others out; longer than any one request."""
CHUNK = 500


def project(row: ProjectRow) -> Project:
    """The record of a row."""
    return Project(
        id=row.id,
        tenant_id=row.tenant_id,
        server=row.server,
        title=row.title,
        is_blind=row.is_blind,
        language=cast(FormLanguage, row.language),
        remote_id=row.remote_id,
        hook_id=row.hook_id,
        hook_note=row.hook_note,
        synced_at=row.synced_at,
        created_at=row.created_at,
    )


def project_row(session: Session, tenant_id: str, project_id: str) -> ProjectRow:
    """A project's row.

    Raises:
        NotFound: The tenant has no such project.
    """
    row = session.get(ProjectRow, project_id)
    if row is None or row.tenant_id != tenant_id:
        raise NotFound(f"tenant {tenant_id} has no Label Studio project {project_id!r}")
    return row


def hold(db: Database, project_id: str, holder: str, now: datetime) -> bool:
    """Take, or keep, the right to synchronise a project; whether it was free or ours."""
    with db.write() as session:
        taken = (
            update(ProjectRow)
            .where(
                ProjectRow.id == project_id,
                or_(
                    ProjectRow.holder.is_(None),
                    ProjectRow.holder == holder,
                    ProjectRow.held_until < now,
                ),
            )
            .values(holder=holder, held_until=now + HOLD)
            .execution_options(synchronize_session=False)
        )
        return cast("CursorResult[Any]", session.execute(taken)).rowcount > 0


def let_go(db: Database, project_id: str, holder: str) -> None:
    """Give the right back."""
    with db.write() as session:
        session.execute(
            update(ProjectRow)
            .where(ProjectRow.id == project_id, ProjectRow.holder == holder)
            .values(holder=None, held_until=None)
            .execution_options(synchronize_session=False)
        )


def people(session: Session, tenant_id: str, server: str | None = None) -> list[Person]:
    """Who annotates over there, as it stands, by server and number."""
    newer = aliased(PersonRow)
    is_last = ~(
        select(newer.id)
        .where(
            newer.tenant_id == PersonRow.tenant_id,
            newer.server == PersonRow.server,
            newer.remote_id == PersonRow.remote_id,
            newer.version > PersonRow.version,
        )
        .exists()
    )
    wanted = select(PersonRow).where(PersonRow.tenant_id == tenant_id, is_last)
    if server is not None:
        wanted = wanted.where(PersonRow.server == server)
    rows = session.scalars(wanted.order_by(PersonRow.server, PersonRow.remote_id))
    return [Person(row.server, row.remote_id, row.label, row.annotator_id) for row in rows]


def add_person(
    session: Session,
    tenant_id: str,
    found: Person,
    *,
    actor_id: str,
    at: datetime,
) -> int:
    """Append who an account is from now on; the version."""
    newest = select(func.max(PersonRow.version)).where(
        PersonRow.tenant_id == tenant_id,
        PersonRow.server == found.server,
        PersonRow.remote_id == found.remote_id,
    )
    version = (session.scalar(newest) or 0) + 1
    session.add(
        PersonRow(
            id=new_id(),
            tenant_id=tenant_id,
            server=found.server,
            remote_id=found.remote_id,
            version=version,
            label=found.label,
            annotator_id=found.annotator_id,
            actor_id=actor_id,
            created_at=at,
        )  # fmt: skip
    )
    session.flush()
    return version


@dataclass(frozen=True)
class Texts:
    """What the tasks of some pairs show.

    Attributes:
        versions: All versions of both answers, by pair.
        turns: The prompt's turns, by pair.
    """

    versions: Mapping[str, Sequence[Response]]
    turns: Mapping[str, tuple[Turn, ...]]

    def data(self, task: TaskRow) -> dict[str, Any]:
        """The data of a task, the same at every time."""
        left, right = (
            self.response(task.pair_id, response_id)
            for response_id in (task.left_response_id, task.right_response_id)
        )
        return task_data(task.id, task.pair_id, self.turns[task.pair_id], left, right)

    def response(self, pair_id: str, response_id: str) -> Response:
        """One version of an answer of the pair."""
        return next(one for one in self.versions[pair_id] if one.id == response_id)

    def current(self, pair_id: str, response_id: str) -> Response:
        """The newest version of the same answer."""
        root = self.response(pair_id, response_id).root_id
        of_answer = (one for one in self.versions[pair_id] if one.root_id == root)
        return max(of_answer, key=lambda one: one.version)


def texts(session: Session, pair_ids: Collection[str]) -> Texts:
    """The texts of these pairs, all versions; at most `CHUNK` pairs."""
    versions: dict[str, list[Response]] = {}
    for row in session.scalars(select(ResponseRow).where(ResponseRow.pair_id.in_(pair_ids))):
        versions.setdefault(row.pair_id, []).append(records.response(row))
    prompts = session.execute(
        select(PairRow.id, PromptRow.turns)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(PairRow.id.in_(pair_ids))
    )
    turns = {
        row.id: tuple(Turn(turn["role"], turn["content"]) for turn in row.turns) for row in prompts
    }
    return Texts(versions, turns)
