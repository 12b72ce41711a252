"""What an attacker tries on verifiers themselves: where two readers could see two things.

Each of these was tried on all verifiers; those that one of them let pass, or turned down wrongly,
or could not finish, are here so that it stays mended.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from hashlib import sha256, sha512
from typing import Any

from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_scalarmult_ed25519_base_noclamp,
)

from services.attestation.bundle import ORIGIN, encoded
from services.attestation.dsse import IN_TOTO, pae
from services.attestation.jwks import thumbprint
from services.attestation.notes import note_key_id
from services.attestation.receipts import sign
from services.attestation.statements import sign_statement
from services.attestation.strict import to_base64url
from services.audit.merkle import entry_body, leaf_hash
from services.audit.verification import checkpoint_text
from tests.services.attestation.conftest import REQUEST, facts
from tests.vectors.evidence import (
    BODIES,
    CHECKPOINT,
    EVENT,
    FACTS,
    FIELD_ORDER,
    RECEIPT,
    SEQ,
    SIZE,
    STAMP,
    Document,
    bundle,
    changed,
    events,
    head,
    jwks,
    payload,
    put,
    receipt,
    signed_text,
    vector,
    weak_jwk,
    with_key,
)

TORSION = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
"""A point of order eight."""


def valid() -> Iterator[Document]:
    """Evidence that looks odd and holds."""
    other_arm = vars(FACTS) | {"arm": "fallback"}
    yield vector("the answer of the second engine", sign(facts(**other_arm), RECEIPT), "holds")
    leap = payload().replace("2026-11-21T08", "2028-02-29T08")
    yield vector("a leap day", signed_text(leap), "holds")
    text = json.dumps(bundle()).replace('"format"', '"f\\u006frmat"', 1)
    yield vector("a field's name written with an escape", text, "holds")
    strange = {"kty": "RSA", "kid": RECEIPT.kid, "n": "AQAB", "purpose": {"receipt": 1}}
    mixed = {"keys": [strange, *jwks()["keys"]]}
    yield vector("a key of another kind under a trusted name", receipt(), "holds", keys=mixed)
    witness = "— witness.example/w AAAAAGFiY2Q=\n"
    noted = bundle()["log"]["checkpoint"].replace("\n\n", "\n\n" + witness)
    yield vector(
        "a checkpoint with a witness before the signature",
        changed(bundle(), put("log", "checkpoint", value=noted)),
        "holds",
    )


def spoiled() -> Iterator[Document]:
    yield from _texts()
    yield from _curve()
    yield from _key_sets()
    yield from _logs()
    yield from _stamps()
    yield from _statements()


def _texts() -> Iterator[Document]:
    envelope, whole = receipt()["envelope"], json.dumps(receipt())
    good = payload()
    yield vector("a file nested without end", "[" * 5_000, "refused")
    yield vector("a text as long as the file may be", '{"format": "' + "x" * 100_000, "refused")
    yield vector(
        "the payload twice in the file",
        whole.replace('"payload":', '"payload": "AAAA", "payload":', 1),
        "refused",
    )
    yield vector("the salt twice", whole[:-1] + ', "salt": null}', "refused", request=REQUEST)
    yield vector("an envelope within an object", json.dumps({"receipt": envelope}), "refused")
    sig = envelope["signatures"][0]["sig"]
    for name, value in (
        ("in the alphabet of addresses", to_base64url(base64.b64decode(sig))),
        ("with a line end", sig + "\n"),
        ("without padding", sig.rstrip("=")),
        ("with stray bits at its end", sig.removesuffix("Q==") + "R=="),
        ("in full-width letters", sig.replace("n", "\uff4e", 1)),
    ):
        assert value != sig, name
        document = changed(envelope, put("signatures", 0, "sig", value=value))
        yield vector(f"base64 {name}", document, "refused")
    for kind in (IN_TOTO.upper(), IN_TOTO + " ", IN_TOTO + "; charset=utf-8", ""):
        yield vector(
            f"the payload type {kind!r}", changed(envelope, put("payloadType", value=kind)),
            "refused",
        )  # fmt: skip
    deep = good.replace('"predicate":{', '"x":' + "[" * 300 + "]" * 300 + ',"predicate":{', 1)
    nfd = good.replace('"served":"support-3fa2c1d09b7e"', '"served":"\u00e9"', 1)
    for name, text in {
        "nested 300 deep": deep,
        "NaN": good.replace('"micro":"15"', '"micro":NaN', 1),
        "minus zero": good.replace('"micro":"15"', '"micro":-0', 1),
        "a number beyond all others": good.replace('"micro":"15"', '"micro":1e400', 1),
        "half a pair as a key, twice": '{"\\ud800": 1, "\\ud800": 2}',
        "one name in two normal forms": nfd.replace(
            '"name":"support-3fa2c1d09b7e"', '"name":"e\u0301"', 1
        ),
        "an hour that is none": good.replace("2026-11-21T08", "2026-11-21T24"),
        "a leap second": good.replace(":00:00.123456Z", ":00:60.123456Z"),
        "the year 0": good.replace("2026-11-21T08", "0000-11-21T08"),
        "a leap day in no leap year": good.replace("2026-11-21T08", "2026-02-29T08"),
        "digits of another script": good.replace('"micro":"15"', '"micro":"\u0661\u0665"', 1),
        "a line end after a number": good.replace('"micro":"15"', '"micro":"15\\n"', 1),
    }.items():
        assert text != good, name
        yield vector(f"signed: {name}", signed_text(text), "refused")


def _curve() -> Iterator[Document]:
    """Points on which verifiers that clear the cofactor and others differ."""
    message = pae(IN_TOTO, payload().encode())
    secret = _secret()
    mixed = crypto_core_ed25519_add(RECEIPT.public, TORSION)
    for tries in range(64):  # one in eight fits without clearing the cofactor
        signature, challenge = _signed(message, secret, 1000 + tries, mixed)
        if challenge % 8 == 0:
            break
    yield _by("a key of mixed order", mixed, signature)
    signature, _challenge = _signed(message, secret, 77, RECEIPT.public, TORSION)
    envelope = {**signed_text(payload()), "signatures": [_signature(RECEIPT.kid, signature)]}
    yield vector("a signature with a part of small order", envelope, "refused")
    for name, public in {
        "a key beyond the field": (2**255 - 19 + 1).to_bytes(32, "little"),
        "a key that is no point": (2).to_bytes(32, "little"),
        "a key of 31 bytes": RECEIPT.public[:31],
        "a key as large as a file": RECEIPT.public * 600,
    }.items():
        yield _by(name, public, signature)


def _by(name: str, public: bytes, signature: bytes) -> Document:
    signed = signed_text(payload())
    envelope = {**signed, "signatures": [_signature(thumbprint(public), signature)]}
    return vector(name, envelope, "refused", keys=weak_jwk(public))


def _signature(kid: str, signature: bytes) -> Document:
    return {"keyid": kid, "sig": base64.b64encode(signature).decode()}


def _secret() -> int:
    seed = sha256(b"param vectors receipt 0").digest()
    low = int.from_bytes(sha512(seed).digest()[:32], "little")
    return (low & (1 << 254) - 8 | 1 << 254) % FIELD_ORDER


def _signed(
    message: bytes, secret: int, nonce: int, public: bytes, added: bytes | None = None
) -> tuple[bytes, int]:
    """A signature after RFC 8032 with a chosen nonce, and its challenge."""
    first = crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
    first = first if added is None else crypto_core_ed25519_add(first, added)
    hashed = sha512(first + public + message).digest()
    challenge = int.from_bytes(hashed, "little") % FIELD_ORDER
    second = (nonce + challenge * secret) % FIELD_ORDER
    return first + second.to_bytes(32, "little"), challenge


def _key_sets() -> Iterator[Document]:
    whole = receipt()
    for name, fields in {
        "a purpose in a list": {"purpose": ["receipt"]},
        "a purpose that is an object": {"purpose": {}},
        "a revocation without an entry": {"revoked_reason": "stolen"},
        "a revocation before the log": {"last_valid_index": -1},
        "a revocation that is true": {"last_valid_index": True},
        "a key without a beginning": {"not_before": None},
    }.items():
        yield vector(name, whole, "refused", keys=with_key(0, **fields))
    yield vector("a key set nested without end", whole, "refused", keys={"keys": _nested(300)})
    halved = {**jwks(), "keys": [*jwks()["keys"], {"kty": "OKP", "crv": "Ed25519"}]}
    yield vector("a key set with half a key", whole, "refused", keys=halved)


def _nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _level in range(depth):
        found = [found]
    return found


def _note(text: str, origin: str = ORIGIN) -> str:
    signature = note_key_id(origin, CHECKPOINT.public) + CHECKPOINT.sign(text.encode())
    return f"{text}\n— {origin} {base64.b64encode(signature).decode()}\n"


def _logs() -> Iterator[Document]:
    good = checkpoint_text(ORIGIN, SIZE, head(0, SIZE))
    other = checkpoint_text("other/audit", SIZE, head(0, SIZE))
    spoilt = "— " + ORIGIN + " " + encoded(note_key_id(ORIGIN, CHECKPOINT.public) + bytes(64))
    for name, text in {
        "another log's checkpoint by our key": _note(other, "other/audit"),
        "another log's checkpoint under our name": _note(other),
        "a checkpoint with more lines, signed": _note(good + "extension\n"),
        "a checkpoint with an empty line within, signed": _note(good + "\nmore\n"),
        "a checkpoint with a zero before its size, signed": _note(good.replace("11", "011", 1)),
        "a checkpoint with a huge size, signed": _note(good.replace("\n11\n", "\n9007199254740993\n", 1)),
        "a checkpoint with other line ends": _note(good).replace("\n", "\r\n"),
        "a checkpoint with a spoilt signature first": _note(good).replace("\n\n", f"\n\n{spoilt}\n"),
        "a checkpoint without a signature": good,
    }.items():  # fmt: skip
        document = changed(bundle(), put("log", "checkpoint", value=text))
        yield vector(name, document, "fails", "checkpoint", "inclusion", "statements")
    smaller = _note(checkpoint_text(ORIGIN, 8, head(0, 8)))
    yield vector(
        "a smaller tree's checkpoint with the larger tree's paths",
        changed(bundle(), put("log", value={**bundle()["log"], "tree_size": "8", "checkpoint": smaller})),
        "fails", "inclusion", "statements",
    )  # fmt: skip
    foreign = sign(facts(**(vars(FACTS) | {"tenant_id": "globex"})), RECEIPT)
    yield vector(
        "a receipt of another tenant for this entry",
        changed(bundle(), put("receipt", value=foreign)), "fails", "entry",
    )  # fmt: skip
    yield _true_for_one()


def _true_for_one() -> Document:
    """An entry whose number is `true`, which some languages take for 1."""
    fields = {**vars(events()[SEQ - 1]), "seq": True}
    body = entry_body(**fields)
    said = sign(
        facts(**(vars(FACTS) | {"audit_seq": 1, "audit_leaf_hash": leaf_hash(body).hex()})), RECEIPT
    )
    log = {
        "entry": encoded(body), "leaf_index": "0", "tree_size": "1", "path": [],
        "checkpoint": _note(checkpoint_text(ORIGIN, 1, leaf_hash(body))), "timestamp": None,
    }  # fmt: skip
    document = {**bundle(), "receipt": said, "log": log, "statements": []}
    return vector("an entry whose number is true", document, "fails", "entry", "inclusion")


def _stamps() -> Iterator[Document]:
    whole = base64.b64decode(STAMP["response"])
    length = int.from_bytes(whole[2:4], "big")
    granted = bytes.fromhex("3003020100")
    for name, response in {
        "a time stamp with more after its end": whole + b"\0",
        "a time stamp with a length in a second form": b"\x30\x83\0" + length.to_bytes(2, "big") + whole[4:],
        "a time stamp that is granted and is none": b"\x30" + bytes([len(granted)]) + granted,
        "a time stamp granted with changes": whole.replace(granted, bytes.fromhex("3003020101"), 1),
        "a time stamp that was refused": bytes.fromhex("30053003020102"),
        "a time stamp in a month that is none": whole.replace(b"20261121", b"20261321"),
        "an empty time stamp": b"",
        "a time stamp nested without end": _sequences(3000),
    }.items():  # fmt: skip
        assert response != whole, name
        fields = {"authority": "test TSA", "response": encoded(response)}
        document = changed(bundle(), put("log", "timestamp", value=fields))
        yield vector(name, document, "fails", "timestamp")


def _sequences(depth: int) -> bytes:
    found = b""
    for _level in range(depth):
        size = len(found)
        coded = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
        found = b"\x30" + coded.replace(b"\x82\0", b"\x81", 1) + found
    return found


def _statements() -> Iterator[Document]:
    one = bundle()["statements"][0]
    kind, subject = "https://param-console.dev/run/v1", {"adapter": "3f" * 32}

    def of(name: str, value: Any, verdict: str = "fails") -> Document:
        failed = ("statements",) if verdict == "fails" else ()
        return vector(name, changed(bundle(), put("statements", value=value)), verdict, *failed)

    yield of("a statement twice", [one, one])
    yield of("too many statements", [{}] * 201, "refused")
    signed = sign_statement(kind, subject, {}, EVENT)
    text = base64.b64decode(signed["payload"]).decode()
    for name, spoilt in {
        "a statement nested 300 deep": text.replace("{}", "{}", 1).replace(
            '"materials":[]', '"materials":[],"x":' + "[" * 300 + "]" * 300, 1
        ),
        "a statement without a subject": text.replace('"subject":[{', '"subject":[],"x":[{', 1),
        "a statement of another type": text.replace("Statement/v1", "Statement/v0.1", 1),
        "a statement whose materials are null": text.replace('"materials":[]', '"materials":null'),
        "a statement with a digest in capitals": text.replace("3f" * 32, "3F" * 32, 1),
    }.items():
        assert spoilt != text, name
        envelope = signed_text(spoilt, signer=EVENT)
        yield of(name, [{**one, "envelope": envelope, "log": None}])
    logged = {"entry": encoded(BODIES[7]), "leaf_index": "7", "path": []}
    yield of("a statement with another's entry", [{**one, "envelope": signed, "log": logged}])
