import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from services.attestation.jwks import public_jwks, thumbprint, trusted_keys
from services.attestation.keys import PURPOSES, Key, Keyring
from services.attestation.notes import note_key_id, note_opener, note_signer, open_signed_note
from services.attestation.strict import to_base64url
from services.audit.service import AuditLog
from services.db import Database
from services.errors import VerificationFailed, WrongConfiguration
from tests.services.attestation.conftest import NOW, PUBLIC, jwk
from tests.services.audit.conftest import append

SMALL_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
    "01" + "00" * 30 + "80",
    "ec" + "ff" * 31,
]


def test_the_published_key_has_its_published_names(key: Key) -> None:
    assert key.public == PUBLIC
    # RFC 8037, appendix A.3.
    assert key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert note_key_id("console.example/receipts", PUBLIC).hex() == "12c1845c"


def test_the_published_key_signs_as_published(key: Key) -> None:
    # RFC 8032, section 7.1, test 1: the empty message.
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


def test_a_key_is_made_on_first_use_for_its_owner_only(keyring: Keyring, tmp_path: Path) -> None:
    key = keyring.key("receipt")
    folder = tmp_path / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "receipt.key.json").stat().st_mode) == 0o600
    assert keyring.key("receipt") is key
    assert Keyring(folder).key("receipt") == key
    assert keyring.key("checkpoint") != key
    assert "_signer" not in repr(key)


def test_the_public_keys_hold_no_secret(keyring: Keyring, tmp_path: Path) -> None:
    jwks = keyring.jwks()
    assert [key["purpose"] for key in jwks["keys"]] == list(PURPOSES)
    secret = json.loads((tmp_path / "keys" / "receipt.key.json").read_text())["seed"]
    assert secret not in json.dumps(jwks)
    assert all("d" not in key for key in jwks["keys"])
    assert set(trusted_keys(jwks)) == {keyring.key(purpose).kid for purpose in PURPOSES}


def test_reading_public_keys_makes_none(tmp_path: Path) -> None:
    assert public_jwks(tmp_path / "keys") == {"keys": []}
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(("name", "mode"), [("", 0o750), ("receipt.key.json", 0o640)])
def test_keys_that_others_can_read_are_refused(
    keyring: Keyring, tmp_path: Path, name: str, mode: int
) -> None:
    keyring.key("receipt")
    (tmp_path / "keys" / name).chmod(mode)
    with pytest.raises(WrongConfiguration, match=f"found {mode:04o}"):
        Keyring(tmp_path / "keys").key("receipt")


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"seed": "AAAA", "kid": "x", "purpose": "receipt"}', '{"seed": "%%"}'],
)
def test_a_damaged_key_is_refused_without_showing_it(
    keyring: Keyring, tmp_path: Path, content: str
) -> None:
    keyring.key("receipt")
    path = tmp_path / "keys" / "receipt.key.json"
    path.write_text(content)
    with pytest.raises(WrongConfiguration, match="expected a signing key, found it damaged"):
        keyring.key("receipt")


def test_an_exchanged_key_is_refused(keyring: Keyring, tmp_path: Path) -> None:
    keyring.jwks()
    folder = tmp_path / "keys"
    (folder / "receipt.key.json").write_bytes((folder / "checkpoint.key.json").read_bytes())
    with pytest.raises(WrongConfiguration, match="found another"):
        keyring.key("receipt")


def test_rotation_keeps_the_old_public_key_with_its_end(tmp_path: Path) -> None:
    times = iter([NOW, NOW + timedelta(days=1), NOW + timedelta(days=2)])
    keyring = Keyring(tmp_path / "keys", clock=lambda: next(times))
    other_process = Keyring(tmp_path / "keys")
    old = keyring.key("receipt")
    assert other_process.key("receipt") == old
    new = keyring.rotate("receipt")
    assert new.kid != old.kid
    assert other_process.key("receipt") == new
    found = trusted_keys(public_jwks(tmp_path / "keys"))
    assert found[old.kid].not_after == NOW + timedelta(days=1) == found[new.kid].not_before
    assert found[new.kid].not_after is None
    secret = json.loads((tmp_path / "keys" / "receipt.key.json").read_text())
    assert secret["kid"] == new.kid


def test_many_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        kids = set(pool.map(lambda _: Keyring(tmp_path / "k").key("receipt").kid, range(8)))
    assert len(kids) == 1
    assert [key["kid"] for key in public_jwks(tmp_path / "k")["keys"]] == list(kids)


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_keys_of_small_order_are_refused(key: Key, public: str) -> None:
    raw = bytes.fromhex(public)
    weak = jwk(key, x=to_base64url(raw), kid=thumbprint(raw))
    with pytest.raises(VerificationFailed, match="full order"):
        trusted_keys({"keys": [weak]})


@pytest.mark.parametrize(
    "changed",
    [
        {"kid": "another"},
        {"kid": None},
        {"x": "AAAA"},
        {"x": None},
        {"x": to_base64url(PUBLIC) + "="},
        {"not_before": None},
        {"not_before": "yesterday"},
        {"not_after": "2026-11-21"},
    ],
)
def test_a_malformed_key_set_is_refused(key: Key, changed: dict[str, object]) -> None:
    with pytest.raises(VerificationFailed, match="expected"):
        trusted_keys({"keys": [jwk(key, **changed)]})


@pytest.mark.parametrize("jwks", [None, [], {}, {"keys": {}}, "keys"])
def test_what_is_no_key_set_is_refused(jwks: object) -> None:
    with pytest.raises(VerificationFailed, match="key set: expected"):
        trusted_keys(jwks)


def test_keys_of_other_kinds_are_passed_over() -> None:
    assert trusted_keys({"keys": [{"kty": "RSA"}, {"kty": "OKP", "crv": "X25519"}, 1]}) == {}


def test_notes_are_signed_and_read_back_across_a_rotation(keyring: Keyring) -> None:
    sign, read = note_signer(keyring, "log.example"), note_opener(keyring, "log.example")
    text = "log.example\n3\nAAAA\n"
    before = sign(text)
    keyring.rotate("checkpoint")
    after = sign(text)
    assert before != after
    assert read(before) == read(after) == text
    witness = "— witness.example " + to_base64url(bytes(68)) + "\n"
    assert read(before + witness) == text


def test_notes_that_do_not_hold_are_refused(keyring: Keyring, tmp_path: Path) -> None:
    sign = note_signer(keyring, "log.example")
    note = sign("log.example\n3\nAAAA\n")
    other = Keyring(tmp_path / "other").jwks()
    receipt_only = {"keys": [k for k in keyring.jwks()["keys"] if k["purpose"] == "receipt"]}
    for bad, jwks in (
        (note.replace("3", "4", 1), keyring.jwks()),
        (note, other),
        (note, receipt_only),
        (note.replace("— log", "— Log"), keyring.jwks()),
        (note[:-10] + "\n", keyring.jwks()),
        ("log.example\n3\nAAAA\n", keyring.jwks()),
        ("", keyring.jwks()),
    ):
        with pytest.raises(VerificationFailed):
            open_signed_note(bad, "log.example", jwks)


def test_the_audit_log_is_checkpointed_with_real_keys(keyring: Keyring, database: Database) -> None:
    origin = "param-console.test"
    log = AuditLog(
        database,
        origin=origin,
        sign_note=note_signer(keyring, origin),
        open_note=note_opener(keyring, origin),
    )
    append(log, database, 5)
    first = log.checkpoint()
    keyring.rotate("checkpoint")
    append(log, database, 2, first=5)
    assert log.checkpoint() is not None
    assert first is not None
    assert log.verify(outside=[first.note]).checkpoints == 3
    with pytest.raises(VerificationFailed, match="does not"):
        log.verify(outside=[first.note.replace("\n5\n", "\n4\n")])
