"""The folder of adapters: a copy is there whole, under its final name, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.errors import DigestMismatch, StorageFull
from services.registry.digest import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    MAX_WEIGHTS_BYTES,
    WEIGHTS_FILE,
    adapter_digest,
    canonical_config,
    open_plain,
)

INCOMING = ".incoming-"
ABANDONED_AFTER_S = 6 * 3600
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Facts:
    """What is known of an adapter's bytes.

    Attributes:
        config_sha256: Of the canonical configuration.
        size_bytes: Of the weights.
    """

    digest: str
    config_sha256: str
    size_bytes: int


def inspect(folder: Path) -> Facts:
    """Read an adapter's folder.

    Raises:
        MissingModel: The folder or one of its two files is not there.
        InvalidInput: A symbolic link, no plain file, or no valid configuration.
        TooLarge: A file is larger than is read.
    """
    digest = adapter_digest(folder)
    with open_plain(folder, CONFIG_FILE, MAX_CONFIG_BYTES) as file:
        config = canonical_config(file.read(), folder.name)
    with open_plain(folder, WEIGHTS_FILE, MAX_WEIGHTS_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
    return Facts(digest, hashlib.sha256(config).hexdigest(), size)


def place(
    source: Path,
    adapters_dir: Path,
    name: str,
    digest: str,
    *,
    copy: Callable[[Path, Path], None] | None = None,
) -> Path:
    """Copy an adapter into the folder of adapters; do nothing where it is there already.

    Only the two files that the digest covers are copied: nothing unproven is served.

    Args:
        copy: Copies the two files; given in tests of a full disk.

    Returns:
        The adapter's folder.

    Raises:
        DigestMismatch: Other bytes lie under the name, or the source changed meanwhile.
        StorageFull: The disk is full; nothing is left behind.
    """
    final = adapters_dir / name
    adapters_dir.mkdir(parents=True, exist_ok=True)
    if _present(final, digest):
        return final
    _sweep(adapters_dir)
    half = Path(tempfile.mkdtemp(prefix=INCOMING, dir=adapters_dir))
    try:
        (copy or _copy)(source, half)
        if (found := adapter_digest(half)) != digest:
            raise DigestMismatch(
                f"adapter {name}: expected digest {digest}, found {found}; "
                "its source changed while it was copied"
            )
        half.chmod(0o755)
        half.rename(final)
        _sync(adapters_dir)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFull(f"no space left in {adapters_dir} for adapter {name}") from error
        if _present(final, digest):  # another process placed the same bytes first
            return final
        raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return final


def _present(final: Path, digest: str) -> bool:
    if not os.path.lexists(final):
        return False
    if (found := adapter_digest(final)) != digest:
        raise DigestMismatch(f"adapter {final.name}: expected digest {digest}, found {found}")
    return True


def _copy(source: Path, target: Path) -> None:
    limits = {CONFIG_FILE: MAX_CONFIG_BYTES, WEIGHTS_FILE: MAX_WEIGHTS_BYTES}
    for file_name, limit in limits.items():
        path = target / file_name
        with open_plain(source, file_name, limit) as reader, path.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        path.chmod(0o444)
    _sync(target)


def _sweep(adapters_dir: Path) -> None:
    """Remove what a killed copy left behind, long after any copy could still run."""
    for leftover in adapters_dir.glob(f"{INCOMING}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(leftover, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Make the folder's own entries durable: a rename alone may be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
