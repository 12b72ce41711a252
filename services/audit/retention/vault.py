"""Encryption of kept texts: one key a tenant, wrapped by a master key that is not in the database."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.utils import random

from services.errors import VerificationFailed, WrongConfiguration

MASTER_FILE = "retention.key"


class Vault:
    """Wraps and unwraps tenants' keys with the installation's master key.

    Args:
        keys_dir: Folder of the master key, mode 0700; made with the first key.
    """

    def __init__(self, keys_dir: Path) -> None:
        self._dir = keys_dir
        self._master: bytes | None = None

    def fresh(self) -> tuple[bytes, bytes]:
        """A new key, and the same wrapped."""
        key = random(SecretBox.KEY_SIZE)
        return key, bytes(SecretBox(self._master_key(makes=True)).encrypt(key))

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key.

        Raises:
            VerificationFailed: The master key is another than the one it was wrapped with.
            WrongConfiguration: There is no master key, or others can read it.
        """
        try:
            return SecretBox(self._master_key(makes=False)).decrypt(wrapped)
        except CryptoError as error:
            raise VerificationFailed(
                f"kept texts: expected the master key in {self._dir / MASTER_FILE} that they were "
                "encrypted under, found another"
            ) from error

    def _master_key(self, *, makes: bool) -> bytes:
        if self._master is None:
            path = self._dir / MASTER_FILE
            if makes and not path.exists():
                self._make(path)
            self._master = _read(path)
        return self._master

    def _make(self, path: Path) -> None:
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._dir / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return
            fresh = path.with_name(f".{path.name}.new")
            fresh.unlink(missing_ok=True)
            new = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(new, "wb") as out:
                out.write(random(SecretBox.KEY_SIZE))
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(path)
        finally:
            os.close(handle)


def seal(key: bytes, text: bytes) -> bytes:
    """Encrypt; a fresh random nonce goes along."""
    return bytes(SecretBox(key).encrypt(text))


def unseal(key: bytes, box: bytes) -> bytes:
    """Decrypt.

    Raises:
        VerificationFailed: It was changed, or encrypted under another key.
    """
    try:
        return SecretBox(key).decrypt(box)
    except CryptoError as error:
        raise VerificationFailed(
            "kept text: expected it as it was encrypted, found it changed"
        ) from error


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode & 0o777
        found = path.read_bytes()
    except OSError as error:
        raise WrongConfiguration(
            f"{path}: expected the master key of kept texts, found none that can be read"
        ) from error
    if mode & 0o077:
        raise WrongConfiguration(
            f"{path}: expected mode 0600, so that nobody else reads kept texts, found {mode:04o}"
        )
    if len(found) != SecretBox.KEY_SIZE:
        raise WrongConfiguration(f"{path}: expected a key of 32 bytes, found {len(found)}")
    return found
