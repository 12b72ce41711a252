"""The public half: key sets as others read them, and which keys a verifier accepts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from services.attestation.strict import from_base64, to_base64url
from services.errors import VerificationFailed

PUBLIC_FILE = "jwks.json"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_FIELD_PRIME = 2**255 - 19
# The points of small order, sign bit cleared: with such a key one signature fits any message.
# Source: libsodium, ed25519_ref10.c, ge25519_has_small_order.
_SMALL_ORDER = {
    bytes(32).hex(),
    "01" + "00" * 31,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ec" + "ff" * 30 + "7f",
}


@dataclass(frozen=True)
class TrustedKey:
    """A public key that a verifier accepts.

    Attributes:
        not_after: When it was replaced; None for one in use.
        last_valid_index: Of a revoked key: the last entry of the log that it may have signed for.
            None for one that was not revoked.
        revoked_reason: In the words of who revoked it.
    """

    kid: str
    public: bytes
    purpose: str
    not_before: datetime
    not_after: datetime | None
    last_valid_index: int | None = None
    revoked_reason: str | None = None

    @property
    def is_revoked(self) -> bool:
        """Whether its signatures need the log to count."""
        return self.last_valid_index is not None


def public_jwks(keys_dir: Path) -> dict[str, Any]:
    """The public keys of a folder; makes none."""
    path = keys_dir / PUBLIC_FILE
    if not path.exists():
        return {"keys": []}
    found = cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
    # Files of earlier versions know no revocation.
    absent = {"last_valid_index": None, "revoked_reason": None}
    return {"keys": [{**absent, **key} for key in found["keys"]]}


def thumbprint(public: bytes) -> str:
    """The key id of a public key: its RFC 7638 thumbprint (form of RFC 8037, appendix A.3)."""
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{to_base64url(public)}"}}'
    return to_base64url(sha256(jwk.encode()).digest())


def jwk_of(public: bytes, purpose: str, created_at: str) -> dict[str, Any]:
    """A key that is in use from now on.

    Members beyond RFC 7517: `purpose`, `not_before` and `not_after` (RFC 3339 times),
    `last_valid_index` and `revoked_reason` (null until it is revoked).
    """
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "x": to_base64url(public),
        "kid": thumbprint(public),
        "purpose": purpose,
        "not_before": created_at,
        "not_after": None,
        "last_valid_index": None,
        "revoked_reason": None,
    }


def trusted_keys(jwks: Any) -> dict[str, TrustedKey]:
    """The Ed25519 keys of a key set, by key id.

    Keys of other kinds are ignored, as RFC 7517 asks.

    Raises:
        VerificationFailed: It is no key set, or a key is malformed, of small order, named by
            something other than its thumbprint, or there twice.
    """
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list):
        raise VerificationFailed("key set: expected an object with a list 'keys', found none")
    found: dict[str, TrustedKey] = {}
    for key in (_trusted(jwk) for jwk in keys if _is_ed25519(jwk)):
        if key.kid in found:
            raise VerificationFailed(f"key set: expected each key once, found {key.kid} twice")
        found[key.kid] = key
    return found


def parse_time(value: Any, what: str) -> datetime:
    """An RFC 3339 time in UTC.

    Raises:
        VerificationFailed: It is something else.
    """
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise VerificationFailed(
            f"{what}: expected a UTC time with microseconds and Z, found {str(value)[:60]!r}"
        )
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise VerificationFailed(f"{what}: expected an RFC 3339 time, found {value!r}") from error


def has_small_order(encoded: bytes) -> bool:
    """Whether 32 bytes encode a point of small order, sign bit left aside."""
    return bytes([*encoded[:31], encoded[31] & 0x7F]).hex() in _SMALL_ORDER


def refuse_weak(public: bytes, kid: str) -> None:
    """Refuse keys under which strict and lax verifiers disagree.

    Raises:
        VerificationFailed: Wrong length, small order, or not in the one form of its point.
    """
    y = bytes([*public[:31], public[31] & 0x7F]) if len(public) == 32 else b""
    if len(y) != 32 or has_small_order(public) or int.from_bytes(y, "little") >= _FIELD_PRIME:
        raise VerificationFailed(
            f"key {kid}: expected an Ed25519 public key of full order, found one of small order "
            "or in another form"
        )


def _is_ed25519(jwk: Any) -> bool:
    return isinstance(jwk, dict) and jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519"


def _trusted(jwk: dict[str, Any]) -> TrustedKey:
    public = from_base64(jwk.get("x"), "key set: x", url_safe=True)
    kid = thumbprint(public)
    if jwk.get("kid") != kid:
        raise VerificationFailed(
            f"key set: expected each key to be named by its thumbprint {kid}, "
            f"found {str(jwk.get('kid'))[:80]!r}"
        )
    refuse_weak(public, kid)
    not_after = jwk.get("not_after")
    last, reason = _revocation(jwk, kid)
    return TrustedKey(
        kid=kid,
        public=public,
        purpose=str(jwk.get("purpose")),
        not_before=parse_time(jwk.get("not_before"), f"key {kid}: not_before"),
        not_after=None if not_after is None else parse_time(not_after, f"key {kid}: not_after"),
        last_valid_index=last,
        revoked_reason=reason,
    )


def _revocation(jwk: dict[str, Any], kid: str) -> tuple[int | None, str | None]:
    last, reason = jwk.get("last_valid_index"), jwk.get("revoked_reason")
    if last is None and reason is None:
        return None, None
    if type(last) is not int or last < 0:
        raise VerificationFailed(
            f"key {kid}: expected a whole number as last_valid_index, found {str(last)[:40]!r}"
        )
    if reason is not None and not isinstance(reason, str):
        raise VerificationFailed(f"key {kid}: expected a text as revoked_reason, found another")
    return last, reason
