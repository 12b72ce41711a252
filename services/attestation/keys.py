"""Signing keys: made on first use, kept readable by their owner only, rotated without loss."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from services.attestation.jwks import PUBLIC_FILE, jwk_of, public_jwks, thumbprint
from services.attestation.signers import KeyService, LocalSigner, Signer
from services.attestation.strict import from_base64, read_json, to_base64url
from services.audit.merkle import timestamp
from services.db import Clock, utcnow
from services.errors import Conflict, NotFound, VerificationFailed, WrongConfiguration

Purpose = Literal["receipt", "checkpoint", "event"]
PURPOSES: tuple[Purpose, ...] = ("receipt", "checkpoint", "event")


@dataclass(frozen=True)
class Key:
    """One signing key.

    Attributes:
        kid: RFC 7638 thumbprint of the public key.
    """

    purpose: Purpose
    kid: str
    public: bytes
    _signer: Signer = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, purpose: Purpose, seed: bytes) -> Key:
        """The key that 32 secret bytes stand for."""
        return cls.of(purpose, LocalSigner(seed))

    @classmethod
    def of(cls, purpose: Purpose, signer: Signer) -> Key:
        """The key that a signer holds."""
        return cls(purpose, thumbprint(signer.public), signer.public, signer)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature, 64 bytes (RFC 8032)."""
        return self._signer.sign(message)


class Keyring:
    """The keys of one installation, one in use for each purpose.

    Several processes may use one folder: keys are made and rotated under a file lock, and a key
    that another process rotated is noticed at the next use.

    Args:
        keys_dir: Folder of the keys, mode 0700; made where it is missing.
        clock: Gives the present time.
        service: Holds the secret keys of some purposes instead of the folder.
        served: Those purposes; the service knows them by the same names.
    """

    def __init__(
        self,
        keys_dir: Path,
        *,
        clock: Clock = utcnow,
        service: KeyService | None = None,
        served: tuple[Purpose, ...] = (),
    ) -> None:
        self._dir = keys_dir
        self._clock = clock
        self._service = service
        self._served = served if service is not None else ()
        self._loaded: dict[Purpose, tuple[tuple[int, int], Key]] = {}

    def key(self, purpose: Purpose) -> Key:
        """The key in use, made now if there is none.

        Raises:
            WrongConfiguration: The folder or the key can be read by others, or is damaged.
            Unavailable: A key service holds it and does not answer.
        """
        if purpose in self._served:
            return self._served_key(purpose)
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

    def rotate(self, purpose: Purpose, *, seed: bytes | None = None) -> Key:
        """Replace a key: the new one signs from now on, the old one goes on to verify.

        The old secret is gone afterwards; its public half stays, with the time as its end.

        Args:
            seed: 32 secret bytes of a key that was made elsewhere; fresh ones by default.

        Raises:
            Conflict: A key service holds it, where it must be rotated, or the key is known here.
        """
        if purpose in self._served:
            raise Conflict(
                f"the key for {purpose}s lies in the key service: rotate it there; it is noticed "
                "here at the next use"
            )
        self.key(purpose)
        with self._locked():
            self._make(purpose, seed)
        return self.key(purpose)

    def revoke(self, kid: str, *, last_valid_index: int, reason: str) -> dict[str, Any]:
        """Note on a public key that it counts only up to an entry of the log.

        The key must not be in use any more: rotate first.

        Returns:
            The key as the key set now has it.

        Raises:
            NotFound: There is no such key.
            Conflict: It is in use, or was revoked before.
        """
        with self._locked():
            keys = public_jwks(self._dir)["keys"]
            found = next((key for key in keys if key["kid"] == kid), None)
            if found is None:
                raise NotFound(f"key {kid[:80]!r}: expected one of this installation, found none")
            if found["last_valid_index"] is not None:
                raise Conflict(f"key {kid}: expected one that counts, found it revoked before")
            if found["not_after"] is None:
                raise Conflict(f"key {kid}: expected one that was rotated, found it in use")
            found |= {"last_valid_index": last_valid_index, "revoked_reason": reason}
            _write(self._dir / PUBLIC_FILE, {"keys": keys}, mode=0o644)
            return dict(found)

    def jwks(self) -> dict[str, Any]:
        """All public keys, those in use and those replaced, as a JSON Web Key Set (RFC 7517)."""
        for purpose in PURPOSES:
            self.key(purpose)
        return public_jwks(self._dir)

    def is_served(self, purpose: Purpose) -> bool:
        """Whether a key service holds the secret key."""
        return purpose in self._served

    def _served_key(self, purpose: Purpose) -> Key:
        assert self._service is not None, "only a service's purposes come here"
        signer = self._service.signer(purpose)
        cached = self._loaded.get(purpose)
        if cached is not None and cached[1].public == signer.public:
            return cached[1]
        key = Key.of(purpose, signer)
        with self._locked():
            now = timestamp(self._clock())
            self._publish(key, now)
            self._retire(key, now)
        self._loaded[purpose] = ((0, 0), key)
        return key

    def _path(self, purpose: Purpose) -> Path:
        return self._dir / f"{purpose}.key.json"

    def _make(self, purpose: Purpose, seed: bytes | None = None) -> None:
        """Write a fresh key; the public half first, so that no signature lacks it."""
        seed = secrets.token_bytes(32) if seed is None else seed
        key = Key.from_seed(purpose, seed)
        if any(known["kid"] == key.kid for known in public_jwks(self._dir)["keys"]):
            raise Conflict(f"key {key.kid}: expected a new one, found it known here already")
        now = timestamp(self._clock())
        self._publish(key, now)
        private = {"kid": key.kid, "purpose": purpose, "seed": to_base64url(seed)}
        _write(self._path(purpose), {**private, "created_at": now}, mode=0o600)
        # Last: whoever is killed before this leaves a key without an end, never one that signs
        # after its end.
        self._retire(key, now)

    def _publish(self, key: Key, now: str) -> None:
        """Put a key into the key set; the caller holds the lock."""
        known = public_jwks(self._dir)["keys"]
        same = next((one for one in known if one["kid"] == key.kid), None)
        if same is None:
            fresh = jwk_of(key.public, key.purpose, now)
            _write(self._dir / PUBLIC_FILE, {"keys": [*known, fresh]}, mode=0o644)
        elif same["not_after"] is not None:
            raise Conflict(f"key {key.kid}: expected a new one, found one that was replaced before")

    def _retire(self, key: Key, now: str) -> None:
        """Note the end of all other keys of this key's purpose; the caller holds the lock."""
        keys = public_jwks(self._dir)["keys"]
        ended = [
            one
            for one in keys
            if (one["purpose"], one["not_after"]) == (key.purpose, None) and one["kid"] != key.kid
        ]
        for one in ended:
            one["not_after"] = now
        if ended:
            _write(self._dir / PUBLIC_FILE, {"keys": keys}, mode=0o644)

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


def read_seed(data: bytes, what: str) -> bytes:
    """The 32 secret bytes of an Ed25519 key that was made elsewhere.

    Args:
        data: PEM in PKCS #8, as `openssl genpkey -algorithm ed25519` writes it, or the 32 bytes.
        what: How the error calls it.

    Raises:
        WrongConfiguration: It is neither; the message shows nothing of it.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if len(data) == 32:
        return data
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise WrongConfiguration(
            f"{what}: expected an Ed25519 key in PEM without a password, or its 32 bytes"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise WrongConfiguration(f"{what}: expected an Ed25519 key, found one of another kind")
    return key.private_bytes_raw()


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
