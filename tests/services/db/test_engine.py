from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from services.audit.outbox import OutboxRow, record
from services.db import Database, insert_rows, new_id
from services.errors import WrongConfiguration
from services.tenants.models import Actor


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as session:
        record(session, Actor.system("test"), "test.happened", "thing:1", tenant_id=None)
        raise RuntimeError("half-way")
    with database.read() as session:
        assert session.scalars(select(OutboxRow)).all() == []


def test_times_come_back_aware(database: Database) -> None:
    with database.write() as session:
        record(session, Actor.system("test"), "test.happened", "thing:1", tenant_id="acme")
    with database.read() as session:
        assert session.scalars(select(OutboxRow)).one().at.utcoffset() is not None


def test_ids_sort_by_creation() -> None:
    ids = [new_id() for _ in range(3)]
    assert ids[0][:13] <= ids[1][:13] <= ids[2][:13]
    assert len(set(ids)) == 3


def test_another_kind_of_database_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WrongConfiguration, match="found the backend 'mysql'"):
        Database("mysql://somewhere/param")


def test_the_url_of_a_refused_database_is_not_repeated() -> None:
    with pytest.raises(WrongConfiguration) as caught:
        Database("not a url with s3cret")
    assert "s3cret" not in str(caught.value)


def waiting_event(number: int, **changes: Any) -> dict[str, Any]:
    """A row with every kind of column: text, nothing, JSON, a time."""
    return {
        "id": f"{number:04}", "tenant_id": None, "actor_id": "a", "actor_name": "Ayşe",
        "action": "test.happened", "subject": "thing:1", "details": {"ş": [1, None, "x%s?"]},
        "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), **changes,
    }  # fmt: skip


def test_rows_go_in_as_the_statement_builder_puts_them_in(database: Database) -> None:
    with database.write() as session:
        insert_rows(session, OutboxRow, [waiting_event(1, beside="passed over")])
        insert_rows(session, OutboxRow, [waiting_event(2), waiting_event(3)])
        insert_rows(session, OutboxRow, [])
        session.execute(insert(OutboxRow), [waiting_event(4)])
    with database.read() as session:
        rows = session.scalars(select(OutboxRow).order_by(OutboxRow.id)).all()
        seen = [
            {name: getattr(row, name) for name in waiting_event(0)} | {"id": None} for row in rows
        ]
    assert len(seen) == 4
    assert all(one == waiting_event(0, id=None) for one in seen)


def test_a_row_that_lacks_a_column_is_refused(database: Database) -> None:
    row = waiting_event(1)
    del row["details"]
    with pytest.raises(KeyError), database.write() as session:
        insert_rows(session, OutboxRow, [row])
