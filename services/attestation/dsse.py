"""The envelope: signed bytes that travel with their signature.

The bytes themselves are signed and shipped, so a verifier never has to write them again in the
same form. Source: secure-systems-lab/dsse, protocol 1.0.2.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from services.attestation.keys import Key
from services.attestation.strict import exact_keys, from_base64
from services.errors import VerificationFailed

IN_TOTO = "application/vnd.in-toto+json"


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: type and payload, each with its length."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload: bytes, payload_type: str, key: Key) -> dict[str, Any]:
    """An envelope with one signature, as JSON."""
    signature = key.sign(pae(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": key.kid, "sig": base64.b64encode(signature).decode()}],
    }


def open_envelope(
    envelope: Any, trusted: Mapping[str, bytes], *, payload_type: str = IN_TOTO
) -> bytes:
    """The payload, once its signature holds; nothing of it is read before.

    Args:
        envelope: As parsed from JSON.
        trusted: Public keys, 32 bytes, by key id. The envelope's own key id only picks one of
            them; it vouches for nothing.
        payload_type: The only type that is accepted.

    Raises:
        VerificationFailed: The envelope is not exactly in its form, its type is another, its key
            is not trusted, or the signature does not hold.
    """
    fields = exact_keys(envelope, ("payload", "payloadType", "signatures"), "envelope")
    if fields["payloadType"] != payload_type:
        raise VerificationFailed(
            f"envelope: expected the type {payload_type}, found {str(fields['payloadType'])[:80]!r}"
        )
    signatures = fields["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise VerificationFailed("envelope: expected exactly one signature")
    signature = exact_keys(signatures[0], ("keyid", "sig"), "envelope signature")
    kid = signature["keyid"]
    if not isinstance(kid, str) or kid not in trusted:
        raise VerificationFailed(
            f"envelope: expected a signature by a trusted key, found the key id {str(kid)[:80]!r}"
        )
    payload = from_base64(fields["payload"], "envelope payload")
    _check(trusted[kid], pae(payload_type, payload), from_base64(signature["sig"], "signature"))
    return payload


def _check(public: bytes, message: bytes, signature: bytes) -> None:
    try:
        # libsodium refuses keys of small order and signatures in a second form (S + L).
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError) as error:
        raise VerificationFailed(
            "signature: expected one that fits the payload and the key, found one that does not"
        ) from error
