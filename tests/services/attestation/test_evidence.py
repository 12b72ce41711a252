"""Time stamps by a real authority, bundles of real receipts, and what keeps both up."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services import bootstrap
from services import settings as configuration
from services.attestation import housekeeping
from services.attestation.bundle import NO_STAMP, UNCHECKED_STAMP
from services.attestation.bundling import Further
from services.attestation.files import read_file
from services.attestation.receipts import sign
from services.attestation.service import StoredReceipt
from services.attestation.statements import open_statement, sign_statement
from services.attestation.timestamps import Timestamps, check_stamp, load_roots
from services.audit import record
from services.bootstrap import Services
from services.db import Database
from services.errors import NotFound, Unavailable, VerificationFailed, WrongConfiguration
from services.tenants.models import Actor, Limits, Role
from tests.fakes.tsa import Authority, running
from tests.services.attestation.conftest import NOW, REQUEST, RESPONSE, SALT, entry_event, facts
from tests.services.audit.conftest import append
from tests.support import require

SYSTEM = Actor.system("test")
MANAGER = Actor("user", "m", "M", {"acme": frozenset({Role.MANAGER})})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    require(shutil.which("openssl") is not None, "openssl")
    with running(tmp_path_factory.mktemp("tsa")) as found:
        yield found


@pytest.fixture
def services(database: Database, tmp_path: Path, authority: Authority) -> Iterator[Services]:
    """An installation with an authority and a second place for checkpoints."""
    authority.mode = "good"
    (tmp_path / "elsewhere").mkdir()
    built = bootstrap.build(
        configuration.load(
            {
                "PARAM_HOME": str(tmp_path / "home"),
                "PARAM_DATABASE_URL": database.url.render_as_string(hide_password=False),
                "PARAM_TIMESTAMP_URL": authority.url,
                "PARAM_TIMESTAMP_ROOTS": str(authority.root),
                "PARAM_CHECKPOINT_COPY": str(tmp_path / "elsewhere"),
            }
        )
    )
    for name in ("Acme", "Globex"):
        built.tenants.create(SYSTEM, name, limits=Limits(tps=1, rpm=1, daily_tokens=1))
    yield built
    built.close()


def issue(services: Services) -> str:
    """One receipt of acme, as the gateway issues it."""
    now = datetime.now(UTC)
    told = facts(completed_at=now, received_at=now)
    with services.db.write() as session:
        [entry] = services.audit.append_now(session, [entry_event(told)])
        told = replace(told, audit_seq=entry.seq, audit_leaf_hash=entry.leaf_hash)
        envelope = sign(told, services.keyring.key("receipt"))
        kept = StoredReceipt("r-1", "acme", told.request_id, "key:k-1", envelope, SALT, NOW)
        services.receipts.store(session, kept)
    return "r-1"


def test_a_bundle_is_checked_by_those_who_have_only_the_keys(
    services: Services, authority: Authority
) -> None:
    issue(services)
    services.audit.sequence()
    services.audit.checkpoint()
    assert services.evidence.housekeeping.once() == {}
    append(services.audit, services.db, 3, first=90)
    made = services.evidence.bundles.make(SYSTEM, "r-1")
    data = json.dumps(made).encode()
    roots = load_roots(authority.root)
    jwks = services.keyring.jwks()
    found = read_file(data).verify(jwks, request=REQUEST, response=RESPONSE, roots=roots)
    assert found.holds
    names = [check.name for check in found.checks]
    assert names == [
        "form", "signature", "key", "checkpoint", "entry", "inclusion", "request", "response",
        "timestamp",
    ]  # fmt: skip
    assert not {NO_STAMP, UNCHECKED_STAMP} & set(found.not_established)
    assert UNCHECKED_STAMP in read_file(data).verify(jwks).not_established
    assert services.receipts.verify_document(read_file(data)).holds


def test_a_bundle_is_for_those_who_may_read_the_receipt(services: Services) -> None:
    issue(services)
    stranger = Actor("user", "x", "X", {"globex": frozenset({Role.MANAGER})})
    with pytest.raises(NotFound):
        services.evidence.bundles.make(stranger, "r-1")
    made = services.evidence.bundles.make(MANAGER, "r-1")
    assert made["salt"] is None
    assert made["log"]["timestamp"] is None
    assert read_file(json.dumps(made).encode()).verify(services.keyring.jwks()).holds


def test_a_bundle_after_the_checkpoint_key_was_revoked_has_a_fresh_checkpoint(
    services: Services,
) -> None:
    issue(services)
    services.audit.checkpoint()
    services.evidence.housekeeping.once()
    kid = services.keyring.key("checkpoint").kid
    services.evidence.signing_keys.revoke(SYSTEM, kid, reason="stolen")
    made = services.evidence.bundles.make(SYSTEM, "r-1")
    assert read_file(json.dumps(made).encode()).verify(services.keyring.jwks()).holds


def test_statements_go_along_with_their_place_in_the_log(services: Services) -> None:
    issue(services)
    envelope = sign_statement(
        "https://param-console.dev/rollout-event/v1",
        {"support-3fa2c1d09b7e": "3f" * 32},
        {"state": "promoted"},
        services.keyring.key("event"),
    )
    digest = open_statement(envelope, services.keyring.jwks())[0].payload_sha256
    with services.db.write() as session:
        record(
            session, SYSTEM, "rollout.promoted", "rollout:ro-1", tenant_id="acme",
            details={"statement": digest},
        )  # fmt: skip
    services.audit.sequence()
    services.audit.checkpoint()
    bundles = services.evidence.bundles
    bundles._custody = lambda _facts: [Further("promotion", envelope, "rollout:ro-1")]
    made = bundles.make(SYSTEM, "r-1")
    assert made["statements"][0]["log"] is not None
    found = read_file(json.dumps(made).encode()).verify(services.keyring.jwks())
    assert found.holds
    assert found.checks[-1].name == "statements"


def test_a_stamp_is_taken_once_an_interval_and_openssl_takes_it_too(
    services: Services, authority: Authority
) -> None:
    append(services.audit, services.db, 2)
    made = services.audit.checkpoint()
    assert made is not None
    before = authority.asked
    for _ in range(2):
        assert services.evidence.housekeeping.once() == {}
    assert authority.asked == before + 1
    stamp = services.evidence.timestamps.newest()
    assert stamp is not None
    assert stamp.size == made.size
    assert abs(stamp.said_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert authority.accepts(made.note.encode(), stamp.response)
    assert not authority.accepts(b"another", stamp.response)
    with pytest.raises(VerificationFailed, match="over something else"):
        check_stamp(stamp.response, b"another")


def test_an_authority_that_fails_delays_nothing(services: Services, authority: Authority) -> None:
    append(services.audit, services.db, 1)
    services.audit.checkpoint()
    for mode in ("down", "garbage", "other"):
        authority.mode = mode
        problems = services.evidence.housekeeping.once()
        assert set(problems) == {"time"}, mode
    copied = services.evidence.outside.newest_copy()
    assert copied is not None
    assert copied.size == 1
    assert services.evidence.timestamps.newest() is None


@pytest.mark.parametrize("patience_s", [0.05, 60.0])
def test_the_end_waits_for_what_is_under_way_and_not_for_ever(
    services: Services, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    monkeypatch.setattr(housekeeping, "PATIENCE_S", patience_s)
    append(services.audit, services.db, 1)
    services.audit.checkpoint()
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def copy(_checkpoint: object) -> None:
        began.set()
        assert may_end.wait(30)
        ended.set()

    monkeypatch.setattr(services.evidence.outside, "copy", copy)
    keeper = services.evidence.housekeeping
    keeper.start()
    assert began.wait(30)
    stopping = threading.Thread(target=keeper.stop)
    stopping.start()
    stopping.join(0.2 if patience_s > 1 else 30)
    assert stopping.is_alive() is (patience_s > 1)
    may_end.set()
    assert ended.wait(30)
    stopping.join(30)
    monkeypatch.setattr(housekeeping, "PATIENCE_S", 60.0)
    keeper.stop()
    assert "evidence" not in {thread.name for thread in threading.enumerate()}


def test_an_authority_under_another_root_is_refused(
    services: Services, authority: Authority, tmp_path: Path
) -> None:
    append(services.audit, services.db, 1)
    made = services.audit.checkpoint()
    assert made is not None
    (tmp_path / "other").mkdir()
    strangers = load_roots(Authority(tmp_path / "other").root)
    timestamps = Timestamps(services.db, authority.url, roots=strangers)
    with pytest.raises(VerificationFailed, match="trusted root"):
        timestamps.stamp(made)
    with pytest.raises(Unavailable):
        Timestamps(services.db, "http://127.0.0.1:9/tsr").stamp(made)
    with pytest.raises(WrongConfiguration, match="PEM"):
        load_roots(tmp_path / "nothing.pem")


def test_a_contradiction_outside_is_told_once_in_the_log(
    services: Services, tmp_path: Path
) -> None:
    append(services.audit, services.db, 2)
    services.audit.checkpoint()
    services.evidence.housekeeping.once()
    (tmp_path / "elsewhere" / "checkpoint").write_text("another thing\n")
    append(services.audit, services.db, 1, first=2)
    services.audit.checkpoint()
    for _ in range(2):
        assert set(services.evidence.housekeeping.once()) == {"copy"}
    services.audit.sequence()
    told = services.audit.entries(SYSTEM, None, action="audit.contradicted")
    assert len(told) == 1
