"""Reading and writing pairs in a caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from services.db import new_id
from services.db.locks import serialise as serialise
from services.errors import NotFound
from services.preferences import records, search
from services.preferences.filters import Sort
from services.preferences.models import (
    Decision,
    History,
    Pair,
    PairStatus,
    Prompt,
    Response,
    Turn,
)
from services.preferences.store import (
    DECISIONS,
    PAIRS,
    PROMPTS,
    RESPONSES,
    DecisionRow,
    JudgmentRow,
    PairRow,
    PromptRow,
    ResponseRow,
    ReviewRow,
)

CHUNK = 500
"""Rows a query; SQLite takes 32,766 parameters, the planner is quicker with few."""
COUNTED = 10_000
"""Pairs that a list counts and turns through."""


def find(
    session: Session,
    conditions: Sequence[ColumnElement[bool]],
    *,
    limit: int,
    offset: int,
    sort: Sort = Sort.ARRIVAL,
) -> list[Pair]:
    """Pairs that match, in order."""
    wanted = _PAIRS.where(*conditions).order_by(*_ORDERS[sort])
    return [one.pair for one in _assemble(session, wanted.limit(limit).offset(offset))]


_ORDERS: Mapping[Sort, tuple[Any, ...]] = {
    Sort.ARRIVAL: (PairRow.position,),
    Sort.NEWEST: (PairRow.position.desc(),),
    Sort.PRIORITY: (PairRow.priority.desc(), PairRow.position),
}


def count(
    session: Session, conditions: Sequence[ColumnElement[bool]], *, up_to: int | None = None
) -> int:
    """How many pairs match.

    Args:
        up_to: Count no further: nobody turns a thousand pages.
    """
    if up_to is None:
        return session.scalar(select(func.count()).select_from(PairRow).where(*conditions)) or 0
    some = select(PairRow.position).where(*conditions).limit(up_to).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def get(session: Session, tenant_id: str, pair_id: str) -> Pair:
    """One pair.

    Raises:
        NotFound: The tenant has no such pair.
    """
    wanted = [PairRow.tenant_id == tenant_id, PairRow.id == pair_id]
    for pair in find(session, wanted, limit=1, offset=0):
        return pair
    raise NotFound(f"tenant {tenant_id} has no pair {pair_id!r}").because("no_such_pair")


def locked(session: Session, tenant_id: str, pair_id: str) -> PairRow:
    """The row of one pair, which nobody else can change until the transaction ends.

    Raises:
        NotFound: The tenant has no such pair.
    """
    wanted = select(PairRow).where(PairRow.tenant_id == tenant_id, PairRow.id == pair_id)
    row = session.scalar(wanted.with_for_update().execution_options(populate_existing=True))
    if row is None:
        raise NotFound(f"tenant {tenant_id} has no pair {pair_id!r}").because("no_such_pair")
    return row


def lock_unreviewed(session: Session, tenant_id: str) -> None:
    """Let nobody else change the tenant's unreviewed pairs until the transaction ends.

    SQLite's write transactions do so already.
    """
    if session.get_bind().dialect.name == "postgresql":
        wanted = select(PairRow.id).where(
            PairRow.tenant_id == tenant_id, PairRow.status == PairStatus.UNREVIEWED.value
        )
        session.execute(wanted.order_by(PairRow.position).with_for_update())


def steady(session: Session) -> None:
    """Let everything that this transaction reads come from one state; call it first.

    SQLite always does that; PostgreSQL must be asked.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


@dataclass(frozen=True)
class Stored:
    """A pair with what its rows say beyond it.

    Attributes:
        position: Order of arrival in the tenant.
        prompt_key: The same for the same normalised prompt.
        split: Part of every data set to which the prompt is bound, if any.
        mark: That of the latest decision.
        decisions: How many there are.
    """

    pair: Pair
    position: int
    prompt_key: str
    split: str | None
    mark: str
    decisions: int


def every(
    session: Session, tenant_id: str, *, status: PairStatus | None = None
) -> Iterator[list[Stored]]:
    """All pairs of a tenant in order of arrival, a chunk at a time."""
    wanted = _PAIRS.where(PairRow.tenant_id == tenant_id)
    if status is not None:
        wanted = wanted.where(PairRow.status == status.value)
    after = -1
    while True:
        following = wanted.where(PairRow.position > after).order_by(PairRow.position)
        chunk = _assemble(session, following.limit(CHUNK))
        if not chunk:
            return
        yield chunk
        after = chunk[-1].position


def history(session: Session, pair_id: str) -> History:
    """Everything that happened to one pair, oldest first."""
    versions = session.scalars(
        select(ResponseRow)
        .where(ResponseRow.pair_id == pair_id)
        .order_by(ResponseRow.created_at, ResponseRow.version)
    )
    reviews = session.scalars(
        select(ReviewRow)
        .where(ReviewRow.pair_id == pair_id)
        .order_by(ReviewRow.created_at, ReviewRow.number)
    )
    decisions = session.scalars(
        select(DecisionRow).where(DecisionRow.pair_id == pair_id).order_by(DecisionRow.number)
    )
    judgments = session.scalars(
        select(JudgmentRow)
        .where(JudgmentRow.pair_id == pair_id)
        .order_by(JudgmentRow.created_at, JudgmentRow.id)
    )
    return History(
        versions=tuple(records.response(row) for row in versions),
        reviews=tuple(records.review(row) for row in reviews),
        decisions=tuple(records.decision(row) for row in decisions),
        judgments=tuple(records.judgment(row) for row in judgments),
    )


def decide(
    session: Session,
    row: PairRow,
    verdict: PairStatus,
    *,
    chosen_id: str | None,
    rejected_id: str | None,
    actor_id: str,
    at: datetime,
    reason: str = "",
    mark: str = "",
    review_id: str | None = None,
) -> Decision:
    """Append a decision and make the pair's columns say the same."""
    entry = DecisionRow(
        id=new_id(),
        tenant_id=row.tenant_id,
        pair_id=row.id,
        number=row.decisions + 1,
        verdict=verdict.value,
        chosen_response_id=chosen_id,
        rejected_response_id=rejected_id,
        reason=reason,
        mark=mark,
        actor_id=actor_id,
        review_id=review_id,
        created_at=at,
    )
    session.add(entry)
    row.decisions = entry.number
    row.status, row.mark = entry.verdict, mark
    row.chosen_response_id, row.rejected_response_id = chosen_id, rejected_id
    return records.decision(entry)


def approve_many(
    session: Session,
    chosen: Sequence[tuple[Stored, str, str]],
    *,
    actor_id: str,
    at: datetime,
    reason: str,
    mark: str,
) -> None:
    """Append an approval to each of some unreviewed pairs that nobody else can change now.

    Args:
        chosen: Each pair with the ids of its chosen and its rejected response.
    """
    if not chosen:
        return
    decided = [
        {
            "verdict": PairStatus.APPROVED.value,
            "reason": reason,
            "mark": mark,
            "actor_id": actor_id,
            "review_id": None,
            "id": new_id(),
            "tenant_id": one.pair.tenant_id,
            "pair_id": one.pair.id,
            "number": one.decisions + 1,
            "chosen_response_id": chosen_id,
            "rejected_response_id": rejected_id,
            "created_at": at,
        }
        for one, chosen_id, rejected_id in chosen
    ]
    session.execute(insert(DECISIONS), decided)
    session.connection().execute(
        _APPROVE,
        [
            {
                "pair": row["pair_id"],
                "number": row["number"],
                "chosen": row["chosen_response_id"],
                "rejected": row["rejected_response_id"],
                "marked": mark,
            }
            for row in decided
        ],
    )


_APPROVE = (
    update(PAIRS)
    .where(PAIRS.c.id == bindparam("pair"))
    .values(
        status=PairStatus.APPROVED.value,
        mark=bindparam("marked"),
        decisions=bindparam("number"),
        chosen_response_id=bindparam("chosen"),
        rejected_response_id=bindparam("rejected"),
    )
)


def add_version(
    session: Session, current: Response, pair: Pair, new_text: str, *, author_id: str, at: datetime
) -> Response:
    """Append a version to an answer; the scores of the older text do not hold for it."""
    row = ResponseRow(
        id=new_id(),
        tenant_id=pair.tenant_id,
        pair_id=pair.id,
        root_id=current.root_id,
        parent_id=current.id,
        version=current.version + 1,
        text=new_text,
        extra=None,
        author_id=author_id,
        created_at=at,
    )
    _search_again(session, pair, row)
    session.add(row)
    return records.response(row)


def _search_again(session: Session, pair: Pair, new: ResponseRow) -> None:
    """Let the search find the text of a version that is about to be written, not its elder's."""
    wanted = select(PairRow.position, PromptRow.folded).join(PromptRow).where(PairRow.id == pair.id)
    position, asked = session.execute(wanted).one()
    versions = select(ResponseRow.root_id, ResponseRow.text).where(ResponseRow.pair_id == pair.id)
    current = {root: found for root, found in session.execute(versions.order_by("version"))}
    before = search.words((asked, *current.values()))
    after = search.words((asked, *(current | {new.root_id: new.text}).values()))
    search.change(
        session.connection(), pair.tenant_id, pair.id, position, before=before, after=after
    )


# Columns instead of mapped objects: lists and data sets read many rows and change none.
_PAIRS = select(PAIRS)
_PROMPTS = select(PROMPTS)
_RESPONSES = select(RESPONSES)


def _assemble(session: Session, wanted: Select[Any]) -> list[Stored]:
    """The chosen pairs, at most a few thousand, with their prompts and current responses."""
    rows = session.execute(wanted).all()
    current: dict[str, dict[str, Response]] = {row.id: {} for row in rows}
    prompts: dict[str, Any] = {}
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        of_pairs = _RESPONSES.where(ResponseRow.pair_id.in_([row.id for row in chunk]))
        # A higher version comes later and takes the place of its elder.
        for version in session.execute(of_pairs.order_by(ResponseRow.version)):
            current[version.pair_id][version.root_id] = records.response(version)
        named = _PROMPTS.where(PromptRow.id.in_({row.prompt_id for row in chunk}))
        prompts.update({prompt.id: prompt for prompt in session.execute(named)})
    return [_stored(row, prompts[row.prompt_id], current[row.id]) for row in rows]


def _stored(row: Any, prompt: Any, current: dict[str, Response]) -> Stored:
    first, second = (current[root] for root in sorted(current))
    turns = tuple(Turn(turn["role"], turn["content"]) for turn in prompt.turns)
    pair = Pair(
        id=row.id,
        tenant_id=row.tenant_id,
        prompt=Prompt(id=prompt.id, turns=turns, language=prompt.language),
        responses=(first, second),
        imported_preference=row.imported_preference,
        chosen_response_id=row.chosen_response_id,
        source=row.source,
        source_line=row.source_line,
        language=row.language,
        status=PairStatus(row.status),
        extra=row.extra or {},
        created_at=row.created_at,
        lints=tuple(row.lints or ()),
        is_evaluation=prompt.is_evaluation,
        is_stale=row.is_stale,
        overlap=row.overlap,
        assignee=row.assignee,
        gold_response_id=row.gold_response_id,
    )
    return Stored(pair, row.position, prompt.key, prompt.split, row.mark, row.decisions)
