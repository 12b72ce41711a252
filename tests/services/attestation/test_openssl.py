"""What was signed, before `openssl`: it knows Ed25519 and RFC 3161, and nothing of us."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.attestation.strict import from_base64
from tests.support import require
from tests.vectors import evidence
from tests.vectors.evidence import CHECKPOINT, EVENT, RECEIPT, STAMP, bundle

# The head of an Ed25519 SubjectPublicKeyInfo; the 32 bytes of the key follow. RFC 8410, section 4.
SPKI = bytes.fromhex("302a300506032b6570032100")


@pytest.fixture(autouse=True)
def _openssl() -> None:
    require(shutil.which("openssl") is not None, "openssl")


def accepts(folder: Path, public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `openssl pkeyutl` takes a signature."""
    key, text, sig = folder / "key.der", folder / "message", folder / "signature"
    key.write_bytes(SPKI + public)
    text.write_bytes(message)
    sig.write_bytes(signature)
    words = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER"]
    files = ["-inkey", str(key), "-in", str(text), "-sigfile", str(sig)]
    return subprocess.run([*words, *files], capture_output=True, check=False).returncode == 0


def pae(envelope: dict[str, Any]) -> bytes:
    """The bytes that DSSE signs, written down again from its specification."""
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    return b" ".join((b"DSSEv1", b"%d" % len(kind), kind, b"%d" % len(payload), payload))


@pytest.mark.parametrize(
    ("envelope", "public"),
    [
        (bundle()["receipt"], RECEIPT.public),
        (bundle()["statements"][0]["envelope"], EVENT.public),
    ],
    ids=["a receipt", "a statement"],
)
def test_openssl_takes_what_is_signed_and_nothing_else(
    tmp_path: Path, envelope: dict[str, Any], public: bytes
) -> None:
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    assert accepts(tmp_path, public, pae(envelope), signature)
    assert not accepts(tmp_path, CHECKPOINT.public, pae(envelope), signature)
    assert not accepts(tmp_path, public, pae(envelope).replace(b"a", b"b", 1), signature)
    flipped = bytes([signature[0] ^ 1, *signature[1:]])
    assert not accepts(tmp_path, public, pae(envelope), flipped)


def test_openssl_takes_a_checkpoint(tmp_path: Path) -> None:
    text, _gap, lines = bundle()["log"]["checkpoint"].rpartition("\n\n")
    encoded = lines.rstrip("\n").rpartition(" ")[2]
    signature = from_base64(encoded, "checkpoint")[4:]
    assert accepts(tmp_path, CHECKPOINT.public, f"{text}\n".encode(), signature)
    assert not accepts(tmp_path, CHECKPOINT.public, text.encode(), signature)


def test_openssl_takes_the_time_stamp_of_the_vectors(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text(evidence.note(), encoding="utf-8")
    (tmp_path / "response.tsr").write_bytes(base64.b64decode(STAMP["response"]))
    (tmp_path / "roots.pem").write_text(STAMP["root"])
    words = ["openssl", "ts", "-verify", "-data", "note.txt", "-in", "response.tsr"]
    ran = subprocess.run(
        [*words, "-CAfile", "roots.pem"], cwd=tmp_path, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
