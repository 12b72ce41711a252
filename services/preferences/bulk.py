"""One change to many pairs: counted first, written in one transaction, and taken back as one.

What each kind sets, and which of the pairs that were meant it leaves alone:

| kind | sets | on pairs that |
| --- | --- | --- |
| `approve` | approved (marked `bulk`), as the import preferred it | are undecided and came with a preference |
| `reject` | rejected | are not rejected yet |
| `reopen` | unreviewed; one more person is asked than have voted | are decided or disputed |
| `assign` | whose card it is | are undecided, and not with Label Studio |
| `overlap` | how many people vote | are undecided and have a free place then |
| `plant` | the approved answer as the known better one | are approved and not planted |
| `unplant` | no known better answer | are planted |
| `evaluation` | the prompt as one of an evaluation set | share such a prompt: all pairs of it |
| `training` | the opposite | likewise |

An undo changes only what nobody has changed since, and says how many it had to leave.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, InvalidInput, NotFound
from services.preferences import bulk_kinds
from services.preferences.bulk_kinds import Change, Kind
from services.preferences.filters import Filters
from services.preferences.queries import CHUNK, serialise
from services.preferences.store import BULK_CHANGES, BulkActionRow, BulkChangeRow
from services.preferences.text import defect
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

MAX_REASON = 2_000
__all__ = ["Bulk", "BulkAction", "BulkChange", "Kind", "Preview"]


@dataclass(frozen=True)
class Preview:
    """What a bulk action would do.

    Attributes:
        matched: Pairs that were meant.
        changed: Pairs that it would change; it leaves the others alone.
    """

    matched: int
    changed: int


@dataclass(frozen=True)
class BulkAction:
    """A change that was made, or the undoing of one.

    Attributes:
        value: What was set, where the kind does not say it: an assignee, a number.
        changed: How many pairs it changed.
        undone: How many of those the undo changed back; None where there was no undo.
        undoes_id: The action that this one took back.
    """

    id: str
    kind: Kind
    value: str | None
    changed: int
    reason: str
    actor_id: str
    created_at: datetime
    undoes_id: str | None = None
    undone: int | None = None


@dataclass(frozen=True)
class BulkChange:
    """What a bulk action did to one pair."""

    action: BulkAction
    before: str | None
    after: str | None


class Bulk:
    """Bulk actions on the pairs of all tenants."""

    def __init__(self, db: Database, *, clock: Clock = utcnow) -> None:
        self._db, self._clock = db, clock

    def preview(
        self,
        actor: Actor,
        tenant_id: str,
        kind: Kind,
        filters: Filters,
        *,
        value: str | None = None,
    ) -> Preview:
        """Count what `run` would change.

        Raises:
            InvalidInput: See `run`.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        value = bulk_kinds.checked(kind, value)
        with self._db.read() as session:
            return _count(session, tenant_id, kind, filters, value)

    def run(
        self,
        actor: Actor,
        tenant_id: str,
        kind: Kind,
        filters: Filters,
        *,
        value: str | None = None,
        reason: str = "",
        expected: int | None = None,
    ) -> BulkAction:
        """Change all pairs that were meant and that the kind does not leave alone.

        Args:
            value: Of `assign`: `user:ID`, `group:ID` or None for everybody; of `overlap`: a
                whole number from 1 to 9.
            expected: How many changes the person agreed to.

        Raises:
            InvalidInput: The value does not fit the kind, or see `filters.refuse`.
            Conflict: The pairs have changed since the preview, or there is nothing to change.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        value = bulk_kinds.checked(kind, value)
        _refuse_reason(reason)
        with self._db.write() as session:
            serialise(session, f"pairs|{tenant_id}")
            entry = self._entry(actor, tenant_id, kind, value, reason)
            entry.filters = filters.as_json()
            session.add(entry)
            session.flush()
            writer = bulk_kinds.Writer(session, tenant_id, actor.id, entry.created_at, reason)
            for chunk in writer.run(kind, filters, value):
                entry.changed += _log(session, entry.id, chunk)
            if expected is not None and entry.changed != expected:
                raise Conflict(
                    f"expected to change {expected} pairs as in the preview, found "
                    f"{entry.changed}; nothing was changed, look again"
                ).because("preview_outdated", expected=expected, found=entry.changed)
            if not entry.changed:
                raise Conflict(f"expected pairs that {kind.value} can change, found none").because(
                    "nothing_to_change"
                )
            _audit(session, actor, entry)
        return _action(entry)

    def undo(self, actor: Actor, tenant_id: str, action_id: str, *, reason: str = "") -> BulkAction:
        """Take a bulk action back on every pair on which nothing newer happened.

        Returns:
            The undo; the action's `changed` minus its own is how many were left as they are.

        Raises:
            NotFound: The tenant has no such action.
            Conflict: It was taken back already, is itself an undo, or every one of its pairs
                has been changed since.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        _refuse_reason(reason)
        with self._db.write() as session:
            serialise(session, f"pairs|{tenant_id}")
            undone = _undoable(session, tenant_id, action_id)
            kind = Kind(undone.kind)
            entry = self._entry(actor, tenant_id, kind, undone.value, reason)
            entry.undoes_id = undone.id
            session.add(entry)
            session.flush()
            writer = bulk_kinds.Writer(session, tenant_id, actor.id, entry.created_at, reason)
            for logged in _logged(session, undone.id):
                taken_back = writer.revert(kind, logged, undone.created_at)
                entry.changed += _log(session, entry.id, taken_back)
            if not entry.changed:
                raise Conflict(
                    f"action {action_id}: expected pairs as it left them, found all of its "
                    f"{undone.changed} changed since"
                ).because("all_changed_since")
            _audit(session, actor, entry)
        return _action(entry)

    def actions(self, actor: Actor, tenant_id: str, *, limit: int = 20) -> list[BulkAction]:
        """What was done in bulk, newest first, without the undos, which their actions tell of."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        wanted = select(BulkActionRow).where(
            BulkActionRow.tenant_id == tenant_id, BulkActionRow.undoes_id.is_(None)
        )
        newest = wanted.order_by(BulkActionRow.created_at.desc(), BulkActionRow.id.desc())
        with self._db.read() as session:
            rows = session.scalars(newest.limit(limit)).all()
            ids = [row.id for row in rows]
            undos = select(BulkActionRow.undoes_id, BulkActionRow.changed)
            found = session.execute(undos.where(BulkActionRow.undoes_id.in_(ids)))
            undone = {action_id: changed for action_id, changed in found}
        return [_action(row, undone.get(row.id)) for row in rows]

    def changes_of(self, actor: Actor, tenant_id: str, pair_id: str) -> list[BulkChange]:
        """What bulk actions did to one pair, oldest first."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        wanted = (
            select(BulkChangeRow, BulkActionRow)
            .join(BulkActionRow, BulkActionRow.id == BulkChangeRow.action_id)
            .where(BulkChangeRow.pair_id == pair_id, BulkActionRow.tenant_id == tenant_id)
            .order_by(BulkActionRow.created_at, BulkActionRow.id)
        )
        with self._db.read() as session:
            return [
                BulkChange(_action(action), change.before, change.after)
                for change, action in session.execute(wanted)
            ]

    def _entry(
        self, actor: Actor, tenant_id: str, kind: Kind, value: str | None, reason: str
    ) -> BulkActionRow:
        return BulkActionRow(
            id=new_id(),
            tenant_id=tenant_id,
            kind=kind.value,
            value=value,
            filters=None,
            changed=0,
            reason=reason,
            undoes_id=None,
            actor_id=actor.id,
            created_at=self._clock(),
        )


def _count(
    session: Session, tenant_id: str, kind: Kind, filters: Filters, value: str | None
) -> Preview:
    matched, changed = bulk_kinds.counts(session, tenant_id, kind, filters, value)
    return Preview(matched, changed)


def _undoable(session: Session, tenant_id: str, action_id: str) -> BulkActionRow:
    wanted = select(BulkActionRow).where(
        BulkActionRow.tenant_id == tenant_id, BulkActionRow.id == action_id
    )
    found = session.scalar(wanted)
    if found is None:
        raise NotFound(f"tenant {tenant_id} has no bulk action {action_id!r}")
    if found.undoes_id is not None:
        raise Conflict(f"action {action_id}: expected one that is no undo itself, found an undo")
    undo = select(BulkActionRow.id).where(BulkActionRow.undoes_id == action_id)
    if session.scalar(undo) is not None:
        raise Conflict(f"action {action_id}: expected one that still stands, found it taken back")
    return found


def _logged(session: Session, action_id: str) -> Iterator[Sequence[Change]]:
    """What an action did, a chunk at a time, in order of the pairs' ids."""
    after = ""
    while True:
        rows = session.scalars(
            select(BulkChangeRow)
            .where(BulkChangeRow.action_id == action_id, BulkChangeRow.pair_id > after)
            .order_by(BulkChangeRow.pair_id)
            .limit(CHUNK)
        ).all()
        if not rows:
            return
        yield [Change(row.pair_id, row.before, row.after, row.decision) for row in rows]
        after = rows[-1].pair_id


def _log(session: Session, action_id: str, chunk: Sequence[Change]) -> int:
    if chunk:
        session.execute(
            insert(BULK_CHANGES),
            [
                {
                    "action_id": action_id,
                    "pair_id": change.pair_id,
                    "before": change.before,
                    "after": change.after,
                    "decision": change.decision,
                }
                for change in chunk
            ],
        )
    return len(chunk)


def _audit(session: Session, actor: Actor, entry: BulkActionRow) -> None:
    details = {"kind": entry.kind, "changed": entry.changed, "undoes": entry.undoes_id or ""}
    action = "pairs.bulk_undone" if entry.undoes_id else "pairs.bulk_changed"
    record(
        session, actor, action, f"bulk:{entry.id}", tenant_id=entry.tenant_id, details=details,
        at=entry.created_at,
    )  # fmt: skip


def _action(row: BulkActionRow, undone: int | None = None) -> BulkAction:
    return BulkAction(
        row.id, Kind(row.kind), row.value, row.changed, row.reason, row.actor_id, row.created_at,
        row.undoes_id, undone,
    )  # fmt: skip


def _refuse_reason(reason: str) -> None:
    if len(reason) > MAX_REASON:
        raise InvalidInput(
            f"reason: expected at most {MAX_REASON} characters, found {len(reason)}"
        ).because("too_long", field="reason", most=MAX_REASON, found=len(reason))
    if found := defect(reason):
        raise InvalidInput(f"reason: expected text that can be stored, found {found}").because(
            "not_storable", field="reason"
        )
