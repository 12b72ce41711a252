"""Signed notes: the form of audit checkpoints. Source: C2SP signed-note and tlog-checkpoint."""

from __future__ import annotations

import base64
from collections.abc import Callable
from hashlib import sha256

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from services.attestation.keys import Keyring, trusted_keys
from services.attestation.strict import from_base64
from services.errors import VerificationFailed


def note_signer(keyring: Keyring, origin: str) -> Callable[[str], str]:
    """What signs a text as the note of this name, with the checkpoint key in use."""

    def sign(text: str) -> str:
        key = keyring.key("checkpoint")
        signature = note_key_id(origin, key.public) + key.sign(text.encode())
        return f"{text}\n— {origin} {base64.b64encode(signature).decode()}\n"

    return sign


def note_opener(keyring: Keyring, origin: str) -> Callable[[str], str]:
    """What gives the text of a note that a checkpoint key of this keyring signed, then or now."""

    def open_note(note: str) -> str:
        return open_signed_note(note, origin, keyring.jwks())

    return open_note


def open_signed_note(note: str, origin: str, jwks: object) -> str:
    """The text of a note, once a signature by a trusted checkpoint key holds.

    Raises:
        VerificationFailed: No signature of this name by such a key holds.
    """
    text, gap, signatures = note.rpartition("\n\n")
    text += "\n"
    keys = [key.public for key in trusted_keys(jwks).values() if key.purpose == "checkpoint"]
    known = {note_key_id(origin, public): public for public in keys}
    start = f"— {origin} "
    lines = signatures.split("\n") if gap else []
    # Signatures by unknown keys are passed over: that is how notes gather witnesses.
    for line in lines:
        if line.startswith(start) and _holds(text, line.removeprefix(start), known):
            return text
    raise VerificationFailed(
        f"note: expected a signature of {origin!r} by a trusted checkpoint key, found none"
    )


def note_key_id(origin: str, public: bytes) -> bytes:
    """The four bytes by which a note names an Ed25519 key."""
    return sha256(origin.encode() + b"\n\x01" + public).digest()[:4]


def _holds(text: str, encoded: str, known: dict[bytes, bytes]) -> bool:
    data = from_base64(encoded, "note signature")
    public = known.get(data[:4])
    if public is None:
        return False
    try:
        VerifyKey(public).verify(text.encode("utf-8", "surrogatepass"), data[4:])
    except (BadSignatureError, ValueError) as error:
        raise VerificationFailed(
            "note: expected a signature that fits its text, found one that does not"
        ) from error
    return True
