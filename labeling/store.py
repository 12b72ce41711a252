"""Tables of the review desk: how a tenant reviews, who is in which group, who holds which card."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.db import Base


class PolicyRow(Base):
    """How a tenant reviews from one time on; the highest version holds."""

    __tablename__ = "review_policies"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    version: Mapped[int]
    overlap: Mapped[int]
    risky_overlap: Mapped[int]
    is_revealing: Mapped[bool]
    gold_every: Mapped[int]
    too_fast_ms: Mapped[int]
    guidelines: Mapped[dict[str, Any]]
    actor_id: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("tenant_id", "version"),)


class GroupRow(Base):
    """Who is in a group from one time on; the highest version holds, an empty one ends it."""

    __tablename__ = "review_groups"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    group_id: Mapped[str]
    version: Mapped[int]
    name: Mapped[str]
    members: Mapped[list[Any]]
    actor_id: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("group_id", "version"),)


class ClaimRow(Base):
    """One annotator's place at one pair: a card that is out, or the vote that came of it.

    `place` is 1 to the pair's overlap: the primary key lets no place be held twice, the other
    constraint lets nobody hold two places of one pair. Places of planted pairs begin at 1,001 and
    those of skips at 2,001. `until` is None once `review_id` names the vote or the skip.
    """

    __tablename__ = "pair_claims"

    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[str]
    annotator_id: Mapped[str]
    until: Mapped[datetime | None]
    review_id: Mapped[str | None]
    is_random: Mapped[bool]

    __table_args__ = (
        UniqueConstraint("pair_id", "annotator_id"),
        Index(None, "tenant_id", "annotator_id", "until", "place"),
        Index(None, "tenant_id", "until"),
    )


class DraftRow(Base):
    """An edit that an annotator has not saved yet; it outlives a lost lease and a closed window."""

    __tablename__ = "edit_drafts"

    annotator_id: Mapped[str] = mapped_column(primary_key=True)
    response_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"))
    text: Mapped[str]
    updated_at: Mapped[datetime]
