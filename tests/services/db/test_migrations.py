import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from services.audit.outbox import record
from services.audit.service import AuditLog
from services.db import Database
from services.db.revise import differences
from services.errors import DatabaseTooNew
from services.tenants.models import Actor


def test_the_migrations_make_exactly_the_declared_tables(empty_database: Database) -> None:
    empty_database.migrate()
    with empty_database.engine.connect() as connection:
        assert differences(connection) == []


def test_migrating_twice_changes_nothing(empty_database: Database) -> None:
    empty_database.migrate()
    empty_database.migrate()
    with empty_database.engine.connect() as connection:
        assert differences(connection) == []


@pytest.mark.parametrize("change", ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"])
def test_a_migrated_database_refuses_to_change_the_audit_log(
    empty_database: Database, change: str
) -> None:
    empty_database.migrate()
    with empty_database.write() as session:
        record(session, Actor.system("test"), "test.happened", "thing:1", tenant_id=None)
    AuditLog(empty_database).sequence()
    with pytest.raises(DBAPIError), empty_database.write() as session:
        session.execute(text(change))


def test_a_database_of_a_newer_version_is_refused_in_one_sentence(
    empty_database: Database,
) -> None:
    empty_database.migrate()
    with empty_database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNew, match="found 9999, which a newer version wrote"):
        empty_database.migrate()
