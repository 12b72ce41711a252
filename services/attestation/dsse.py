"""The envelope: signed bytes that travel with their signature.

The bytes themselves are signed and shipped, so a verifier never has to write them again in the
same form. Source: secure-systems-lab/dsse, protocol 1.0.2.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from services.attestation.keys import Key, Purpose
from services.attestation.strict import exact_keys, from_base64
from services.attestation.words import Refused, shown

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


def open_envelope(envelope: Any, trusted: Mapping[str, bytes], purpose: Purpose) -> bytes:
    """The payload, once its signature holds; nothing of it is read before.

    Args:
        envelope: As parsed from JSON.
        trusted: Public keys, 32 bytes, by key id. The envelope's own key id only picks one of
            them; it vouches for nothing.
        purpose: What these keys are for, as the error calls it.

    Raises:
        VerificationFailed: The envelope is not exactly in its form, its type is another, its key
            is not trusted, or the signature does not hold.
    """
    fields = exact_keys(envelope, ("payload", "payloadType", "signatures"), "envelope")
    if fields["payloadType"] != IN_TOTO:
        raise Refused("payload_type", "envelope", type=IN_TOTO)
    signatures = fields["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise Refused("one_signature", "envelope")
    signature = exact_keys(signatures[0], ("keyid", "sig"), "envelope signature")
    kid = signature["keyid"]
    if not isinstance(kid, str) or kid not in trusted:
        raise Refused("untrusted", "envelope", purpose=purpose, kid=shown(kid))
    payload = from_base64(fields["payload"], "envelope payload")
    check_signature(trusted[kid], pae(IN_TOTO, payload), from_base64(signature["sig"], "signature"))
    return payload


def check_signature(
    public: bytes,
    message: bytes,
    signature: bytes,
    *,
    reason: str = "signature",
    where: str = "signature",
) -> None:
    """Pass over an Ed25519 signature that every strict verifier accepts.

    libsodium refuses keys of small order and signatures in a second form (S + L). Whether it
    clears the cofactor depends on its version; with key and first half in the main subgroup that
    makes no difference.

    Args:
        public: A key that `jwks.refuse_weak` lets pass.
        reason: How the error calls it; likewise `where`.

    Raises:
        VerificationFailed: It does not fit.
    """
    try:
        VerifyKey(public).verify(message, signature)
        is_sound = crypto_core_ed25519_is_valid_point(signature[:32])
    except (BadSignatureError, ValueError) as error:
        raise Refused(reason, where) from error
    if not is_sound:
        raise Refused(reason, where)
