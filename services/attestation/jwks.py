"""The public half: key sets as others read them, and which keys a verifier accepts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from nacl.bindings import crypto_core_ed25519_is_valid_point

from services.attestation.strict import from_base64, to_base64url
from services.attestation.words import Refused

PUBLIC_FILE = "jwks.json"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


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
        raise Refused("keys.none", "key set")
    found: dict[str, TrustedKey] = {}
    for key in (_trusted(jwk) for jwk in keys if _is_ed25519(jwk)):
        if key.kid in found:
            raise Refused("keys.twice", "key set", kid=key.kid)
        found[key.kid] = key
    return found


def parse_time(value: Any, what: str) -> datetime:
    """An RFC 3339 time in UTC.

    Raises:
        VerificationFailed: It is something else.
    """
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise Refused("time", what)
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise Refused("time", what) from error


def refuse_weak(public: bytes, kid: str) -> None:
    """Refuse keys under which strict and lax verifiers disagree.

    With a key of small order one signature fits any message; with one of mixed order verifiers
    differ in whether they clear the cofactor.

    Raises:
        VerificationFailed: Wrong length, no point of the main subgroup, or one in a second form.
    """
    if len(public) != 32 or not crypto_core_ed25519_is_valid_point(public):
        raise Refused("keys.weak", f"key {kid}")


def _is_ed25519(jwk: Any) -> bool:
    return isinstance(jwk, dict) and jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519"


def _trusted(jwk: dict[str, Any]) -> TrustedKey:
    public = from_base64(jwk.get("x"), "key set: x", url_safe=True)
    kid = thumbprint(public)
    if jwk.get("kid") != kid:
        raise Refused("keys.name", "key set", kid=kid)
    refuse_weak(public, kid)
    not_after, purpose = jwk.get("not_after"), jwk.get("purpose")
    if not isinstance(purpose, str):
        raise Refused("keys.purpose", f"key {kid}")
    last, reason = _revocation(jwk, kid)
    return TrustedKey(
        kid=kid,
        public=public,
        purpose=purpose,
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
        raise Refused("keys.index", f"key {kid}")
    if reason is not None and not isinstance(reason, str):
        raise Refused("keys.reason", f"key {kid}")
    return last, reason
