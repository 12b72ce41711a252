from pathlib import Path

import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow, record
from services.db import Database, new_id
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
