"""Rotation and revocation as logged acts; keys from files and from a key service."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from services.attestation.jwks import public_jwks, trusted_keys
from services.attestation.keys import Key, Keyring, read_seed
from services.attestation.notes import note_opener, note_signer, open_signed_note
from services.attestation.receipts import sign
from services.attestation.service import Receipts
from services.attestation.signers import KeyService
from services.attestation.signing_keys import SigningKeys
from services.attestation.strict import to_base64url
from services.audit.models import KeyRevoked
from services.audit.service import AuditLog
from services.db import Database
from services.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    NotPermitted,
    Unavailable,
    VerificationFailed,
    WrongConfiguration,
)
from services.tenants.models import EVERY_TENANT, Actor, Role
from tests.services.attestation.conftest import entry_event, facts
from tests.services.audit.conftest import append

SYSTEM = Actor.system("test")
ROOT = Actor("user", "root", "Root", {EVERY_TENANT: frozenset({Role.ADMIN})})


@pytest.fixture
def keys(database: Database, keyring: Keyring) -> SigningKeys:
    return SigningKeys(database, keyring)


def told(database: Database) -> list[tuple[str, str]]:
    log = AuditLog(database)
    log.sequence()
    entries = log.entries(SYSTEM, None, action="signing_key.")
    return [(entry.action.partition(".")[2], entry.details["purpose"]) for entry in entries]


def test_every_key_has_its_entry_once(keys: SigningKeys, database: Database) -> None:
    assert keys.reconcile() == 3
    assert keys.reconcile() == 0
    keys.rotate(ROOT, "event")
    assert keys.reconcile() == 0
    assert told(database) == [
        ("made", "receipt"), ("made", "checkpoint"), ("made", "event"), ("rotated", "event"),
    ]  # fmt: skip


def test_only_who_administers_the_installation_changes_keys(keys: SigningKeys) -> None:
    kid = keys.list()[0].kid
    for role in (Role.ADMIN, Role.ENGINEER, Role.MANAGER):
        actor = Actor("user", "u", "U", {"acme": frozenset({role})})
        with pytest.raises(NotPermitted):
            keys.rotate(actor, "receipt")
        with pytest.raises(NotPermitted):
            keys.revoke(actor, kid, reason="x")


def test_a_revoked_key_counts_up_to_its_entry_and_signing_goes_on(
    keys: SigningKeys, keyring: Keyring, database: Database
) -> None:
    receipts, log = Receipts(database, keyring), AuditLog(database)
    old = keyring.key("receipt")

    def issued(key: Key, number: int) -> dict[str, Any]:
        told = facts(request_id=f"q-{number}")
        with database.write() as session:
            [entry] = log.append_now(session, [entry_event(told)])
        return sign(
            facts(request_id=told.request_id, audit_seq=entry.seq, audit_leaf_hash=entry.leaf_hash),
            key,
        )

    before = issued(old, 1)
    revoked = keys.revoke(ROOT, old.kid, reason="  left on\na train ")
    assert (revoked.last_valid_index, revoked.revoked_reason) == (1, "left on a train")
    assert keyring.key("receipt") != old
    after = issued(old, 2)
    assert receipts.verify(before).holds
    assert [check.name for check in receipts.verify(after).checks if not check.ok] == ["key"]
    assert receipts.verify(issued(keyring.key("receipt"), 3)).holds
    assert ("revoked", "receipt") in told(database)
    with pytest.raises(Conflict, match="revoked before"):
        keys.revoke(ROOT, old.kid, reason="again")


def test_revocations_that_make_no_sense_are_refused(keys: SigningKeys) -> None:
    kid = keys.list()[0].kid
    with pytest.raises(NotFound):
        keys.revoke(ROOT, "nothing", reason="x")
    for reason in ("", " ", "x" * 201):
        with pytest.raises(InvalidInput, match="reason"):
            keys.revoke(ROOT, kid, reason=reason)
    with pytest.raises(InvalidInput, match="last valid entry"):
        keys.revoke(ROOT, kid, reason="x", last_valid_index=99)
    assert all(key.last_valid_index is None for key in keys.list())


def test_a_revoked_checkpoint_key_proves_nothing_new_and_the_log_still_verifies(
    keys: SigningKeys, keyring: Keyring, database: Database
) -> None:
    origin = "test.log"
    log = AuditLog(
        database, origin=origin,
        sign_note=note_signer(keyring, origin), open_note=note_opener(keyring, origin),
    )  # fmt: skip
    append(log, database, 3)
    early = log.checkpoint()
    append(log, database, 3, first=3)
    late = log.checkpoint()
    assert early is not None
    assert late is not None
    keys.revoke(ROOT, keyring.key("checkpoint").kid, reason="stolen", last_valid_index=4)
    log.sequence()
    log.checkpoint()
    assert log.verify(outside=[early.note]).checkpoints == 3
    with pytest.raises(KeyRevoked):
        log.verify(outside=[late.note])
    with pytest.raises(KeyRevoked, match="ask for a fresh one"):
        open_signed_note(early.note, origin, keyring.jwks())


def test_a_killed_rotation_leaves_no_key_that_signs_after_its_end(
    keyring: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = keyring.key("receipt")

    def killed(*_words: Any) -> None:
        raise KeyboardInterrupt

    for step in ("_retire", "_path"):
        with monkeypatch.context() as patch:
            patch.setattr(keyring, step, killed)
            with pytest.raises(KeyboardInterrupt):
                keyring._make("receipt")
        present = Keyring(tmp_path / "keys").key("receipt")
        known = trusted_keys(public_jwks(tmp_path / "keys"))
        assert known[present.kid].not_after is None
    assert old.kid in known


def test_a_key_made_elsewhere_takes_over(keys: SigningKeys, keyring: Keyring) -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    new = keys.rotate(ROOT, "receipt", seed=read_seed(pem, "key.pem"))
    assert keyring.key("receipt").public == private.public_key().public_bytes_raw()
    with pytest.raises(Conflict, match="known here already"):
        keys.rotate(ROOT, "receipt", seed=private.private_bytes_raw())
    assert keys.list()[0].kid == new.kid
    other = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for data in (b"", b"no pem", other, pem[:60]):
        with pytest.raises(WrongConfiguration, match=r"key\.pem: expected"):
            read_seed(data, "key.pem")


@pytest.fixture
def service() -> Iterator[dict[str, Any]]:
    """A key service on loopback: one key, which can be exchanged, and what it was asked."""
    state: dict[str, Any] = {"key": Key.from_seed("event", bytes(32)), "mode": "good", "asked": []}

    class Handler(BaseHTTPRequestHandler):
        def _json(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            state["asked"].append((self.path, self.headers["authorization"]))
            self._json(200, {"x": to_base64url(state["key"].public)})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if state["mode"] == "down":
                self._json(503, {})
                return
            signature = state["key"].sign(base64.b64decode(body["message"]))
            self._json(200, {"signature": base64.b64encode(signature).decode()})

        def log_message(self, *_words: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state["url"] = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_key_service_signs_and_its_rotation_is_noticed(
    service: dict[str, Any], tmp_path: Path
) -> None:
    keyring = Keyring(
        tmp_path / "keys", service=KeyService(service["url"], "secret"), served=("event",)
    )
    first = keyring.key("event")
    assert first.public == service["key"].public
    assert first.sign(b"x") == service["key"].sign(b"x")
    assert service["asked"] == [("/keys/event", "Bearer secret")]
    assert not (tmp_path / "keys" / "event.key.json").exists()
    with pytest.raises(Conflict, match="key service"):
        keyring.rotate("event")
    service["key"] = Key.from_seed("event", b"\x01" * 32)
    with pytest.raises(Unavailable, match="one that does not"):
        keyring.key("event").sign(b"x")
    second = keyring.key("event")
    assert second.sign(b"x") == service["key"].sign(b"x")
    known = trusted_keys(public_jwks(tmp_path / "keys"))
    assert known[first.kid].not_after is not None
    assert known[second.kid].not_after is None
    service["mode"] = "down"
    with pytest.raises(Unavailable, match="key service: expected an answer"):
        second.sign(b"x")


def test_a_service_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    absent = KeyService("http://127.0.0.1:9", "secret")
    keyring = Keyring(tmp_path / "keys", service=absent, served=("checkpoint",))
    with pytest.raises(Unavailable) as raised:
        keyring.key("checkpoint")
    assert "secret" not in str(raised.value)
    assert keyring.key("receipt").purpose == "receipt"


def test_a_key_set_with_a_broken_revocation_is_refused(keyring: Keyring) -> None:
    jwks = keyring.jwks()
    for changed in (
        {"last_valid_index": -1},
        {"last_valid_index": True},
        {"last_valid_index": "3"},
        {"revoked_reason": "stolen"},
        {"last_valid_index": 1, "revoked_reason": 7},
    ):
        bad = {"keys": [{**jwks["keys"][0], **changed}]}
        with pytest.raises(VerificationFailed, match="last_valid_index|revoked_reason"):
            trusted_keys(bad)
