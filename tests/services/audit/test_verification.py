from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

from services.audit.models import Checkpoint, Event
from services.audit.outbox import record
from services.audit.service import AuditLog
from services.audit.store import TRIGGERS_POSTGRESQL, TRIGGERS_SQLITE
from services.db import Base, Database
from services.errors import VerificationFailed
from services.tenants.models import Actor
from tests.services.audit.conftest import START, append, sign_note


@pytest.fixture
def full(log: AuditLog, database: Database) -> AuditLog:
    """Twenty entries, with checkpoints at 8 and 15."""
    append(log, database, 8)
    log.checkpoint()
    append(log, database, 7, first=8)
    log.checkpoint()
    append(log, database, 5, first=15)
    return log


def tamper(database: Database, *statements: str) -> None:
    """Change rows as someone would who owns the database and takes its triggers away."""
    with database.engine.begin() as connection:
        for table in ("audit_log", "audit_checkpoints"):
            for sql in _without_triggers(connection, table):
                connection.exec_driver_sql(sql)
        for statement in statements:
            connection.execute(text(statement))


def _without_triggers(connection: Connection, table: str) -> list[str]:
    if connection.dialect.name == "postgresql":
        return [f"ALTER TABLE {table} DISABLE TRIGGER ALL"]
    found = connection.exec_driver_sql(
        f"SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'"
    )
    return [f"DROP TRIGGER {name}" for (name,) in found.all()]


def rebuild(
    database: Database, change: Callable[[dict[str, object]], dict[str, object] | None]
) -> None:
    """Write the whole log anew, hashes and all, as a forger with the program's help would."""
    entries = AuditLog(database).entries(Actor.system("test"), None)
    fields = ("tenant_id", "actor_id", "actor_name", "action", "subject", "details", "at")
    kept = [change({name: getattr(entry, name) for name in fields}) for entry in entries]
    tamper(database, "DELETE FROM audit_log", "DELETE FROM audit_state")
    with database.write() as session:
        events = [Event(**values) for values in kept if values]  # type: ignore[arg-type]
        AuditLog(database).append_now(session, events)


def test_a_log_that_nobody_touched_holds(full: AuditLog, database: Database) -> None:
    verified = full.verify()
    assert (verified.size, verified.checkpoints) == (20, 2)
    assert (verified.size, verified.root) == full.head()
    assert verified.head == full.entries(Actor.system("test"), None)[-1].chain_hash


def test_an_empty_log_holds(log: AuditLog) -> None:
    assert log.verify().size == 0
    assert log.checkpoint() is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET action = 'x.y' WHERE seq = 3",
        "UPDATE audit_log SET seq = 99 WHERE seq = 20",
        "DELETE FROM audit_log WHERE seq = 20",
        "DELETE FROM audit_log",
        "UPDATE audit_checkpoints SET root = 'x'",
        "DELETE FROM audit_checkpoints",
    ],
)
def test_the_database_itself_refuses_changes(
    full: AuditLog, database: Database, statement: str
) -> None:
    with (
        pytest.raises(DatabaseError, match="is append-only"),
        database.engine.begin() as connection,
    ):
        connection.execute(text(statement))
    assert full.verify().size == 20


def test_neither_replacing_nor_emptying_gets_past_the_database(
    full: AuditLog, database: Database
) -> None:
    statement = (
        "INSERT OR REPLACE INTO audit_log SELECT * FROM audit_log WHERE seq = 3"
        if database.is_sqlite
        else "TRUNCATE audit_log"
    )
    with (
        pytest.raises(DatabaseError, match="is append-only"),
        database.engine.begin() as connection,
    ):
        connection.exec_driver_sql(statement)
    assert full.verify().size == 20


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE audit_log SET action = 'chat.forgotten' WHERE seq = 7", 7),
        ("UPDATE audit_log SET details = '{}' WHERE seq = 20", 20),
        ("UPDATE audit_log SET details = '{\"number\": 1e300}' WHERE seq = 2", 2),
        ("UPDATE audit_log SET tenant_id = 'globex' WHERE seq = 1", 1),
        ("UPDATE audit_log SET actor_name = 'someone else' WHERE seq = 12", 12),
        ("UPDATE audit_log SET at = '2026-11-21 07:00:00.000000' WHERE seq = 5", 5),
        ("UPDATE audit_log SET leaf_hash = chain_hash WHERE seq = 4", 4),
        ("UPDATE audit_log SET chain_hash = leaf_hash WHERE seq = 4", 4),
        ("DELETE FROM audit_log WHERE seq = 1", 1),
        ("DELETE FROM audit_log WHERE seq = 9", 9),
        ("DELETE FROM audit_log WHERE seq >= 19", 19),
        ("DELETE FROM audit_log", 1),
        ('UPDATE audit_state SET size = 19, edge = \'["00", "00", "00"]\'', 20),
    ],
)
def test_the_first_bad_entry_is_named(
    full: AuditLog, database: Database, statement: str, first_bad: int
) -> None:
    tamper(database, statement)
    with pytest.raises(VerificationFailed, match=f"^audit log entry {first_bad}:"):
        full.verify()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET details = '{' WHERE seq = 5",
        "UPDATE audit_log SET at = 'nonsense' WHERE seq = 5",
    ],
)
def test_an_entry_that_cannot_even_be_read_is_named(
    full: AuditLog, database: Database, statement: str
) -> None:
    if not database.is_sqlite:
        return  # PostgreSQL refuses such content by its types.
    tamper(database, statement)
    with pytest.raises(VerificationFailed, match="^audit log entry 5: .*cannot be read as one"):
        full.verify()


def test_a_state_that_fits_no_log_is_told(full: AuditLog, database: Database) -> None:
    tamper(
        database,
        "DELETE FROM audit_log",
        "DELETE FROM audit_checkpoints",
        "UPDATE audit_state SET size = 0",
    )
    with pytest.raises(VerificationFailed, match="expected a state that fits 0 entries"):
        full.verify()


def test_exchanged_neighbours_are_named(full: AuditLog, database: Database) -> None:
    tamper(
        database,
        "UPDATE audit_log SET seq = 1000 WHERE seq = 5",
        "UPDATE audit_log SET seq = 5 WHERE seq = 6",
        "UPDATE audit_log SET seq = 6 WHERE seq = 1000",
    )
    with pytest.raises(VerificationFailed, match="^audit log entry 5:"):
        full.verify()


def test_a_log_that_was_written_anew_contradicts_its_checkpoint(
    full: AuditLog, database: Database
) -> None:
    def forget(values: dict[str, object]) -> dict[str, object]:
        return {**values, "action": "x.y"} if values["subject"] == "request:11" else values

    rebuild(database, forget)
    with pytest.raises(
        VerificationFailed, match="^audit log entry 9: .* from 9 to 15 was rewritten"
    ):
        full.verify()
    with pytest.raises(VerificationFailed, match="rewritten"):
        AuditLog(database, origin="test.log").verify()


def test_a_tail_that_was_cut_off_cleanly_shows_against_a_checkpoint(
    full: AuditLog, database: Database
) -> None:
    kept_outside = full.checkpoint()
    assert kept_outside is not None
    rebuild(database, lambda v: v if str(v["subject"]) < "request:12" else None)
    with pytest.raises(VerificationFailed, match="was cut off after entry"):
        full.verify()
    tamper(database, "DELETE FROM audit_checkpoints")
    assert full.verify().checkpoints == 0
    with pytest.raises(VerificationFailed, match="expected 20 entries, found .* cut off"):
        full.verify(outside=[kept_outside.note])


def test_a_checkpoint_from_outside_agrees_with_the_log_it_was_made_of(full: AuditLog) -> None:
    note = full.checkpoints()[0].note
    assert full.verify(outside=[note]).checkpoints == 3


def test_a_forged_or_foreign_checkpoint_is_refused(full: AuditLog) -> None:
    note = full.checkpoints()[0].note
    for forged in (
        note.replace("8", "9", 1),
        note.replace("test.log", "other.log"),
        sign_note("other.log\n8\n" + note.split("\n")[2] + "\n"),
        sign_note("test.log\n8\n\n"),
        sign_note("test.log\n08\n" + note.split("\n")[2] + "\n"),
        sign_note("test.log\n-1\n" + note.split("\n")[2] + "\n"),
        "",
        "x\n\ny",
    ):
        with pytest.raises(VerificationFailed):
            full.verify(outside=[forged])


def test_a_checkpoint_row_that_differs_from_its_note_is_named(
    full: AuditLog, database: Database
) -> None:
    tamper(database, "UPDATE audit_checkpoints SET size = 9 WHERE size = 8")
    with pytest.raises(VerificationFailed, match="checkpoint of size 9"):
        full.verify()


def test_a_checkpoint_is_signed_once_for_each_size(full: AuditLog, database: Database) -> None:
    first, again = full.checkpoint(), full.checkpoint()
    assert first == again
    assert isinstance(first, Checkpoint)
    assert (first.size, first.root) == full.head()
    assert first.at == START
    assert [checkpoint.size for checkpoint in full.checkpoints()] == [8, 15, 20]


def test_no_checkpoint_is_signed_over_a_shorter_log(full: AuditLog, database: Database) -> None:
    full.checkpoint()
    rebuild(database, lambda values: values if values["subject"] != "request:19" else None)
    with pytest.raises(VerificationFailed, match="expected to go on from .* size 20"):
        full.checkpoint()


def test_a_log_without_a_signer_makes_no_checkpoint(database: Database) -> None:
    with pytest.raises(RuntimeError, match="without a signer"):
        AuditLog(database).checkpoint()


def test_events_that_wait_are_no_part_of_the_log_yet(full: AuditLog, database: Database) -> None:
    with database.write() as session:
        record(session, Actor.system("test"), "t.done", "x:1", tenant_id=None)
    assert full.verify().size == 20
    full.sequence()
    assert full.verify().size == 21


def test_migrations_can_make_the_same_triggers(database: Database) -> None:
    statements = TRIGGERS_SQLITE if database.is_sqlite else TRIGGERS_POSTGRESQL
    tables = [Base.metadata.tables[name] for name in ("audit_log", "audit_checkpoints")]
    with database.engine.begin() as connection:
        for table in tables:
            for sql in _without_triggers(connection, table.name):
                connection.exec_driver_sql(sql)
            if not database.is_sqlite:
                connection.execute(text(f"DROP TRIGGER {table.name}_append_only ON {table.name}"))
        for sql in statements:
            connection.execute(text(sql))
    append(AuditLog(database), database, 1)
    with pytest.raises(DatabaseError, match="append-only"), database.engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_log"))
