"""Signed notes: the form of audit checkpoints. Source: C2SP signed-note and tlog-checkpoint."""

from __future__ import annotations

import base64
from collections.abc import Callable
from hashlib import sha256

from services.attestation.dsse import check_signature
from services.attestation.jwks import TrustedKey, trusted_keys
from services.attestation.keys import Keyring
from services.attestation.strict import from_base64
from services.attestation.words import Refused
from services.audit.models import KeyRevoked


class NoteRevoked(Refused, KeyRevoked):
    """A note that fits, by a key that counts no more for it."""


def note_signer(keyring: Keyring, origin: str) -> Callable[[str], str]:
    """What signs a text as the note of this name, with the checkpoint key in use."""

    def sign(text: str) -> str:
        key = keyring.key("checkpoint")
        signature = note_key_id(origin, key.public) + key.sign(text.encode())
        return f"{text}\n— {origin} {base64.b64encode(signature).decode()}\n"

    return sign


def note_opener(keyring: Keyring, origin: str) -> Callable[[str], str]:
    """What gives the text of a note that a checkpoint key of this keyring signed, then or now.

    Of a revoked key, notes count up to the size that it was revoked at: the log they are compared
    with says whether they are true.
    """
    return opener_of(keyring.jwks, origin)


def opener_of(jwks: Callable[[], object], origin: str) -> Callable[[str], str]:
    """The same over any key set, such as a file's."""

    def open_note(note: str) -> str:
        text, key = opened(note, origin, jwks())
        if key.last_valid_index is not None and _size(text) > key.last_valid_index:
            raise NoteRevoked(
                "note.revoked_at", "checkpoint", last=key.last_valid_index, size=_size(text)
            )
        return text

    return open_note


def open_signed_note(note: str, origin: str, jwks: object) -> str:
    """The text of a note, once a signature by a trusted checkpoint key holds.

    Raises:
        VerificationFailed: No signature of this name by such a key holds, or its key was revoked:
            without the log nobody can tell what such a key signed in time.
    """
    text, key = opened(note, origin, jwks)
    if key.is_revoked:
        raise NoteRevoked("note.revoked", "checkpoint", kid=key.kid)
    return text


def opened(note: str, origin: str, jwks: object) -> tuple[str, TrustedKey]:
    """The text of a note and the key that signed it, whatever became of the key since.

    Raises:
        VerificationFailed: No signature of this name by a checkpoint key of the set holds.
    """
    text, gap, signatures = note.rpartition("\n\n")
    text += "\n"
    keys = [key for key in trusted_keys(jwks).values() if key.purpose == "checkpoint"]
    known = {note_key_id(origin, key.public): key for key in keys}
    start = f"— {origin} "
    lines = signatures.split("\n") if gap else []
    # Signatures by unknown keys are passed over: that is how notes gather witnesses.
    for line in lines:
        if line.startswith(start) and (key := _signer(text, line.removeprefix(start), known)):
            return text, key
    raise Refused("note.none", "note", origin=origin)


def note_key_id(origin: str, public: bytes) -> bytes:
    """The four bytes by which a note names an Ed25519 key."""
    return sha256(origin.encode() + b"\n\x01" + public).digest()[:4]


def _signer(text: str, encoded: str, known: dict[bytes, TrustedKey]) -> TrustedKey | None:
    data = from_base64(encoded, "note signature")
    key = known.get(data[:4])
    if key is None:
        return None
    signed = text.encode("utf-8", "surrogatepass")
    check_signature(key.public, signed, data[4:], reason="note.signature", where="note")
    return key


def _size(text: str) -> int:
    try:
        return int(text.split("\n")[1])
    except (IndexError, ValueError):
        return 0  # no checkpoint; whoever reads it as one says so
