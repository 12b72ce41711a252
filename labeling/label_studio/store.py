"""Tables of the Label Studio synchronisation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.db import Base


class ProjectRow(Base):
    """One project over there.

    `id` stands in the project's description there: that is how one whose answer was lost is found
    again. `cursor` is the server's time up to which its annotations were looked at, `asked_at` when the schedule asked for the last synchronisation. `holder` is
    the synchronisation that runs, until `held_until` at the latest.
    """

    __tablename__ = "label_studio_projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    server: Mapped[str]
    title: Mapped[str]
    is_blind: Mapped[bool]
    language: Mapped[str]
    overlap: Mapped[int]
    remote_id: Mapped[int | None]
    hook_id: Mapped[int | None]
    hook_note: Mapped[str]
    cursor: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    synced_at: Mapped[datetime | None]
    asked_at: Mapped[datetime | None]
    holder: Mapped[str | None]
    held_until: Mapped[datetime | None]
    actor_id: Mapped[str]
    created_at: Mapped[datetime]


class TaskRow(Base):
    """One pair with exactly these two texts as a task over there.

    A task never changes: after an edit the pair gets another one. `id` stands in the task's data
    and names it on both sides. The texts are those of the two versions, which never change either.
    """

    __tablename__ = "label_studio_tasks"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    project_id: Mapped[str] = mapped_column(ForeignKey("label_studio_projects.id"))
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), index=True)
    left_response_id: Mapped[str]
    right_response_id: Mapped[str]
    state: Mapped[str]
    has_prediction: Mapped[bool]
    remote_id: Mapped[int | None]
    created_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("project_id", "remote_id"),
        Index(None, "project_id", "state"),
    )


class PersonRow(Base):
    """Who an account over there is here, from one time on; the highest version holds."""

    __tablename__ = "label_studio_people"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    server: Mapped[str]
    remote_id: Mapped[int]
    version: Mapped[int]
    label: Mapped[str]
    annotator_id: Mapped[str | None]
    actor_id: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("tenant_id", "server", "remote_id", "version"),)


class AnnotationRow(Base):
    """One annotation as it stood at one time, and what became of it; the highest number holds.

    Written in the same transaction as the vote, and unique: that is why no annotation becomes two
    votes, whatever dies when. `answer` keeps what it said where it could not become a vote.
    """

    __tablename__ = "label_studio_annotations"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    project_id: Mapped[str] = mapped_column(ForeignKey("label_studio_projects.id"))
    task_id: Mapped[str] = mapped_column(ForeignKey("label_studio_tasks.id"), index=True)
    annotation_id: Mapped[int]
    number: Mapped[int]
    digest: Mapped[str]
    changed_at: Mapped[datetime]
    remote_user: Mapped[int]
    outcome: Mapped[str]
    reason: Mapped[str]
    review_id: Mapped[str | None]
    answer: Mapped[dict[str, Any] | None]
    seen_at: Mapped[datetime]
    is_current: Mapped[bool]
    is_gone: Mapped[bool]

    __table_args__ = (
        UniqueConstraint("project_id", "annotation_id", "number"),
        Index(None, "project_id", "outcome"),
    )
