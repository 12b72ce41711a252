"""Judgments that arrive after a pair did, and pairs that are made here instead of imported.

Both are written in a caller's transaction by whoever has admitted the actor. A judgment names the
versions that the judge saw: where an answer is edited later, it holds for the older text, and the
pair is stale until somebody judges the new one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, insert, select
from sqlalchemy.orm import Session

from services.db import new_id
from services.preferences import importing, queries, records
from services.preferences.drafts import Draft
from services.preferences.evidence import ai_verdict, priority
from services.preferences.models import Pair, Response
from services.preferences.store import JUDGMENTS, JudgmentRow, PairRow, ResponseRow
from services.preferences.text import pair_key, prompt_key, text_key


@dataclass(frozen=True)
class NewJudgment:
    """What a judge said, by response ids.

    Attributes:
        preferred_response_id: None for a tie.
        scores: By response id, by criterion, 0 to 10.
    """

    first_response_id: str
    second_response_id: str
    preferred_response_id: str | None
    scores: Mapping[str, Mapping[str, float]]
    reason: str
    judge: str
    revision: str


def to_judge(
    session: Session,
    tenant_id: str,
    *,
    is_stale: bool,
    source: str | None = None,
    after: int = -1,
    limit: int,
) -> list[tuple[int, Pair]]:
    """Pairs that wait for a judge, in order of arrival, with their place in it.

    Args:
        is_stale: Those whose answers were edited after they were judged; otherwise those that no
            judge has seen.
        source: Only those of this import.
        after: Only those that came later.
    """
    wanted = _waiting(tenant_id, is_stale=is_stale, source=source)
    found = queries.find(session, [*wanted, PairRow.position > after], limit=limit, offset=0)
    places = select(PairRow.id, PairRow.position).where(PairRow.id.in_([one.id for one in found]))
    place = {pair_id: position for pair_id, position in session.execute(places)}
    return [(place[pair.id], pair) for pair in found]


def count_to_judge(
    session: Session, tenant_id: str, *, is_stale: bool, source: str | None = None
) -> int:
    """How many pairs wait for a judge, counted as far as lists are."""
    wanted = _waiting(tenant_id, is_stale=is_stale, source=source)
    return queries.count(session, wanted, up_to=queries.COUNTED)


def _waiting(tenant_id: str, *, is_stale: bool, source: str | None) -> list[ColumnElement[bool]]:
    judged = select(JudgmentRow.pair_id).where(JudgmentRow.tenant_id == tenant_id)
    waits = PairRow.is_stale.is_(True) if is_stale else PairRow.id.not_in(judged)
    of_source = [PairRow.source == source] if source else []
    return [PairRow.tenant_id == tenant_id, waits, *of_source]


def key_of(turns: Any, one: str, other: str) -> str:
    """The `key` of a pair of these texts."""
    return pair_key(prompt_key(turns), text_key(one), text_key(other))


def add_pairs(
    session: Session,
    tenant_id: str,
    drafts: Sequence[Draft],
    *,
    source: str,
    format: str,
    actor_id: str,
    at: datetime,
    is_evaluation: bool,
) -> tuple[str, Mapping[str, str], Collection[str]]:
    """Write pairs that were made here; those that the tenant has already stay as they are.

    Returns:
        Id of the import, ids of the pairs by `key_of`, and the keys of those that were there.
    """
    queries.serialise(session, f"pairs|{tenant_id}")
    counts, rows = importing.checked(drafts)
    keys = [key_of(one.turns, one.answers[0].text, one.answers[1].text) for one in drafts]
    before = _ids(session, tenant_id, keys)
    digest = sha256(b"\n".join(rows)).hexdigest()
    parsed = importing.Parsed(format, digest, rows, counts)
    writer = importing.Writer(session, tenant_id, source, actor_id, at, is_evaluation)
    import_id = writer.write(parsed)
    return import_id, _ids(session, tenant_id, keys), before.keys()


def _ids(session: Session, tenant_id: str, keys: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(keys), queries.CHUNK):
        chunk = keys[start : start + queries.CHUNK]
        wanted = select(PairRow.key, PairRow.id).where(
            PairRow.tenant_id == tenant_id, PairRow.key.in_(chunk)
        )
        found |= {key: pair_id for key, pair_id in session.execute(wanted)}
    return found


def versions_of(session: Session, pair_id: str) -> list[Response]:
    """All versions of both answers of a pair, oldest first."""
    wanted = select(ResponseRow).where(ResponseRow.pair_id == pair_id)
    return [records.response(row) for row in session.scalars(wanted.order_by(ResponseRow.version))]


def add_judgments(
    session: Session,
    tenant_id: str,
    pair_id: str,
    judgments: Sequence[NewJudgment],
    *,
    at: datetime,
) -> None:
    """Append what a judge said of a pair, and let its place in the queue follow.

    A judgment that is there word for word stays one.

    Raises:
        NotFound: The tenant has no such pair.
    """
    row = queries.locked(session, tenant_id, pair_id)
    of_pair = select(JudgmentRow).where(JudgmentRow.pair_id == pair_id)
    there = {
        (one.first_response_id, one.second_response_id, one.judge, one.revision, one.reason)
        for one in session.scalars(of_pair)
    }
    fresh = [
        one
        for one in judgments
        if (one.first_response_id, one.second_response_id, one.judge, one.revision, one.reason)
        not in there
    ]
    if fresh:
        session.execute(
            insert(JUDGMENTS),
            [
                {
                    "id": new_id(),
                    "tenant_id": tenant_id,
                    "pair_id": pair_id,
                    "first_response_id": one.first_response_id,
                    "second_response_id": one.second_response_id,
                    "preferred_response_id": one.preferred_response_id,
                    "scores": {name: dict(given) for name, given in one.scores.items()},
                    "reason": one.reason,
                    "judge": one.judge,
                    "revision": one.revision,
                    "created_at": at,
                }
                for one in fresh
            ],
        )
    said = [records.judgment(one) for one in session.scalars(of_pair)]
    verdict = ai_verdict(versions_of(session, pair_id), said)
    row.priority = priority(verdict=verdict, lints=row.lints or ())
    row.is_stale = verdict is not None and verdict.is_stale
