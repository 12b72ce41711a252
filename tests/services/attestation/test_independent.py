"""Receipts before verifiers that share no line with ours: `cryptography`, and WebCrypto in Node."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.attestation.keys import Key
from services.attestation.receipts import sign, verify
from services.errors import VerificationFailed
from tests.services.attestation.conftest import facts
from tests.support import require

SCRIPT = Path(__file__).with_name("independent.mjs")
Verifier = Callable[[list[dict[str, Any]], dict[str, Any]], list[bool]]


def by_console(envelopes: list[dict[str, Any]], jwks: dict[str, Any]) -> list[bool]:
    def holds(envelope: dict[str, Any]) -> bool:
        try:
            return verify(envelope, jwks).holds
        except VerificationFailed:
            return False

    return [holds(one) for one in envelopes]


def by_cryptography(envelopes: list[dict[str, Any]], jwks: dict[str, Any]) -> list[bool]:
    def holds(envelope: dict[str, Any]) -> bool:
        [signature] = envelope["signatures"]
        found = [key for key in jwks["keys"] if key["kid"] == signature["keyid"]]
        if not found:
            return False
        public = base64.urlsafe_b64decode(found[0]["x"] + "=")
        kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(
                base64.b64decode(signature["sig"]), signed
            )
        except InvalidSignature:
            return False
        return True

    return [holds(one) for one in envelopes]


def by_webcrypto(envelopes: list[dict[str, Any]], jwks: dict[str, Any]) -> list[bool]:
    require(shutil.which("node") is not None, "Node.js")
    lines = "\n".join(json.dumps({"envelope": one, "jwks": jwks}) for one in envelopes)
    ran = subprocess.run(
        ["node", "--no-warnings", str(SCRIPT)], input=lines, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return [line == "true" for line in ran.stdout.split()]


def flipped(envelope: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The envelope with one byte changed: each of the payload, of the signature, of the type."""
    payload = base64.b64decode(envelope["payload"])
    for place in range(len(payload)):
        changed = copy.deepcopy(envelope)
        mended = payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]
        changed["payload"] = base64.b64encode(mended).decode()
        yield changed
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    for place in range(len(signature)):
        changed = copy.deepcopy(envelope)
        mended = signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :]
        changed["signatures"][0]["sig"] = base64.b64encode(mended).decode()
        yield changed
    changed = copy.deepcopy(envelope)
    changed["payloadType"] = envelope["payloadType"] + "x"
    yield changed


@pytest.mark.parametrize("verifier", [by_console, by_cryptography, by_webcrypto])
def test_every_verifier_accepts_a_receipt_and_refuses_each_flipped_byte(
    verifier: Verifier, key: Key, jwks: dict[str, Any]
) -> None:
    envelope = sign(facts(), key)
    damaged = list(flipped(envelope))
    assert len(damaged) == len(base64.b64decode(envelope["payload"])) + 64 + 1
    answers = verifier([envelope, *damaged], jwks)
    assert len(answers) == len(damaged) + 1
    assert answers[0] is True
    assert not any(answers[1:])


@pytest.mark.parametrize("verifier", [by_console, by_cryptography, by_webcrypto])
def test_every_verifier_refuses_another_key(verifier: Verifier, jwks: dict[str, Any]) -> None:
    other = Key.from_seed("receipt", bytes(31) + b"\x01")
    envelope = sign(facts(), other)
    assert verifier([envelope], jwks) == [False]
    borrowed = copy.deepcopy(envelope)
    borrowed["signatures"][0]["keyid"] = jwks["keys"][0]["kid"]
    assert verifier([borrowed], jwks) == [False]
