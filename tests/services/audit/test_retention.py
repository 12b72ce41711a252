"""Kept texts: only by choice, encrypted, shown as a recorded act, gone at the deadline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from services.audit.retention.service import MOST_BYTES, Retention
from services.audit.retention.store import RetainedRow, RetentionKeyRow
from services.audit.retention.vault import MASTER_FILE, Vault
from services.audit.service import AuditLog
from services.db import Database
from services.errors import (
    InvalidInput,
    NotFound,
    NotPermitted,
    VerificationFailed,
    WrongConfiguration,
)
from services.tenants.models import Actor, Limits, Role
from services.tenants.service import Tenants

SYSTEM = Actor.system("test")
START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
ASKED, ANSWERED = b"Kimim ben?", b"Nobody knows."


class Time:
    now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def retention(database: Database, tmp_path: Path, time: Time) -> Retention:
    tenants = Tenants(database)
    for name in ("Acme", "Globex"):
        tenants.create(SYSTEM, name, limits=Limits(tps=1, rpm=1, daily_tokens=1))
    return Retention(database, Vault(tmp_path / "keys"), clock=time)


def someone(role: Role, tenant_id: str = "acme") -> Actor:
    return Actor("user", "u", "U", {tenant_id: frozenset({role})})


def keep(
    retention: Retention, database: Database, request_id: str = "q-1", *, tenant_id: str = "acme"
) -> bool:
    days = retention.live().get(tenant_id, 0)
    with database.write() as session:
        return retention.keep(
            session, tenant_id, request_id, ASKED, ANSWERED, days=days, at=retention._clock()
        )


def actions(database: Database) -> list[str]:
    log = AuditLog(database)
    log.sequence()
    return [entry.action for entry in log.entries(SYSTEM, None, action="retention.")]


def test_nothing_is_kept_unless_the_tenant_chose_it(
    retention: Retention, database: Database
) -> None:
    assert not keep(retention, database)
    retention.choose(someone(Role.ADMIN), "acme", days=7)
    assert retention.live() == {"acme": 7}
    assert keep(retention, database)
    assert not keep(retention, database, "q-2", tenant_id="globex")
    [kept] = retention.kept(someone(Role.MANAGER), "acme")
    assert (kept.request_id, kept.erase_at) == ("q-1", START + timedelta(days=7))


def test_texts_come_back_byte_for_byte_and_reading_them_is_recorded(
    retention: Retention, database: Database
) -> None:
    retention.choose(SYSTEM, "acme", days=7)
    keep(retention, database)
    found = retention.read(someone(Role.ENGINEER), "acme", "q-1")
    assert (found.request, found.response) == (ASKED, ANSWERED)
    assert "Kimim" not in repr(found)
    [sampled] = retention.sample(someone(Role.ENGINEER), "acme", limit=5)
    assert sampled.request == ASKED
    assert actions(database) == ["retention.chosen", "retention.read", "retention.sampled"]


def test_each_act_asks_for_its_permission(retention: Retention, database: Database) -> None:
    retention.choose(SYSTEM, "acme", days=7)
    keep(retention, database)
    for role in (Role.ADMIN, Role.MANAGER, Role.ANNOTATOR, Role.CUSTOMER):
        with pytest.raises(NotPermitted):
            retention.read(someone(role), "acme", "q-1")
        with pytest.raises(NotPermitted):
            retention.sample(someone(role), "acme")
    with pytest.raises(NotPermitted):
        retention.choose(someone(Role.ENGINEER), "acme", days=1)
    with pytest.raises(NotPermitted):
        retention.kept(someone(Role.MANAGER, "globex"), "acme")
    with pytest.raises(NotFound):
        retention.read(someone(Role.ENGINEER, "globex"), "globex", "q-1")
    with pytest.raises(NotFound):
        retention.read(SYSTEM, "acme", "q-9")


def test_the_database_holds_no_text(retention: Retention, database: Database) -> None:
    retention.choose(SYSTEM, "acme", days=7)
    keep(retention, database)
    with database.read() as session:
        box = session.scalars(select(RetainedRow.box)).one()
        wrapped = session.scalars(select(RetentionKeyRow.wrapped)).one()
    assert ASKED not in box
    assert ANSWERED not in box
    assert len(wrapped) == 32 + 40


def test_texts_are_gone_at_their_deadline(
    retention: Retention, database: Database, time: Time
) -> None:
    retention.choose(SYSTEM, "acme", days=2)
    keep(retention, database)
    time.now = START + timedelta(days=1)
    keep(retention, database, "q-2")
    assert retention.erase_due() == 0
    time.now = START + timedelta(days=2)
    with pytest.raises(NotFound):
        retention.read(SYSTEM, "acme", "q-1")
    assert retention.erase_due() == 1
    assert [one.request_id for one in retention.kept(SYSTEM, "acme")] == ["q-2"]
    assert retention.erase_due() == 0
    assert actions(database).count("retention.erased") == 1


def test_fewer_days_and_none_hold_for_what_is_kept(
    retention: Retention, database: Database, time: Time
) -> None:
    retention.choose(SYSTEM, "acme", days=30)
    keep(retention, database)
    time.now = START + timedelta(days=3)
    keep(retention, database, "q-2")
    retention.choose(SYSTEM, "acme", days=2)
    assert [one.request_id for one in retention.kept(SYSTEM, "acme")] == ["q-2"]
    retention.choose(SYSTEM, "acme", days=0)
    assert retention.kept(SYSTEM, "acme") == []
    with database.read() as session:
        assert session.scalar(select(RetentionKeyRow.id)) is None


def test_what_a_gateway_keeps_a_moment_too_late_is_erased(
    retention: Retention, database: Database
) -> None:
    retention.choose(SYSTEM, "acme", days=0)
    with database.write() as session:
        retention.keep(session, "acme", "q-1", ASKED, ANSWERED, days=5, at=START)
    assert retention.erase_due() == 1


def test_texts_that_are_too_large_are_not_kept(retention: Retention, database: Database) -> None:
    with database.write() as session:
        assert not retention.keep(session, "acme", "q-1", bytes(MOST_BYTES), b"x", days=1, at=START)


def test_an_exchanged_or_changed_text_is_refused(retention: Retention, database: Database) -> None:
    retention.choose(SYSTEM, "acme", days=7)
    keep(retention, database)
    keep(retention, database, "q-2")
    with database.write() as session:
        other = session.scalar(select(RetainedRow.box).where(RetainedRow.request_id == "q-2"))
        session.execute(
            update(RetainedRow).where(RetainedRow.request_id == "q-1").values(box=other)
        )
    with pytest.raises(NotFound, match="another's"):
        retention.read(SYSTEM, "acme", "q-1")
    with database.write() as session:
        session.execute(update(RetainedRow).values(box=bytes(80)))
    with pytest.raises(VerificationFailed, match="found it changed"):
        retention.read(SYSTEM, "acme", "q-2")


def test_the_master_key_is_its_owners_alone(
    retention: Retention, database: Database, tmp_path: Path, time: Time
) -> None:
    retention.choose(SYSTEM, "acme", days=7)
    keep(retention, database)
    path = tmp_path / "keys" / MASTER_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(WrongConfiguration, match="found 0644"):
        Retention(database, Vault(tmp_path / "keys"), clock=time).read(SYSTEM, "acme", "q-1")
    path.chmod(0o600)
    path.write_bytes(bytes(32))
    with pytest.raises(VerificationFailed, match="master key"):
        Retention(database, Vault(tmp_path / "keys"), clock=time).read(SYSTEM, "acme", "q-1")
    assert "erase" not in "".join(actions(database))


def test_days_out_of_range_are_refused(retention: Retention, database: Database) -> None:
    for days in (-1, 3651):
        with pytest.raises(InvalidInput, match="days"):
            retention.choose(SYSTEM, "acme", days=days)
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM retention_choices")) == 0
