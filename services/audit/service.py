"""The log: putting events in one order, reading them, proving that none was changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

import orjson
from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from services.audit import store
from services.audit.merkle import chain_hash, entry_body, leaf_hash, timestamp
from services.audit.models import Checkpoint, Entry, Event, OpenNote, SignNote, Verified
from services.audit.outbox import OutboxRow, checked
from services.audit.verification import Walk, checkpoint_text, claims_of
from services.db import Clock, Database, utcnow
from services.errors import InvalidInput, VerificationFailed
from services.tenants.models import EVERY_TENANT, Actor, Permission
from services.tenants.scope import scope

BATCH = 500
MOST_ENTRIES = 5000


class AuditLog:
    """The append-only log of one installation; any number of processes may write to it.

    Args:
        db: Where it is kept.
        clock: Gives the present time.
        origin: Name of this log in checkpoints.
        sign_note: Signs a checkpoint's text; without it there are no checkpoints.
        open_note: Checks a signed note and gives its text.
    """

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock = utcnow,
        origin: str = "param-console.local",
        sign_note: SignNote | None = None,
        open_note: OpenNote | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._origin = origin
        self._sign_note = sign_note
        self._open_note = open_note

    def sequence(self) -> int:
        """Move all waiting events from the outbox into the log, oldest first.

        Returns:
            How many were moved.
        """
        moved = 0
        while self._is_waiting():
            with self._db.write() as session:
                moved += self._sequence_batch(session)
        return moved

    def append_now(self, session: Session, events: list[Event]) -> list[Entry]:
        """Give events their places in the caller's transaction, past the outbox.

        The log is locked for all other writers until that transaction ends, so keep it short.

        Args:
            session: From `Database.write()`.

        Raises:
            InvalidInput: Details hold a float, a number beyond 53 bits, or NUL.
        """
        for event in events:
            checked(event.actor_id, event.actor_name, event.action, event.subject, event.details)
        return _append(session, events)

    def entries(
        self,
        actor: Actor,
        tenant_id: str | None,
        *,
        after: int = 0,
        limit: int = 200,
        action: str | None = None,
    ) -> list[Entry]:
        """Entries in their order.

        Args:
            tenant_id: None for the whole installation.
            after: Only entries with a greater number.
            limit: 1 to 5,000.
            action: Only this action, or with a final dot (`rollout.`) all that begin so.

        Raises:
            NotPermitted: The actor may not read the audit log there.
            InvalidInput: The limit is out of range.
        """
        scoped = _scope(actor, tenant_id)
        _check_limit(limit)
        with self._db.read() as session:
            return store.entries_after(
                session, tenant_id=scoped, after=after, limit=limit, action=action
            )

    def tail(self, actor: Actor, tenant_id: str | None, *, limit: int = 50) -> list[Entry]:
        """The last entries, newest first; otherwise like `entries`."""
        scoped = _scope(actor, tenant_id)
        _check_limit(limit)
        with self._db.read() as session:
            return store.newest(session, tenant_id=scoped, limit=limit)

    def export(self, actor: Actor, tenant_id: str | None, out: TextIO) -> int:
        """Write entries as JSON lines: the hashed body, then both hashes.

        Returns:
            How many were written.

        Raises:
            NotPermitted: The actor may not read the audit log there.
        """
        scoped = _scope(actor, tenant_id)
        written = 0
        with self._db.read() as session:
            for entry in store.walk(session, scoped):
                line = {**vars(entry), "at": timestamp(entry.at)}
                out.write(orjson.dumps(line).decode() + "\n")
                written += 1
        return written

    def head(self) -> tuple[int, str]:
        """How many entries there are and their tree head (hex), as last stored."""
        with self._db.read() as session:
            edge, _chain = store.state(session)
        return edge.size, edge.root().hex()

    def checkpoint(self) -> Checkpoint | None:
        """Sign what the log is now, unless nothing was added since the last checkpoint.

        Returns:
            The newest checkpoint; None while the log is empty.

        Raises:
            VerificationFailed: The log is behind its last checkpoint, or contradicts it.
            RuntimeError: This log was built without a signer.
        """
        if self._sign_note is None:
            raise RuntimeError("this audit log was built without a signer of checkpoints")
        with self._db.write() as session:
            store.lock(session)
            edge, _chain = store.state(session)
            root, last = edge.root(), store.last_checkpoint(session)
            if last is not None and (
                last.size > edge.size or (last.size == edge.size and last.root != root.hex())
            ):
                raise VerificationFailed(
                    f"audit log: expected to go on from the signed checkpoint of size {last.size} "
                    f"and root {last.root}, found size {edge.size} and root {root.hex()}"
                )
            if edge.size == 0 or (last is not None and last.size == edge.size):
                return last
            note = self._sign_note(checkpoint_text(self._origin, edge.size, root))
            made = Checkpoint(edge.size, root.hex(), note, self._clock())
            session.add(store.CheckpointRow(**vars(made)))
            return made

    def checkpoints(self) -> list[Checkpoint]:
        """All signed checkpoints, smallest first; they hold hashes only."""
        with self._db.read() as session:
            return store.checkpoints(session)

    def verify(self, *, outside: Iterable[str] = ()) -> Verified:
        """Recompute the log from its first entry and compare it with every checkpoint.

        Args:
            outside: Signed notes of checkpoints that were kept elsewhere. Only these reveal
                someone who can write to the whole database.

        Raises:
            VerificationFailed: Something does not hold; the message names the first bad entry.
        """
        with self._db.read() as session:
            if not self._db.is_sqlite:
                # One state of the database for all statements, as SQLite gives it anyway.
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            known = store.checkpoints(session)
            walk = Walk(claims_of(known, outside, self._origin, self._open_note))
            for entry in store.walk(session):
                walk.entry(entry)
            return walk.end(*store.state(session))

    def _is_waiting(self) -> bool:
        with self._db.read() as session:
            return bool(session.scalar(select(exists().where(OutboxRow.id.is_not(None)))))

    def _sequence_batch(self, session: Session) -> int:
        store.lock(session)
        oldest = select(OutboxRow).order_by(OutboxRow.at, OutboxRow.id).limit(BATCH)
        rows = session.scalars(oldest).all()
        events = [
            Event(**{name: getattr(row, name) for name in Event.__dataclass_fields__})
            for row in rows
        ]
        _append(session, events)
        session.execute(delete(OutboxRow).where(OutboxRow.id.in_([row.id for row in rows])))
        return len(events)


def _append(session: Session, events: list[Event]) -> list[Entry]:
    if not events:
        return []
    store.lock(session)
    edge, chain = store.state(session)
    entries = []
    for event in events:
        fields = vars(event)
        leaf = leaf_hash(entry_body(edge.size + 1, **fields))
        edge.append(leaf)
        chain = chain_hash(chain, leaf)
        entries.append(Entry(seq=edge.size, **fields, leaf_hash=leaf.hex(), chain_hash=chain.hex()))
    store.append(session, entries, edge)
    return entries


def _scope(actor: Actor, tenant_id: str | None) -> str | None:
    if tenant_id is None:
        scope(actor, EVERY_TENANT, Permission.READ_AUDIT)
        return None
    return scope(actor, tenant_id, Permission.READ_AUDIT)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MOST_ENTRIES:
        raise InvalidInput(f"limit: expected 1 to {MOST_ENTRIES}, found {limit}")
