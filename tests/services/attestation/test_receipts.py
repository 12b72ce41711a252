import base64
import dataclasses
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from services.attestation.dsse import IN_TOTO, open_envelope, pae, sign_envelope
from services.attestation.files import load_jwks, read_file, verify_file
from services.attestation.keys import Key, Keyring
from services.attestation.receipts import (
    NOT_ESTABLISHED,
    commitment,
    facts_of,
    sign,
    statement,
    verify,
)
from services.errors import InvalidInput, NotFound, VerificationFailed
from tests.services.attestation.conftest import (
    NOW,
    PUBLIC,
    REQUEST,
    RESPONSE,
    SALT,
    SEED,
    facts,
    jwk,
)

KEY = Key.from_seed("receipt", SEED)
JWKS = {"keys": [jwk(KEY)]}
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def resigned(found: Any) -> dict[str, Any]:
    """An envelope around any payload, rightly signed."""
    payload = found if isinstance(found, bytes) else json.dumps(found).encode()
    return sign_envelope(payload, IN_TOTO, KEY)


def changed(path: str, value: Any) -> dict[str, Any]:
    """A statement in which one field is another, or gone for `...`."""
    found = statement(facts())
    inner: Any = found
    *parents, last = path.split("/")
    for name in parents:
        inner = inner[int(name) if name.isdigit() else name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return found


def test_the_published_vectors_of_the_envelope_hold() -> None:
    # secure-systems-lab/dsse, protocol.md.
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected
    # Made with another program and checked in a browser's WebCrypto.
    payload = (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"seq":"41"},"predicateType":'
        b'"https://console.example/inference-receipt/v1","subject":[{"digest":{"sha256":'
        b'"8aba29fc5c2c6308a9d15a9aceaf350a78e942276ccbaa90926ec08400dfea50"},"name":"output"}]}'
    )
    envelope = sign_envelope(payload, IN_TOTO, KEY)
    assert envelope["signatures"] == [
        {
            "keyid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "sig": "6BTBcLLhCzdsgWJXnnGp4k2wE8rtt89Bo4X0PF3KNYsgQuZL9wzOkPEWsq/ixlt3hCew0GRkaen3J/gJ"
            "4Ac/Dw==",
        }
    ]
    leaf = sha256(b"\x00" + rfc8785.dumps(envelope)).hexdigest()
    assert leaf == "9371c93869b2200c52f2386bab4beb634e8acbe2961541eeda6e397627d11490"
    assert open_envelope(envelope, {KEY.kid: PUBLIC}, "receipt") == payload


def test_a_second_implementation_agrees() -> None:
    envelope = sign(facts(), KEY)
    payload = base64.b64decode(envelope["payload"])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload)
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(signature, message)
    assert payload == rfc8785.dumps(statement(facts()))


def test_a_receipt_holds_and_says_what_it_does_not_show() -> None:
    found = verify(sign(facts(), KEY), JWKS, request=REQUEST, response=RESPONSE, salt=SALT)
    assert found.holds
    assert [check.name for check in found.checks] == [
        "form", "signature", "key", "request", "response",
    ]  # fmt: skip
    assert found.kid == KEY.kid
    assert tuple(found.not_established) == NOT_ESTABLISHED
    assert facts_of(found.statement) == facts()


def test_a_receipt_can_be_checked_without_the_texts() -> None:
    found = verify(sign(facts(), KEY), JWKS)
    assert [check.name for check in found.checks] == ["form", "signature", "key"]
    assert found.holds


@pytest.mark.parametrize(
    ("texts", "failed"),
    [
        ({"request": REQUEST + b" ", "salt": SALT}, "request"),
        ({"request": RESPONSE, "salt": SALT}, "request"),
        ({"response": REQUEST, "salt": SALT}, "response"),
        ({"response": RESPONSE, "salt": bytes(32)}, "response"),
        ({"response": RESPONSE}, "response"),
        ({"response": RESPONSE, "salt": b"short"}, "response"),
    ],
)
def test_another_text_is_a_failed_check(texts: dict[str, bytes], failed: str) -> None:
    found = verify(sign(facts(), KEY), JWKS, **texts)  # type: ignore[arg-type]
    assert [check.name for check in found.checks if not check.ok] == [failed]
    assert not found.holds


def test_commitments_are_salted_and_separated() -> None:
    digest = sha256(REQUEST).digest()
    expected = sha256(b"param.v1/request\x00" + SALT + digest).hexdigest()
    assert commitment("request", SALT, digest) == expected
    assert commitment("response", SALT, digest) != expected
    assert commitment("request", bytes(32), digest) != expected
    for salt, data in ((b"", digest), (SALT, REQUEST)):
        with pytest.raises(ValueError, match="32 bytes"):
            commitment("request", salt, data)


_ENVELOPE = sign(facts(), KEY)
_SIZE = len(base64.b64decode(_ENVELOPE["payload"]))


@settings(max_examples=200)
@given(position=st.integers(0, _SIZE + 63), bit=st.integers(0, 7))
def test_any_flipped_bit_fails(position: int, bit: int) -> None:
    payload = bytearray(base64.b64decode(_ENVELOPE["payload"]))
    signature = bytearray(base64.b64decode(_ENVELOPE["signatures"][0]["sig"]))
    part, place = (payload, position) if position < _SIZE else (signature, position - _SIZE)
    part[place] ^= 1 << bit
    with pytest.raises(VerificationFailed, match="signature: expected"):
        verify(
            {
                **_ENVELOPE,
                "payload": base64.b64encode(payload).decode(),
                "signatures": [{"keyid": KEY.kid, "sig": base64.b64encode(signature).decode()}],
            },
            JWKS,
        )


@settings(max_examples=200)
@given(data=st.data())
def test_any_other_character_of_the_file_fails(data: st.DataObject) -> None:
    text = json.dumps(_ENVELOPE, separators=(",", ":"))
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126))
    spoiled = text[:position] + other + text[position + 1 :]
    if spoiled == text:
        return
    with pytest.raises(VerificationFailed):
        envelope = read_file(spoiled.encode()).envelope
        verify(envelope, JWKS)


_names = st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", codec="utf-8"),
    min_size=1,
    max_size=30,
)
_counts = st.integers(0, 10**15)
_times = st.datetimes(datetime(2026, 11, 21, 8), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(
    st.builds(
        facts, receipt_id=_names, tenant_id=_names, alias=_names, served=_names, issuer=_names,
        adapter_digest=st.none() | st.just("3f" * 32), base_digest=st.sampled_from(["", "ba" * 32]),
        rollout_id=st.none() | _names, percent=st.integers(0, 100), prompt_tokens=_counts,
        cost_micro=_counts, audit_seq=_counts, stream=st.booleans(), partial=st.booleans(),
        arm=st.sampled_from(["stable", "canary", "pinned"]), received_at=_times,
        completed_at=_times, finish_reason=st.sampled_from(["stop", "length", "client_abort", ""]),
    )
)  # fmt: skip
def test_every_receipt_round_trips_in_canonical_form(found: Any) -> None:
    envelope = sign(found, KEY)
    assert base64.b64decode(envelope["payload"]) == rfc8785.dumps(statement(found))
    verified = verify(envelope, JWKS)
    assert facts_of(verified.statement) == found
    assert verified.holds


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1"),
        ("_type", ...),
        ("extra", "x"),
        ("predicateType", "https://param-console.dev/inference-receipt/v2"),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("subject", []),
        ("subject/0/digest/sha256", "00" * 32),
        ("subject/0/digest/sha512", "00" * 64),
        ("subject/0/name", "output"),
        ("predicate/extra", "x"),
        ("predicate/receiptId", ...),
        ("predicate/receiptId", ""),
        ("predicate/receiptId", "a\nb"),
        ("predicate/usage/promptTokens", 12),
        ("predicate/usage/promptTokens", "012"),
        ("predicate/usage/promptTokens", "-1"),
        ("predicate/usage/promptTokens", "1.5"),
        ("predicate/usage/promptTokens", "١٢"),
        ("predicate/usage/promptTokens", True),
        ("predicate/cost/currency", "usd"),
        ("predicate/rollout/percent", "101"),
        ("predicate/rollout/arm", "other"),
        ("predicate/response/stream", "false"),
        ("predicate/response/partial", None),
        ("predicate/model/adapter", {}),
        ("predicate/model/adapter/name", "another-000000000000"),
        ("predicate/model/base/digest/sha256", "BA" * 32),
        ("predicate/time/completed", "2026-11-21T08:00:00Z"),
        ("predicate/time/completed", "2026-13-21T08:00:00.000000Z"),
        ("predicate/audit", None),
        ("predicate", "x"),
    ],
)
def test_a_signed_statement_in_another_form_is_refused(path: str, value: Any) -> None:
    with pytest.raises(VerificationFailed, match="receipt: "):
        verify(resigned(changed(path, value)), JWKS)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"_type": 1.5}',
        b'{"_type": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'"' + b"x" * 300_000 + b'"',
        b'{"n": ' + b"1" * 5000 + b"}",
    ],
)
def test_a_signed_payload_that_can_be_misread_is_refused(payload: bytes) -> None:
    with pytest.raises(VerificationFailed):
        verify(resigned(payload), JWKS)


def test_a_key_twice_deep_inside_is_refused() -> None:
    payload = base64.b64decode(_ENVELOPE["payload"])
    doubled = payload.replace(b'"currency":"USD"', b'"currency":"EUR","currency":"USD"')
    assert doubled != payload
    with pytest.raises(VerificationFailed, match="the key 'currency' twice"):
        verify(resigned(doubled), JWKS)


def _with_signature(**fields: Any) -> dict[str, Any]:
    return {**_ENVELOPE, "signatures": [{**_ENVELOPE["signatures"][0], **fields}]}


def _malleable() -> str:
    signature = base64.b64decode(_ENVELOPE["signatures"][0]["sig"])
    scalar = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    return base64.b64encode(signature[:32] + scalar.to_bytes(32, "little")).decode()


@pytest.mark.parametrize(
    "envelope",
    [
        None,
        [],
        "x",
        {},
        {**_ENVELOPE, "extra": 1},
        {**_ENVELOPE, "payloadType": "application/json"},
        {**_ENVELOPE, "payloadType": None},
        {**_ENVELOPE, "payload": None},
        {**_ENVELOPE, "payload": _ENVELOPE["payload"] + "\n"},
        {**_ENVELOPE, "payload": _ENVELOPE["payload"][:-1]},
        {**_ENVELOPE, "signatures": []},
        {**_ENVELOPE, "signatures": _ENVELOPE["signatures"] * 2},
        {**_ENVELOPE, "signatures": ["x"]},
        _with_signature(extra=1),
        _with_signature(keyid="another"),
        _with_signature(keyid=None),
        _with_signature(keyid=["a"]),
        _with_signature(sig=""),
        _with_signature(sig="AAAA"),
        _with_signature(sig=base64.b64encode(bytes(64)).decode()),
        _with_signature(sig=_malleable()),
    ],
)
def test_an_envelope_in_another_form_is_refused(envelope: Any) -> None:
    with pytest.raises(VerificationFailed):
        verify(envelope, JWKS)


def test_the_payload_type_is_signed_with_the_payload() -> None:
    payload = base64.b64decode(_ENVELOPE["payload"])
    other = sign_envelope(payload, "application/json", KEY)
    with pytest.raises(VerificationFailed, match="signature"):
        verify({**other, "payloadType": IN_TOTO}, JWKS)


def test_only_trusted_receipt_keys_count() -> None:
    stranger = Key.from_seed("receipt", bytes(32))
    with pytest.raises(VerificationFailed, match="trusted key"):
        verify(sign(facts(), stranger), JWKS)
    with pytest.raises(VerificationFailed, match="signature"):
        # Another key under the same name.
        verify(
            {**_ENVELOPE, "signatures": [
                {**sign(facts(), stranger)["signatures"][0], "keyid": KEY.kid}
            ]},
            JWKS,
        )  # fmt: skip
    with pytest.raises(VerificationFailed, match="trusted key"):
        verify(_ENVELOPE, {"keys": [jwk(KEY, purpose="checkpoint")]})
    with pytest.raises(ValueError, match="expected a key for receipts"):
        sign(facts(), Key.from_seed("checkpoint", SEED))


@pytest.mark.parametrize(
    ("begin", "end", "holds"),
    [
        (timedelta(0), None, True),
        (timedelta(minutes=4), None, True),
        (timedelta(minutes=6), None, False),
        (timedelta(days=-9), timedelta(minutes=-4), True),
        (timedelta(days=-9), timedelta(minutes=-6), False),
        (timedelta(days=-9), timedelta(days=1), True),
    ],
)
def test_a_key_signs_only_in_its_time(begin: timedelta, end: timedelta | None, holds: bool) -> None:
    def text(offset: timedelta) -> str:
        return (NOW + offset).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    period = {"not_before": text(begin), "not_after": None if end is None else text(end)}
    found = verify(_ENVELOPE, {"keys": [jwk(KEY, **period)]})
    assert found.holds is holds
    assert [check.name for check in found.checks if not check.ok] == ([] if holds else ["key"])


def test_facts_that_nobody_could_verify_are_not_signed() -> None:
    for wrong in ({"cost_micro": -1}, {"request_commitment": "x"}, {"tenant_id": ""}):
        with pytest.raises(VerificationFailed, match="receipt: predicate"):
            sign(facts(**wrong), KEY)


def test_receipts_of_a_replaced_key_go_on_to_hold(keyring: Keyring) -> None:
    before = sign(facts(), keyring.key("receipt"))
    keyring.rotate("receipt")
    after = sign(facts(), keyring.key("receipt"))
    assert verify(before, keyring.jwks()).holds
    assert verify(after, keyring.jwks()).holds
    assert before["signatures"][0]["keyid"] != after["signatures"][0]["keyid"]


def test_files_in_both_forms_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(_ENVELOPE))
    assert verify_file(path, JWKS).holds
    path.write_text(
        json.dumps({"receipt_id": "r-1", "envelope": _ENVELOPE, "salt": SALT.hex()}, indent=2)
    )
    found = verify_file(path, JWKS, request=REQUEST, response=RESPONSE)
    assert found.holds
    assert len(found.checks) == 5
    assert not verify_file(path, JWKS, request=REQUEST, salt=bytes(32)).holds
    path.write_text(json.dumps({"receipt_id": "r-1", "envelope": _ENVELOPE}))
    assert not verify_file(path, JWKS, request=REQUEST).holds


@pytest.mark.parametrize(
    "document",
    [
        {"receipt_id": "r-2", "envelope": _ENVELOPE, "salt": None},
        {"receipt_id": "r-1", "envelope": _ENVELOPE, "salt": "x"},
        {"receipt_id": "r-1", "envelope": _ENVELOPE, "salt": "AB" * 32},
        {"receipt_id": "r-1", "envelope": _ENVELOPE, "salt": 1},
        {"receipt_id": "r-1", "envelope": _ENVELOPE, "salt": None, "verified": True},
        {"envelope": _ENVELOPE, "salt": None},
        {"receipt_id": "r-1", "envelope": None},
        [],
        "text",
        None,
    ],
)
def test_files_in_another_form_are_refused(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(document))
    with pytest.raises(VerificationFailed):
        verify_file(path, JWKS)


def test_files_that_are_not_there_or_too_large_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nothing\.json"):
        verify_file(tmp_path / "nothing.json", JWKS)
    large = tmp_path / "large.json"
    large.write_bytes(b" " * 300_000)
    with pytest.raises(VerificationFailed, match="at most"):
        verify_file(large, JWKS)


def test_key_sets_come_from_a_file_or_a_folder(tmp_path: Path, keyring: Keyring) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(JWKS))
    assert load_jwks(path) == load_jwks(str(path)) == JWKS
    keyring.key("receipt")
    assert load_jwks(tmp_path / "keys")["keys"][0]["purpose"] == "receipt"
    path.write_text("{")
    with pytest.raises(InvalidInput, match="key set"):
        load_jwks(path)
    with pytest.raises(NotFound):
        load_jwks(tmp_path / "nothing.json")
    with pytest.raises(NotFound, match="expected a key set"):
        load_jwks("http://127.0.0.1:9/jwks.json")


def test_no_fact_is_left_out_of_the_signature() -> None:
    original = base64.b64decode(_ENVELOPE["payload"])
    for field in dataclasses.fields(facts()):
        value = getattr(facts(), field.name)
        other: Any = {
            "arm": "stable", "adapter_digest": None, "currency": "EUR", "base_digest": "",
        }.get(field.name)  # fmt: skip
        if field.name not in {"arm", "adapter_digest", "currency", "base_digest"}:
            other = _another(value)
        payload = base64.b64decode(sign(facts(**{field.name: other}), KEY)["payload"])
        assert payload != original, field.name


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    return ("0" if value[0] != "0" else "1") + value[1:]
