from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import MetaData, text
from sqlalchemy.exc import DBAPIError

from labeling.queue import ReviewQueue
from services.audit.outbox import record
from services.audit.service import AuditLog
from services.db import Database
from services.db.revise import differences
from services.errors import DatabaseTooNew
from services.preferences.models import PairStatus
from services.preferences.service import Preferences
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


def test_pairs_of_the_first_version_are_found_and_reviewed_after_the_upgrade(
    empty_database: Database, tmp_path: Path
) -> None:
    empty_database.migrate("0001")
    old = MetaData()
    with empty_database.write() as session:
        connection = session.connection()
        old.reflect(connection)
        for table, row in _FIRST_VERSION:
            connection.execute(old.tables[table].insert(), row)
    empty_database.migrate()
    system = Actor.system("test")
    preferences = Preferences(empty_database, datasets_dir=tmp_path)
    found = preferences.pairs(system, "acme", query="capital")
    assert [pair.id for pair in found.pairs] == ["pair-1"]
    queue = ReviewQueue(empty_database, preferences)
    card = queue.next_card(system, "acme")
    assert card is not None
    queue.vote(system, "acme", card.pair_id, verdict=-2)
    assert preferences.pair(system, "acme", "pair-1").status is PairStatus.APPROVED
    empty_database.engine.dispose()
    with empty_database.engine.connect() as connection:
        assert differences(connection) == []


_AT = datetime(2026, 11, 21, 8)
_FIRST_VERSION = (
    ("prompts", {
        "id": "prompt-1", "tenant_id": "acme", "key": "ab" * 32, "folded": "what is the capital",
        "turns": [{"role": "user", "content": "What is the capital?"}], "language": "en",
        "split": None, "created_at": _AT,
    }),
    ("pairs", {
        "id": "pair-1", "tenant_id": "acme", "position": 1, "prompt_id": "prompt-1",
        "key": "cd" * 32, "import_id": None, "source": "old", "source_line": 1, "language": "en",
        "imported_preference": "one", "extra": None, "created_at": _AT, "status": "unreviewed",
        "chosen_response_id": None, "rejected_response_id": None, "mark": "", "decisions": 0,
        "lease_holder": "somebody", "lease_until": _AT,
    }),
    *(
        ("responses", {
            "id": name, "tenant_id": "acme", "pair_id": "pair-1", "root_id": name,
            "parent_id": None, "version": 1, "text": text, "extra": None, "author_id": None,
            "created_at": _AT,
        })
        for name, text in (("one", "Ankara."), ("two", "Istanbul."))
    ),
)  # fmt: skip
