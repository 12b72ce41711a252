"""Tables of preference pairs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Table, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.db import Base
from services.preferences.models import PairStatus


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

    `folded` is the text that is searched; `split` binds the prompt to one part of every data set.
    """

    __tablename__ = "prompts"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    key: Mapped[str]
    turns: Mapped[list[Any]]
    folded: Mapped[str]
    language: Mapped[str]
    split: Mapped[str | None]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("tenant_id", "key"),)


class PairRow(Base):
    """Two answers to one prompt.

    `position` is the order of arrival in the tenant. `status`, `chosen_response_id`,
    `rejected_response_id`, `mark` and `decisions` repeat the latest `DecisionRow` and change only
    together with a new one. The lease says whose card the pair is at present.
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

    lease_holder: Mapped[str | None]
    lease_until: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        UniqueConstraint("tenant_id", "position"),
        Index(None, "tenant_id", "status", "position"),
        Index(None, "tenant_id", "lease_holder"),
    )


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

    __table_args__ = (UniqueConstraint("root_id", "version"),)


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

    __table_args__ = (UniqueConstraint("tenant_id", "annotator_id", "number"),)


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
