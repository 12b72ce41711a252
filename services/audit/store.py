"""Tables of the log, the database's own refusal to change them, and the statements on them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Index,
    Table,
    bindparam,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.audit.merkle import CHAIN_START, RightEdge
from services.audit.models import Checkpoint, Entry
from services.db import Base, insert_rows
from services.errors import VerificationFailed

# Any constant that nothing else locks: "audit" as a number.
_LOCK = 0x61_75_64_69_74


class AuditRow(Base):
    """One entry of the log; never changed, never deleted."""

    __tablename__ = "audit_log"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    tenant_id: Mapped[str | None]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]
    at: Mapped[datetime]
    leaf_hash: Mapped[str]
    chain_hash: Mapped[str]

    __table_args__ = (
        Index(None, "tenant_id", "seq"),
        Index(None, "action", "seq"),
        Index(None, "subject"),
    )


class AuditStateRow(Base):
    """Where the log ends: one row, from which the next entry goes on without reading the log.

    It is a convenience and no evidence: verification computes it again.
    """

    __tablename__ = "audit_state"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(BigInteger)
    chain_hash: Mapped[str]
    edge: Mapped[list[Any]]


class CheckpointRow(Base):
    """One signed checkpoint; never changed, never deleted."""

    __tablename__ = "audit_checkpoints"

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    root: Mapped[str]
    note: Mapped[str]
    at: Mapped[datetime]

    def checkpoint(self) -> Checkpoint:
        """This row as the domain knows it."""
        return Checkpoint(self.size, self.root, self.note, self.at)


class BlockRow(Base):
    """Head of one complete block of 256 leaves or blocks; see `services.audit.heads`.

    A convenience and no evidence, like the state.
    """

    __tablename__ = "audit_blocks"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    head: Mapped[str]


class CopyRow(Base):
    """One checkpoint that was written to the place outside and read back from there."""

    __tablename__ = "audit_copies"

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    place: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


# Columns, not whole rows: reading through the ORM would halve the speed of verification.
_ENTRY = [getattr(AuditRow, name) for name in Entry.__dataclass_fields__]

_FIELDS = ("size", "chain_hash", "edge")
# Made once: building them takes longer than the database does, and each answer needs them.
_STATE = select(*(getattr(AuditStateRow, name) for name in _FIELDS))
_FIRST_STATE = insert(AuditStateRow)
_NEXT_STATE = update(AuditStateRow).values({name: bindparam(name) for name in _FIELDS})


def _refusals_sqlite(table: str, key: str) -> list[str]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    return [
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}",
        # INSERT OR REPLACE deletes the old row without asking the trigger above.
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}) {refuse}",
    ]


def _refusals_postgresql(table: str, _key: str) -> list[str]:
    return [
        "CREATE OR REPLACE FUNCTION param_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$",
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION param_refuse_change()",
    ]


_APPEND_ONLY = (("audit_log", "seq"), ("audit_checkpoints", "size"))
TRIGGERS_SQLITE = [sql for table, key in _APPEND_ONLY for sql in _refusals_sqlite(table, key)]
TRIGGERS_POSTGRESQL = [
    sql for table, key in _APPEND_ONLY for sql in _refusals_postgresql(table, key)
]
"""Statements that a migration runs after it has made the tables; `create_all` runs them too."""


def _make_triggers(table: Table, connection: Connection, **_options: Any) -> None:
    refusals = _refusals_sqlite if connection.dialect.name == "sqlite" else _refusals_postgresql
    for sql in refusals(table.name, dict(_APPEND_ONLY)[table.name]):
        connection.exec_driver_sql(sql)


for _row in (AuditRow, CheckpointRow):
    event.listen(_row.__table__, "after_create", _make_triggers)


def lock(session: Session) -> None:
    """Become the log's one writer until the transaction ends.

    Raises:
        RuntimeError: The transaction was not opened by `Database.write()`.
    """
    connection = session.connection()
    if not connection.get_execution_options().get("param_write"):
        raise RuntimeError("the audit log is written in Database.write(), found a reading session")
    if connection.dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def state(session: Session) -> tuple[RightEdge, bytes]:
    """The tree's right edge and the last chain hash, as they were last stored."""
    found = session.connection().execute(_STATE).one_or_none()
    if found is None:
        return RightEdge(), CHAIN_START
    try:
        edge = RightEdge(found.size, [bytes.fromhex(node) for node in found.edge])
        return edge, bytes.fromhex(found.chain_hash)
    except (ValueError, TypeError) as error:
        raise VerificationFailed(
            f"audit log: expected a state that fits {found.size} entries, found it changed"
        ) from error


def append(session: Session, entries: list[Entry], edge: RightEdge) -> None:
    """Write entries and where the log now ends; the caller holds the lock."""
    insert_rows(session, AuditRow, [vars(entry) for entry in entries])
    values = {
        "size": edge.size,
        "chain_hash": entries[-1].chain_hash,
        "edge": [node.hex() for node in edge.hashes],
    }
    if edge.size == len(entries):
        session.connection().execute(_FIRST_STATE, {"id": 1, **values})
    else:
        session.connection().execute(_NEXT_STATE, values)


def entries_after(
    session: Session,
    *,
    tenant_id: str | None,
    after: int,
    limit: int,
    action: str | None = None,
) -> list[Entry]:
    """Entries in their order; an action that ends in a dot stands for all that begin so."""
    statement = select(*_ENTRY).where(AuditRow.seq > after).order_by(AuditRow.seq).limit(limit)
    if tenant_id is not None:
        statement = statement.where(AuditRow.tenant_id == tenant_id)
    if action is not None:
        is_prefix = action.endswith(".")
        statement = statement.where(
            AuditRow.action.startswith(action, autoescape=True)
            if is_prefix
            else AuditRow.action == action
        )
    return [Entry(**row._mapping) for row in session.execute(statement)]


def newest(session: Session, *, tenant_id: str | None, limit: int) -> list[Entry]:
    """The last entries, newest first."""
    statement = select(*_ENTRY).order_by(AuditRow.seq.desc()).limit(limit)
    if tenant_id is not None:
        statement = statement.where(AuditRow.tenant_id == tenant_id)
    return [Entry(**row._mapping) for row in session.execute(statement)]


def walk(session: Session, tenant_id: str | None = None) -> Iterator[Entry]:
    """Every entry in its order, a thousand at a time."""
    # Pages, not one long cursor: a check that stops half-way leaves nothing open.
    after = 0
    while page := _page(session, tenant_id, after):
        yield from page
        after = page[-1].seq


def _page(session: Session, tenant_id: str | None, after: int) -> list[Entry]:
    """The next entries; those before one that cannot be read, if there is one.

    Raises:
        VerificationFailed: The very next one cannot be read; the message names it.
    """
    try:
        return entries_after(session, tenant_id=tenant_id, after=after, limit=1000)
    except (ValueError, TypeError):
        found: list[Entry] = []
    try:
        while one := entries_after(session, tenant_id=tenant_id, after=after, limit=1):
            found, after = [*found, *one], one[-1].seq
    except (ValueError, TypeError) as error:
        if not found:
            mine = select(func.min(AuditRow.seq)).where(AuditRow.seq > after)
            mine = mine if tenant_id is None else mine.where(AuditRow.tenant_id == tenant_id)
            raise VerificationFailed(
                f"audit log entry {session.scalar(mine)}: expected an entry, found something that "
                "cannot be read as one; it was changed"
            ) from error
    return found


def checkpoints(session: Session) -> list[Checkpoint]:
    """All signed checkpoints, smallest first."""
    rows = session.scalars(select(CheckpointRow).order_by(CheckpointRow.size))
    return [row.checkpoint() for row in rows]


def last_checkpoint(session: Session) -> Checkpoint | None:
    """The checkpoint of the largest size."""
    row = session.scalar(select(CheckpointRow).order_by(CheckpointRow.size.desc()).limit(1))
    return None if row is None else row.checkpoint()
