"""Signing keys: made on first use, kept readable by their owner only, rotated without loss."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, cast

from nacl.signing import SigningKey

from services.attestation.strict import from_base64, read_json, to_base64url
from services.audit.merkle import timestamp
from services.db import Clock, utcnow
from services.errors import VerificationFailed, WrongConfiguration

Purpose = Literal["receipt", "checkpoint"]
PURPOSES: tuple[Purpose, ...] = ("receipt", "checkpoint")
_PUBLIC = "jwks.json"
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
class Key:
    """One signing key.

    Attributes:
        kid: RFC 7638 thumbprint of the public key.
    """

    purpose: Purpose
    kid: str
    public: bytes
    _signer: SigningKey = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, purpose: Purpose, seed: bytes) -> Key:
        """The key that 32 secret bytes stand for."""
        signer = SigningKey(seed)
        public = bytes(signer.verify_key)
        return cls(purpose, thumbprint(public), public, signer)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature, 64 bytes (RFC 8032)."""
        return self._signer.sign(message).signature


@dataclass(frozen=True)
class TrustedKey:
    """A public key that a verifier accepts.

    Attributes:
        not_after: When it was replaced; None for one in use.
    """

    kid: str
    public: bytes
    purpose: str
    not_before: datetime
    not_after: datetime | None


class Keyring:
    """The keys of one installation, one in use for each purpose.

    Several processes may use one folder: keys are made and rotated under a file lock, and a key
    that another process rotated is noticed at the next use.

    Args:
        keys_dir: Folder of the keys, mode 0700; made where it is missing.
        clock: Gives the present time.
    """

    def __init__(self, keys_dir: Path, *, clock: Clock = utcnow) -> None:
        self._dir = keys_dir
        self._clock = clock
        self._loaded: dict[Purpose, tuple[tuple[int, int], Key]] = {}

    def key(self, purpose: Purpose) -> Key:
        """The key in use, made now if there is none.

        Raises:
            WrongConfiguration: The folder or the key can be read by others, or is damaged.
        """
        path = self._path(purpose)
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            with self._locked():
                if not path.exists():
                    self._make(purpose)
            stamp = _stamp(path)
        cached = self._loaded.get(purpose)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        _refuse_readable(self._dir, 0o700)
        _refuse_readable(path, 0o600)
        key = _read_private(path, purpose)
        self._loaded[purpose] = (stamp, key)
        return key

    def rotate(self, purpose: Purpose) -> Key:
        """Replace a key: the new one signs from now on, the old one goes on to verify.

        The old secret is gone afterwards; its public half stays, with the time as its end.
        """
        self.key(purpose)
        with self._locked():
            self._make(purpose)
        return self.key(purpose)

    def jwks(self) -> dict[str, Any]:
        """All public keys, those in use and those replaced, as a JSON Web Key Set (RFC 7517).

        Members beyond the RFC: `purpose`, `not_before`, `not_after` (RFC 3339 times).
        """
        for purpose in PURPOSES:
            self.key(purpose)
        return public_jwks(self._dir)

    def _path(self, purpose: Purpose) -> Path:
        return self._dir / f"{purpose}.key.json"

    def _make(self, purpose: Purpose) -> None:
        """Write a fresh key; the public half first, so that no signature lacks it."""
        now = timestamp(self._clock())
        seed = secrets.token_bytes(32)
        key = Key.from_seed(purpose, seed)
        known = public_jwks(self._dir)["keys"]
        for jwk in known:
            if jwk["purpose"] == purpose and jwk["not_after"] is None:
                jwk["not_after"] = now
        _write(self._dir / _PUBLIC, {"keys": [*known, _jwk(key, now)]}, mode=0o644)
        private = {"kid": key.kid, "purpose": purpose, "seed": to_base64url(seed)}
        _write(self._path(purpose), {**private, "created_at": now}, mode=0o600)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_readable(self._dir, 0o700)
        handle = os.open(self._dir / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def public_jwks(keys_dir: Path) -> dict[str, Any]:
    """The public keys of a folder; makes none."""
    path = keys_dir / _PUBLIC
    if not path.exists():
        return {"keys": []}
    return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))


def thumbprint(public: bytes) -> str:
    """The key id of a public key: its RFC 7638 thumbprint (form of RFC 8037, appendix A.3)."""
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{to_base64url(public)}"}}'
    return to_base64url(sha256(jwk.encode()).digest())


def trusted_keys(jwks: Any) -> dict[str, TrustedKey]:
    """The Ed25519 keys of a key set, by key id.

    Keys of other kinds are ignored, as RFC 7517 asks.

    Raises:
        VerificationFailed: It is no key set, or a key is malformed, of small order, or named by
            something other than its thumbprint.
    """
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list):
        raise VerificationFailed("key set: expected an object with a list 'keys', found none")
    found = (_trusted(jwk) for jwk in keys if _is_ed25519(jwk))
    return {key.kid: key for key in found}


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
    _refuse_weak(public, kid)
    not_after = jwk.get("not_after")
    return TrustedKey(
        kid=kid,
        public=public,
        purpose=str(jwk.get("purpose")),
        not_before=parse_time(jwk.get("not_before"), f"key {kid}: not_before"),
        not_after=None if not_after is None else parse_time(not_after, f"key {kid}: not_after"),
    )


def parse_time(value: Any, what: str) -> datetime:
    """An RFC 3339 time in UTC.

    Raises:
        VerificationFailed: It is something else.
    """
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise VerificationFailed(f"{what}: expected an RFC 3339 time, found {value!r}") from error
    if timestamp(found.astimezone()) != value:
        raise VerificationFailed(
            f"{what}: expected a time with microseconds and Z, found {value!r}"
        )
    return found


def _refuse_weak(public: bytes, kid: str) -> None:
    """Refuse keys under which strict and lax verifiers disagree."""
    y = bytes([*public[:31], public[31] & 0x7F]) if len(public) == 32 else b""
    if len(y) != 32 or y.hex() in _SMALL_ORDER or int.from_bytes(y, "little") >= _FIELD_PRIME:
        raise VerificationFailed(
            f"key {kid}: expected an Ed25519 public key of full order, found one of small order "
            "or in another form"
        )


def _jwk(key: Key, created_at: str) -> dict[str, Any]:
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "x": to_base64url(key.public),
        "kid": key.kid,
        "purpose": key.purpose,
        "not_before": created_at,
        "not_after": None,
    }


def _read_private(path: Path, purpose: Purpose) -> Key:
    try:
        document = read_json(path.read_bytes(), path.name)
        seed = from_base64(document["seed"], path.name, url_safe=True)
        key = Key.from_seed(purpose, seed)
        is_whole = (document["kid"], document["purpose"]) == (key.kid, purpose)
    except (VerificationFailed, KeyError, TypeError, ValueError) as error:
        # The library's own message may repeat what it read.
        raise WrongConfiguration(f"{path}: expected a signing key, found it damaged") from error
    if not is_whole:
        raise WrongConfiguration(f"{path}: expected the key that it names, found another")
    return key


def _refuse_readable(path: Path, mode: int) -> None:
    found = path.stat().st_mode & 0o777
    if found & 0o077:
        raise WrongConfiguration(
            f"{path}: expected mode {mode:04o}, so that nobody else reads the signing keys, "
            f"found {found:04o}"
        )


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino


def _write(path: Path, document: dict[str, Any], *, mode: int) -> None:
    """Replace a file at once; what is there is either the old or the new, and on the disk."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        json.dump(document, out, indent=1)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)
