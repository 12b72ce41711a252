"""Rows as the records that the rest of the program knows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from services.preferences.models import (
    Decision,
    Judgment,
    Origin,
    PairStatus,
    Response,
    Review,
    ReviewKind,
)
from services.preferences.store import DecisionRow, JudgmentRow, ResponseRow, ReviewRow


def response(row: ResponseRow | Row[Any]) -> Response:
    """The record of a row, or of its columns."""
    return Response(
        id=row.id,
        root_id=row.root_id,
        parent_id=row.parent_id,
        version=row.version,
        text=row.text,
        author_id=row.author_id,
        created_at=row.created_at,
        extra=row.extra or {},
    )


def review(row: ReviewRow | Row[Any]) -> Review:
    """The record of a row."""
    return Review(
        id=row.id,
        pair_id=row.pair_id,
        annotator_id=row.annotator_id,
        number=row.number,
        kind=ReviewKind(row.kind),
        left_response_id=row.left_response_id,
        right_response_id=row.right_response_id,
        preferred_response_id=row.preferred_response_id,
        strength=row.strength,
        note=row.note,
        active_ms=row.active_ms,
        response_id=row.response_id,
        undoes_id=row.undoes_id,
        created_at=row.created_at,
        reason=row.reason,
        flags=tuple(row.flags or ()),
        ratings=row.ratings or {},
        revises_id=row.revises_id,
        is_revealed=row.is_revealed,
        is_random=row.is_random,
        is_gold=row.is_gold,
        origin=Origin(row.origin),
    )


def judgment(row: JudgmentRow | Row[Any]) -> Judgment:
    """The record of a row, or of its columns."""
    return Judgment(
        id=row.id,
        pair_id=row.pair_id,
        first_response_id=row.first_response_id,
        second_response_id=row.second_response_id,
        preferred_response_id=row.preferred_response_id,
        scores=row.scores,
        reason=row.reason,
        judge=row.judge,
        revision=row.revision,
        created_at=row.created_at,
    )


def decision(row: DecisionRow) -> Decision:
    """The record of a row."""
    return Decision(
        id=row.id,
        number=row.number,
        verdict=PairStatus(row.verdict),
        chosen_response_id=row.chosen_response_id,
        rejected_response_id=row.rejected_response_id,
        reason=row.reason,
        mark=row.mark,
        actor_id=row.actor_id,
        review_id=row.review_id,
        created_at=row.created_at,
    )
