"""Tables of preference pairs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    ForeignKey,
    Index,
    Table,
    UniqueConstraint,
    event,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.db import Base
from services.preferences import search
from services.preferences.models import Origin, PairStatus

_OPEN = text("status = 'unreviewed' AND taken < overlap AND gold_response_id IS NULL")
"""Pairs with a free place; written out, since SQLite compares the conditions word by word."""
_PLANTED = text("gold_response_id IS NOT NULL")
_EDITED = text("version > 1")


class ImportRow(Base):
    """One file that was taken in."""

    __tablename__ = "pair_imports"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    source: Mapped[str]
    format: Mapped[str]
    sha256: Mapped[str]
    read: Mapped[int]
    imported: Mapped[int]
    duplicates: Mapped[int]
    rejected: Mapped[int]
    actor_id: Mapped[str]
    created_at: Mapped[datetime]


class PromptRow(Base):
    """What is answered; the same normalised turns are one prompt.

    `folded` is the text that is searched; `split` binds the prompt to one part of every data set;
    a prompt of an evaluation set is in no data set at all.
    """

    __tablename__ = "prompts"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    key: Mapped[str]
    turns: Mapped[list[Any]]
    folded: Mapped[str]
    language: Mapped[str]
    split: Mapped[str | None]
    is_evaluation: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        Index(None, "tenant_id", "is_evaluation"),
    )


class PairRow(Base):
    """Two answers to one prompt.

    `position` is the order of arrival in the tenant. `status`, `chosen_response_id`,
    `rejected_response_id`, `mark` and `decisions` repeat the latest `DecisionRow` and change only
    together with a new one. `overlap` people vote on it; `taken` counts the claims on it, so that
    a pair is open while it is unreviewed and `taken < overlap`. The queue goes by `priority`, the
    highest first, and one card in ten by `lottery`, a number that means nothing.
    """

    __tablename__ = "pairs"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    position: Mapped[int]
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"), index=True)
    key: Mapped[str]
    import_id: Mapped[str | None] = mapped_column(ForeignKey("pair_imports.id"), index=True)
    source: Mapped[str]
    source_line: Mapped[int | None]
    language: Mapped[str]
    imported_preference: Mapped[str | None]
    extra: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]

    status: Mapped[str] = mapped_column(default=PairStatus.UNREVIEWED.value)
    chosen_response_id: Mapped[str | None]
    rejected_response_id: Mapped[str | None]
    mark: Mapped[str] = mapped_column(default="")
    decisions: Mapped[int] = mapped_column(default=0)

    overlap: Mapped[int] = mapped_column(default=1, server_default="1")
    taken: Mapped[int] = mapped_column(default=0, server_default="0")
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    lottery: Mapped[int] = mapped_column(default=0, server_default="0")
    assignee: Mapped[str | None]
    gold_response_id: Mapped[str | None]
    lints: Mapped[list[Any] | None]
    is_stale: Mapped[bool] = mapped_column(default=False, server_default=false())

    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        UniqueConstraint("tenant_id", "position"),
        Index(None, "tenant_id", "status", "position"),
        Index("ix_pairs_by_priority", "tenant_id", priority.desc(), "position"),
        # What the review queue hands out next, by priority and by lot, and what is planted.
        Index(
            "ix_pairs_open", "tenant_id", "assignee", priority.desc(), "position",
            sqlite_where=_OPEN, postgresql_where=_OPEN,
        ),
        Index(
            "ix_pairs_open_lottery", "tenant_id", "assignee", "lottery", "id",
            sqlite_where=_OPEN, postgresql_where=_OPEN,
        ),
        Index(
            "ix_pairs_planted", "tenant_id", "lottery",
            sqlite_where=_PLANTED, postgresql_where=_PLANTED,
        ),
    )  # fmt: skip


class ResponseRow(Base):
    """One version of one answer; the highest version of a root is the current one."""

    __tablename__ = "responses"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), index=True)
    root_id: Mapped[str]
    parent_id: Mapped[str | None]
    version: Mapped[int]
    text: Mapped[str]
    extra: Mapped[dict[str, Any] | None]
    author_id: Mapped[str | None]
    created_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("root_id", "version"),
        # Few answers are edited: who looks for them need not read the others.
        Index(
            "ix_responses_edited", "tenant_id", "pair_id",
            sqlite_where=_EDITED, postgresql_where=_EDITED,
        ),
    )  # fmt: skip


class ReviewRow(Base):
    """One action of an annotator: a vote, a skip, an edit, or taking one of them back."""

    __tablename__ = "pair_reviews"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), index=True)
    annotator_id: Mapped[str]
    number: Mapped[int]
    kind: Mapped[str]
    left_response_id: Mapped[str]
    right_response_id: Mapped[str]
    preferred_response_id: Mapped[str | None]
    strength: Mapped[int | None]
    note: Mapped[str]
    active_ms: Mapped[int | None]
    response_id: Mapped[str | None]
    undoes_id: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(default="", server_default="")
    flags: Mapped[list[Any] | None]
    ratings: Mapped[dict[str, Any] | None]
    # Not unique: a revision that was taken back may be followed by another one.
    revises_id: Mapped[str | None] = mapped_column(index=True)
    is_revealed: Mapped[bool] = mapped_column(default=False, server_default=false())
    is_random: Mapped[bool] = mapped_column(default=False, server_default=false())
    is_gold: Mapped[bool] = mapped_column(default=False, server_default=false())
    origin: Mapped[str] = mapped_column(default=Origin.DESK.value, server_default=Origin.DESK.value)

    __table_args__ = (UniqueConstraint("tenant_id", "annotator_id", "number"),)


class JudgmentRow(Base):
    """What an AI judge said of a pair, the answers in one order."""

    __tablename__ = "pair_judgments"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), index=True)
    first_response_id: Mapped[str]
    second_response_id: Mapped[str]
    preferred_response_id: Mapped[str | None]
    scores: Mapped[dict[str, Any]]
    reason: Mapped[str]
    judge: Mapped[str]
    revision: Mapped[str]
    created_at: Mapped[datetime]


class DecisionRow(Base):
    """What was decided about a pair; the highest number holds."""

    __tablename__ = "pair_decisions"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"))
    number: Mapped[int]
    verdict: Mapped[str]
    chosen_response_id: Mapped[str | None]
    rejected_response_id: Mapped[str | None]
    reason: Mapped[str]
    mark: Mapped[str]
    actor_id: Mapped[str]
    review_id: Mapped[str | None]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("pair_id", "number"),)


class DatasetRow(Base):
    """One frozen set of pairs; its files lie in a folder that is named by the digest."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    folder: Mapped[str]
    sha256: Mapped[str]
    n_train: Mapped[int]
    n_eval: Mapped[int]
    manifest: Mapped[dict[str, Any]]
    actor_id: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("tenant_id", "sha256"),)


def _table(mapped: type[Base]) -> Table:
    table = mapped.__table__
    assert isinstance(table, Table)
    return table


# For statements over many rows, which need no mapped objects.
PAIRS = _table(PairRow)
PROMPTS = _table(PromptRow)
RESPONSES = _table(ResponseRow)
DECISIONS = _table(DecisionRow)
JUDGMENTS = _table(JudgmentRow)


class ViewRow(Base):
    """What somebody looks at, under a name; the highest version holds, a removed one ends it."""

    __tablename__ = "pair_views"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    view_id: Mapped[str]
    version: Mapped[int]
    owner_id: Mapped[str]
    name: Mapped[str]
    filters: Mapped[dict[str, Any]]
    is_shared: Mapped[bool]
    is_removed: Mapped[bool]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("view_id", "version"),)


class BulkActionRow(Base):
    """One change of many pairs at once, or the undoing of one."""

    __tablename__ = "bulk_actions"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    kind: Mapped[str]
    value: Mapped[str | None]
    filters: Mapped[dict[str, Any] | None]
    changed: Mapped[int]
    reason: Mapped[str]
    undoes_id: Mapped[str | None] = mapped_column(unique=True)
    actor_id: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "created_at"),)


class BulkChangeRow(Base):
    """What a bulk action did to one pair: `before` and `after` of the one value that it sets.

    `decision` is the number of the decision that it made, or the latest one at the time.
    """

    __tablename__ = "bulk_changes"

    action_id: Mapped[str] = mapped_column(ForeignKey("bulk_actions.id"), primary_key=True)
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), primary_key=True, index=True)
    before: Mapped[str | None]
    after: Mapped[str | None]
    decision: Mapped[int]


BULK_CHANGES = _table(BulkChangeRow)


Base.metadata.info.setdefault("made_by_hand", set()).add(search.TABLES)


@event.listens_for(PAIRS, "after_create")
def _make_search(_table: Table, connection: Connection, **_options: Any) -> None:
    search.create(connection)
