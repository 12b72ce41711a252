"""What the AI says of many pairs at once, on the annotators' scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.preferences import records
from services.preferences.evidence import ai_verdict
from services.preferences.models import Judgment, Response
from services.preferences.store import JUDGMENTS, JudgmentRow, ResponseRow

CHUNK = 500


def ai_values(session: Session, tenant_id: str, pair_ids: Sequence[str]) -> dict[str, int]:
    """The AI's verdict on each of some pairs.

    Returns:
        By pair id, 0 to 6 from the current version with the lower id to the other; 3 is a tie.
        Pairs are absent where nothing judged them, where both orders contradict each other, and
        where the verdict is of an older text.
    """
    found: dict[str, int] = {}
    for start in range(0, len(pair_ids), CHUNK):
        found.update(_values(session, tenant_id, pair_ids[start : start + CHUNK]))
    return found


def _values(session: Session, tenant_id: str, pair_ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    judged = _judgments(session, tenant_id, pair_ids)
    for pair_id, versions in _responses(session, tenant_id, pair_ids).items():
        verdict = ai_verdict(versions, judged.get(pair_id, ()))
        if verdict is None or verdict.is_stale or verdict.is_consistent is False:
            continue
        current = {one.root_id: one.id for one in sorted(versions, key=attrgetter("version"))}
        sign = -1 if verdict.preferred_response_id == min(current.values()) else 1
        yield pair_id, 3 + sign * verdict.strength


def _judgments(
    session: Session, tenant_id: str, pair_ids: Sequence[str]
) -> dict[str, list[Judgment]]:
    wanted = select(JUDGMENTS).where(
        JudgmentRow.tenant_id == tenant_id, JudgmentRow.pair_id.in_(pair_ids)
    )
    found: dict[str, list[Judgment]] = {}
    for row in session.execute(wanted):
        found.setdefault(row.pair_id, []).append(records.judgment(row))
    return found


def _responses(
    session: Session, tenant_id: str, pair_ids: Sequence[str]
) -> dict[str, list[Response]]:
    """All versions of the answers, by pair, without their texts."""
    wanted = select(
        ResponseRow.pair_id, ResponseRow.id, ResponseRow.root_id, ResponseRow.version,
        ResponseRow.extra, ResponseRow.created_at,
    ).where(ResponseRow.tenant_id == tenant_id, ResponseRow.pair_id.in_(pair_ids))  # fmt: skip
    found: dict[str, list[Response]] = {}
    for row in session.execute(wanted):
        version = Response(
            id=row.id,
            root_id=row.root_id,
            parent_id=None,
            version=row.version,
            text="",
            author_id=None,
            created_at=row.created_at,
            extra=row.extra or {},
        )
        found.setdefault(row.pair_id, []).append(version)
    return found
