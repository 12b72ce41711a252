"""What each kind of bulk action sets, on which pairs, and how that is taken back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from services.db import new_id
from services.errors import InvalidInput
from services.preferences.filters import Filters, conditions
from services.preferences.models import PairStatus
from services.preferences.queries import CHUNK
from services.preferences.store import (
    DECISIONS,
    PAIRS,
    PROMPTS,
    DecisionRow,
    PairRow,
    PromptRow,
    ResponseRow,
    ReviewRow,
)

MAX_OVERLAP = 9
MARK = "bulk"
"""On approvals of pairs at which nobody looked one by one."""
OUTSIDE = "label-studio:"
"""How the assignee of a pair begins that another program hands out."""
_ASSIGNEE = re.compile(r"(user|group):\S{1,100}")
_UNDECIDED = (PairStatus.UNREVIEWED.value, PairStatus.DISPUTED.value)


class Kind(StrEnum):
    """What can be done to many pairs; see the table in `bulk`."""

    APPROVE = "approve"
    REJECT = "reject"
    REOPEN = "reopen"
    ASSIGN = "assign"
    OVERLAP = "overlap"
    PLANT = "plant"
    UNPLANT = "unplant"
    EVALUATION = "evaluation"
    TRAINING = "training"


_VERDICTS = {
    Kind.APPROVE: PairStatus.APPROVED,
    Kind.REJECT: PairStatus.REJECTED,
    Kind.REOPEN: PairStatus.UNREVIEWED,
}
_COLUMNS = {
    Kind.ASSIGN: "assignee",
    Kind.OVERLAP: "overlap",
    Kind.PLANT: "gold_response_id",
    Kind.UNPLANT: "gold_response_id",
}
"""The column that a kind sets, where it makes no decision."""


@dataclass(frozen=True)
class Change:
    """One pair and the value that is set; `decision` is the pair's latest one thereafter."""

    pair_id: str
    before: str | None
    after: str | None
    decision: int


def checked(kind: Kind, value: str | None) -> str | None:
    """The value of a kind.

    Raises:
        InvalidInput: The kind takes none, or another one.
    """
    if kind is Kind.OVERLAP:
        if value is None or not value.isdecimal() or not 1 <= int(value) <= MAX_OVERLAP:
            raise InvalidInput(f"overlap: expected 1 to {MAX_OVERLAP}, found {value!r}").because(
                "range", field="overlap", low=1, high=MAX_OVERLAP, found=value
            )
        return str(int(value))
    if kind is Kind.ASSIGN:
        if value is not None and not _ASSIGNEE.fullmatch(value):
            raise InvalidInput(f"assignee: expected user:ID or group:ID, found {value[:120]!r}")
        return value
    if value is not None:
        raise InvalidInput(f"{kind.value}: expected no value, found {value[:120]!r}")
    return None


def counts(
    session: Session, tenant_id: str, kind: Kind, filters: Filters, value: str | None
) -> tuple[int, int]:
    """How many pairs are meant, and how many of them the kind would change."""
    meant = conditions(session, tenant_id, filters)
    matched = select(func.count()).select_from(PairRow).where(*meant)
    changed = select(func.count()).select_from(PairRow).join(PromptRow)
    wanted = _wanted(kind, meant, value)
    return session.scalar(matched) or 0, session.scalar(changed.where(*wanted)) or 0


def _wanted(
    kind: Kind, meant: Sequence[ColumnElement[bool]], value: str | None
) -> list[ColumnElement[bool]]:
    """Conditions on pairs joined with their prompts."""
    if kind in {Kind.EVALUATION, Kind.TRAINING}:
        # What a prompt is for holds for all of its pairs, meant or not.
        prompts = select(PairRow.prompt_id).where(*meant)
        here = PromptRow.is_evaluation.is_(kind is Kind.TRAINING)
        return [PromptRow.id.in_(prompts), here]
    return [*meant, *_eligible(kind, value)]


def _eligible(kind: Kind, value: str | None) -> list[ColumnElement[bool]]:
    if kind is Kind.APPROVE:
        return [PairRow.status.in_(_UNDECIDED), PairRow.imported_preference.is_not(None)]
    if kind is Kind.REJECT:
        return [PairRow.status != PairStatus.REJECTED.value]
    if kind is Kind.REOPEN:
        return [PairRow.status != PairStatus.UNREVIEWED.value]
    if kind is Kind.ASSIGN:
        ours = or_(PairRow.assignee.is_(None), ~PairRow.assignee.startswith(OUTSIDE))
        new = PairRow.assignee.is_distinct_from(value)
        return [PairRow.status.in_(_UNDECIDED), ours, new]
    if kind is Kind.OVERLAP:
        # Fewer people only where nobody has begun: places beyond the new number may be held.
        number = int(value or 1)
        fits = or_(PairRow.overlap < number, and_(PairRow.taken == 0, PairRow.overlap != number))
        return [PairRow.status == PairStatus.UNREVIEWED.value, fits]
    if kind is Kind.PLANT:
        approved = PairRow.status == PairStatus.APPROVED.value
        return [approved, PairRow.gold_response_id.is_(None)]
    return [PairRow.gold_response_id.is_not(None)]


class Writer:
    """Writes the changes of one action in a caller's transaction.

    Args:
        at: Time of the action.
        reason: Kept with each decision.
    """

    def __init__(
        self, session: Session, tenant_id: str, actor_id: str, at: datetime, reason: str
    ) -> None:
        self._session, self._tenant_id = session, tenant_id
        self._actor_id, self._at, self._reason = actor_id, at, reason

    def run(self, kind: Kind, filters: Filters, value: str | None) -> Iterator[list[Change]]:
        """Make the changes, a chunk at a time."""
        meant = conditions(self._session, self._tenant_id, filters)
        wanted = _SEEN.join(PromptRow).where(*_wanted(kind, meant, value))
        # All at once: what is changed in one chunk may not decide what is in the next.
        rows = self._session.execute(
            wanted.order_by(PairRow.position).with_for_update(of=PairRow)
        ).all()
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            if kind in _VERDICTS:
                yield self._decide(kind, chunk)
            elif kind in _COLUMNS:
                yield self._set(kind, chunk, value)
            else:
                yield self._declare(chunk, is_evaluation=kind is Kind.EVALUATION)

    def revert(self, kind: Kind, logged: Sequence[Change], since: datetime) -> list[Change]:
        """Take some changes back where nothing newer happened.

        Args:
            logged: What the action did, at most a chunk.
            since: Time of the action.
        """
        found = self._session.execute(
            _SEEN.join(PromptRow)
            .where(PairRow.id.in_([change.pair_id for change in logged]))
            .with_for_update(of=PairRow)
        ).all()
        rows = {row.id: row for row in found}
        if kind in _VERDICTS:
            return self._decide_back(logged, rows, since)
        if kind in _COLUMNS:
            return self._set_back(kind, logged, rows)
        standing = [rows[c.pair_id] for c in logged if _purpose(rows[c.pair_id]) == c.after]
        return self._declare(standing, is_evaluation=kind is Kind.TRAINING)

    def _decide(self, kind: Kind, rows: Sequence[Row[Any]]) -> list[Change]:
        verdict = _VERDICTS[kind]
        sides = self._sides(rows) if kind is Kind.APPROVE else {}
        changes = []
        decided = []
        for row in rows:
            chosen, rejected = sides.get(row.id, (None, None))
            mark = MARK if kind is Kind.APPROVE else ""
            decided.append(self._decision(row, verdict.value, chosen, rejected, mark))
            changes.append(Change(row.id, row.status, verdict.value, row.decisions + 1))
        self._append(decided)
        if kind is Kind.REOPEN:
            # As with a single pair: one more person is asked than have voted.
            ids = [row.id for row in rows if row.taken >= row.overlap]
            more = update(PAIRS).where(PAIRS.c.id.in_(ids)).values(overlap=PAIRS.c.taken + 1)
            self._session.execute(more)
        return changes

    def _sides(self, rows: Sequence[Row[Any]]) -> dict[str, tuple[str, str]]:
        """By pair, the current versions of the answers that the import preferred and did not."""
        preferred = {row.id: row.imported_preference for row in rows}
        versions = (
            select(ResponseRow.pair_id, ResponseRow.root_id, ResponseRow.id)
            .where(ResponseRow.pair_id.in_(preferred))
            .order_by(ResponseRow.version)
        )
        current: dict[str, dict[str, str]] = {pair_id: {} for pair_id in preferred}
        for pair_id, root, version in self._session.execute(versions):
            current[pair_id][root] = version
        sides = {}
        for pair_id, answers in current.items():
            chosen = answers.pop(preferred[pair_id])
            (rejected,) = answers.values()
            sides[pair_id] = (chosen, rejected)
        return sides

    def _decision(
        self, row: Row[Any], verdict: str, chosen: str | None, rejected: str | None, mark: str
    ) -> dict[str, Any]:
        return {
            "id": new_id(), "tenant_id": self._tenant_id, "pair_id": row.id,
            "number": row.decisions + 1, "verdict": verdict, "chosen_response_id": chosen,
            "rejected_response_id": rejected, "reason": self._reason, "mark": mark,
            "actor_id": self._actor_id, "review_id": None, "created_at": self._at,
        }  # fmt: skip

    def _append(self, decided: Sequence[dict[str, Any]]) -> None:
        if not decided:
            return
        self._session.execute(insert(DECISIONS), decided)
        values = [
            {
                "pair": row["pair_id"], "now": row["verdict"], "numbered": row["number"],
                "chosen": row["chosen_response_id"], "rejected": row["rejected_response_id"],
                "marked": row["mark"],
            }
            for row in decided
        ]  # fmt: skip
        self._session.connection().execute(_REPEAT, values)

    def _decide_back(
        self, logged: Sequence[Change], rows: Mapping[str, Row[Any]], since: datetime
    ) -> list[Change]:
        """Append decisions that say what held before, where nobody decided or voted since."""
        ids = [change.pair_id for change in logged]
        touched = set(
            self._session.scalars(
                select(ReviewRow.pair_id).where(
                    ReviewRow.pair_id.in_(ids), ReviewRow.created_at > since
                )
            )
        )
        standing = [
            change
            for change in logged
            if rows[change.pair_id].decisions == change.decision and change.pair_id not in touched
        ]
        earlier = self._earlier(standing)
        decided, changes = [], []
        for change in standing:
            row, held = rows[change.pair_id], earlier.get(change.pair_id)
            verdict = held.verdict if held else PairStatus.UNREVIEWED.value
            chosen = held.chosen_response_id if held else None
            rejected = held.rejected_response_id if held else None
            mark = held.mark if held else ""
            decided.append(self._decision(row, verdict, chosen, rejected, mark))
            changes.append(Change(row.id, row.status, verdict, row.decisions + 1))
        self._append(decided)
        return changes

    def _earlier(self, changes: Sequence[Change]) -> dict[str, DecisionRow]:
        """By pair, the decision that held before the one that a change made."""
        wanted = {change.pair_id: change.decision - 1 for change in changes}
        rows = self._session.scalars(select(DecisionRow).where(DecisionRow.pair_id.in_(wanted)))
        return {row.pair_id: row for row in rows if row.number == wanted[row.pair_id]}

    def _set(self, kind: Kind, rows: Sequence[Row[Any]], value: str | None) -> list[Change]:
        column = _COLUMNS[kind]
        after: dict[str, str | None] = {row.id: value for row in rows}
        if kind is Kind.PLANT:
            after = dict(self._roots([row.chosen_response_id for row in rows]))
        changes = [
            Change(row.id, _text(getattr(row, column)), after[row.id], row.decisions)
            for row in rows
        ]
        self._write(column, changes)
        return changes

    def _roots(self, response_ids: Sequence[str]) -> dict[str, str]:
        """By pair, the first versions of these answers."""
        wanted = select(ResponseRow.pair_id, ResponseRow.root_id)
        found = self._session.execute(wanted.where(ResponseRow.id.in_(response_ids)))
        return {pair_id: root for pair_id, root in found}

    def _set_back(
        self, kind: Kind, logged: Sequence[Change], rows: Mapping[str, Row[Any]]
    ) -> list[Change]:
        column = _COLUMNS[kind]
        changes = []
        for change in logged:
            row = rows[change.pair_id]
            if _text(getattr(row, column)) != change.after or row.decisions != change.decision:
                continue
            if kind is Kind.OVERLAP and int(change.before or 1) < row.overlap and row.taken:
                continue
            changes.append(Change(row.id, change.after, change.before, row.decisions))
        self._write(column, changes)
        return changes

    def _write(self, column: str, changes: Sequence[Change]) -> None:
        if not changes:
            return
        is_number = column == "overlap"
        values = [
            {"pair": one.pair_id, "new": int(one.after or 1) if is_number else one.after}
            for one in changes
        ]
        statement = update(PAIRS).where(PAIRS.c.id == bindparam("pair"))
        self._session.connection().execute(statement.values({column: bindparam("new")}), values)

    def _declare(self, rows: Sequence[Row[Any]], *, is_evaluation: bool) -> list[Change]:
        prompts = {row.prompt_id for row in rows}
        self._session.execute(
            update(PROMPTS).where(PROMPTS.c.id.in_(prompts)).values(is_evaluation=is_evaluation)
        )
        after = Kind.EVALUATION.value if is_evaluation else Kind.TRAINING.value
        return [Change(row.id, _purpose(row), after, row.decisions) for row in rows]


_SEEN: Select[Any] = select(
    PAIRS.c.id, PAIRS.c.status, PAIRS.c.decisions, PAIRS.c.overlap, PAIRS.c.taken,
    PAIRS.c.assignee, PAIRS.c.gold_response_id, PAIRS.c.chosen_response_id,
    PAIRS.c.imported_preference, PAIRS.c.prompt_id, PROMPTS.c.is_evaluation,
).select_from(PairRow)  # fmt: skip
_REPEAT = (
    update(PAIRS)
    .where(PAIRS.c.id == bindparam("pair"))
    .values(
        status=bindparam("now"),
        mark=bindparam("marked"),
        decisions=bindparam("numbered"),
        chosen_response_id=bindparam("chosen"),
        rejected_response_id=bindparam("rejected"),
    )
)


def _purpose(row: Row[Any]) -> str:
    return Kind.EVALUATION.value if row.is_evaluation else Kind.TRAINING.value


def _text(value: object) -> str | None:
    return None if value is None else str(value)
