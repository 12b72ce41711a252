"""The identity of an adapter: one SHA-256 over what it is, and nothing over where it lies."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import rfc8785

from services.errors import InvalidInput, MissingModel, TooLarge

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1 << 20
MAX_WEIGHTS_BYTES = 8 << 30
DOMAIN = b"param.v1/adapter\x00"
_CHUNK_BYTES = 1 << 20


def adapter_digest(folder: str | Path, *, max_weights_bytes: int = MAX_WEIGHTS_BYTES) -> str:
    """The digest that an adapter's name promises.

    SHA-256 over `param.v1/adapter`, a zero byte, the length of the canonical configuration, the
    configuration, the length of the weights, and the weights; lengths as 8 bytes, big-endian.
    The lengths keep bytes from moving between the parts unseen. The configuration is
    canonicalised first, so that white space and key order don't make another adapter of it.

    Args:
        folder: Holds `adapter_config.json` and `adapter_model.safetensors`; other files (a
            tokenizer, a README) are no part of the identity.
        max_weights_bytes: Largest weights that are read, bytes.

    Returns:
        64 lower-case hex digits.

    Raises:
        MissingModel: The folder or one of the two files is not there.
        InvalidInput: A symbolic link or something not a plain file stands in its place, or the
            configuration is not one unambiguous JSON object.
        TooLarge: A file is larger than is read.

    Source: canonical JSON of RFC 8785.
    """
    path = Path(folder)
    if path.is_symlink():
        raise InvalidInput(f"adapter {path.name}: expected a folder, found a symbolic link")
    if not path.is_dir():
        raise MissingModel(f"adapter {path.name}: expected a folder, found none at {path}")
    with open_plain(path, CONFIG_FILE, MAX_CONFIG_BYTES) as file:
        config = canonical_config(file.read(MAX_CONFIG_BYTES + 1), path.name)
    digest = hashlib.sha256(DOMAIN + len(config).to_bytes(8) + config)
    with open_plain(path, WEIGHTS_FILE, max_weights_bytes) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(size.to_bytes(8))
        if _hash_into(digest, file) != size:
            raise InvalidInput(f"adapter {path.name}: {WEIGHTS_FILE} changed while it was read")
    return digest.hexdigest()


def open_plain(folder: Path, name: str, max_bytes: int) -> BinaryIO:
    """Open one plain file of an adapter for reading, never through a symbolic link.

    Raises:
        MissingModel: There is no such file.
        InvalidInput: It is a symbolic link or no plain file.
        TooLarge: It holds more than `max_bytes`.
    """
    # Non-blocking, so that a FIFO planted there cannot hold the reader up.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(folder / name, flags)
    except FileNotFoundError as error:
        raise MissingModel(f"adapter {folder.name}: expected {name}, found none") from error
    except OSError as error:
        raise InvalidInput(
            f"adapter {folder.name}: expected {name} to be a readable plain file, "
            f"found {os.strerror(error.errno or 0)}"
        ) from error
    file = os.fdopen(descriptor, "rb")
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise InvalidInput(f"adapter {folder.name}: expected {name} to be a plain file")
    if found.st_size > max_bytes:
        file.close()
        raise TooLarge(
            f"adapter {folder.name}: expected {name} of at most {max_bytes} bytes, "
            f"found {found.st_size}"
        )
    return file


def canonical_config(raw: bytes, name: str) -> bytes:
    """The RFC 8785 form of an `adapter_config.json`.

    Args:
        raw: The file's bytes.
        name: What messages call the adapter.

    Raises:
        InvalidInput: Not one JSON object, a key twice, or a number that has no canonical form.
    """
    try:
        config = json.loads(raw, object_pairs_hook=_unambiguous)
        if not isinstance(config, dict):
            raise ValueError(f"a JSON {type(config).__name__}")
        return rfc8785.dumps(config)
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise InvalidInput(
            f"adapter {name}: expected {CONFIG_FILE} to hold one JSON object, found {error}"
        ) from error


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that stands twice")
    return found


def _hash_into(digest: hashlib._Hash, file: BinaryIO) -> int:
    read = 0
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        read += len(chunk)
    return read
