from typing import Any

import pytest
from sqlalchemy import select

from services.attestation.keys import Keyring
from services.attestation.receipts import sign
from services.attestation.service import Receipts, StoredReceipt
from services.audit.outbox import OutboxRow
from services.audit.service import AuditLog
from services.db import Database
from services.errors import NotFound, NotPermitted, VerificationFailed
from services.tenants.models import Actor, Limits, Role
from services.tenants.service import Tenants
from tests.services.attestation.conftest import NOW, REQUEST, RESPONSE, SALT, entry_event, facts

SYSTEM = Actor.system("test")


def someone(role: Role, tenant_id: str = "acme", actor_id: str = "u") -> Actor:
    return Actor(kind="user", id=actor_id, name="x", grants={tenant_id: frozenset({role})})


ASKER = someone(Role.CUSTOMER, actor_id="key:k-1")


@pytest.fixture
def receipts(database: Database, keyring: Keyring) -> Receipts:
    """One receipt, r-1, issued to key k-1 of acme, as the gateway does it."""
    tenants = Tenants(database)
    for name in ("Acme", "Globex"):
        tenants.create(SYSTEM, name, limits=Limits(tps=1, rpm=1, daily_tokens=1))
    service = Receipts(database, keyring)
    with database.write() as session:
        entry = AuditLog(database).append_now(session, [entry_event(facts())])[0]
        envelope = sign(
            facts(audit_seq=entry.seq, audit_leaf_hash=entry.leaf_hash), keyring.key("receipt")
        )
        service.store(session, StoredReceipt("r-1", "acme", "q-1", "key:k-1", envelope, SALT, NOW))
    return service


def test_a_receipt_of_another_tenant_is_not_there(receipts: Receipts) -> None:
    for actor in (someone(Role.CUSTOMER, "globex"), someone(Role.MANAGER, "globex")):
        with pytest.raises(NotFound):
            receipts.get(actor, "r-1")
        with pytest.raises(NotFound):
            receipts.forget(actor, "r-1")
    with pytest.raises(NotPermitted):
        receipts.recent(someone(Role.MANAGER, "globex"), "acme")


def test_annotators_read_no_receipts(receipts: Receipts) -> None:
    with pytest.raises(NotFound):
        receipts.get(someone(Role.ANNOTATOR), "r-1")
    for role in (Role.ANNOTATOR, Role.CUSTOMER):
        with pytest.raises(NotPermitted):
            receipts.recent(someone(role), "acme")


def test_only_the_one_who_asked_gets_the_salt(receipts: Receipts) -> None:
    assert receipts.get(ASKER, "r-1").salt == SALT
    assert receipts.get(SYSTEM, "r-1").salt == SALT
    for role in (Role.CUSTOMER, Role.MANAGER, Role.ENGINEER, Role.ADMIN):
        stored = receipts.get(someone(role), "r-1")
        assert stored.salt is None
        assert stored.envelope["payloadType"] == "application/vnd.in-toto+json"
    assert SALT.hex() not in repr(receipts.get(ASKER, "r-1"))
    assert [stored.salt for stored in receipts.recent(someone(Role.MANAGER), "acme")] == [None]


def test_an_issued_receipt_verifies_from_its_document(receipts: Receipts) -> None:
    document = receipts.get(ASKER, "r-1").document()
    assert set(document) == {"receipt_id", "envelope", "salt"}
    found = receipts.verify(
        document["envelope"],
        request=REQUEST,
        response=RESPONSE,
        salt=bytes.fromhex(document["salt"]),
    )
    assert [(check.name, check.ok) for check in found.checks] == [
        ("form", True), ("signature", True), ("key", True),
        ("audit", True), ("request", True), ("response", True),
    ]  # fmt: skip


def test_a_receipt_that_the_log_does_not_know_fails_its_check(
    receipts: Receipts, keyring: Keyring
) -> None:
    for changed in ({"audit_seq": 2}, {"audit_leaf_hash": "00" * 32}):
        fields: dict[str, Any] = {"audit_seq": 1, **changed}
        found = receipts.verify(sign(facts(**fields), keyring.key("receipt")))
        assert [check.name for check in found.checks if not check.ok] == ["audit"]


def test_a_foreign_receipt_is_refused(receipts: Receipts, tmp_path: Any) -> None:
    stranger = Keyring(tmp_path / "stranger", clock=lambda: NOW).key("receipt")
    with pytest.raises(VerificationFailed):
        receipts.verify(sign(facts(), stranger))


def test_a_forgotten_salt_leaves_a_valid_receipt(receipts: Receipts, database: Database) -> None:
    with pytest.raises(NotPermitted):
        receipts.forget(someone(Role.CUSTOMER), "r-1")
    receipts.forget(ASKER, "r-1")
    receipts.forget(ASKER, "r-1")
    stored = receipts.get(ASKER, "r-1")
    assert stored.document()["salt"] is None
    assert receipts.verify(stored.envelope).holds
    with database.read() as session:
        rows = session.scalars(select(OutboxRow).where(OutboxRow.action == "receipt.forgotten"))
        assert [row.subject for row in rows] == ["receipt:r-1"]


def test_an_unknown_receipt_is_not_found(receipts: Receipts) -> None:
    with pytest.raises(NotFound):
        receipts.get(SYSTEM, "nothing")
