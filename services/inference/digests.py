"""Digests and sizes of weights on disk, without torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path

from services.errors import DigestMismatch, InvalidInput
from services.registry.digest import adapter_digest

WEIGHTS = "*.safetensors"
# Everything that changes what the model answers; nothing that does not (README, pictures).
COUNTED = (
    WEIGHTS,
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "*.model",
)

NAMED_BY_DIGEST = re.compile(r".+-([0-9a-f]{12})")
"""Names of registered adapters: `{alias}-{first 12 hex digits of the digest}`."""


def counted_files(folder: Path) -> list[Path]:
    """The files of a base model that its digest covers, sorted by name."""
    return sorted({path for pattern in COUNTED for path in folder.glob(pattern) if path.is_file()})


def folder_digest(folder: Path) -> str:
    """Digest of a base model.

    Returns:
        sha256 (hex) over the canonical JSON of the sorted `[relative path, sha256 hex]` list.
    """
    rows = [
        [path.relative_to(folder).as_posix(), file_digest(path)] for path in counted_files(folder)
    ]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(folder: Path) -> list[list[str | int]]:
    """Name, size (bytes) and time of change (ns) of each counted file: cheap, to notice changes."""
    return [
        [path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in counted_files(folder)
    ]


def count_parameters(folder: Path) -> int:
    """Number of weights stored in the folder's safetensors files, read from their headers.

    Raises:
        InvalidInput: A file is not in the safetensors format.

    Source: the safetensors format: 8 bytes length (little endian), JSON header, data.
    """
    return sum(_parameters_of(path) for path in folder.glob(WEIGHTS))


def _parameters_of(path: Path) -> int:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, path.stat().st_size)))
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path}: expected safetensors, found no valid header") from error
    return sum(math.prod(shape) for shape in shapes)


def check_adapter_name(name: str, folder: Path) -> None:
    """Refuse an adapter whose bytes are not those that its name promises.

    Names that do not end in `-` and 12 hex digits promise nothing.

    Raises:
        DigestMismatch: The digest differs.
        MissingModel: There is no adapter in the folder.
    """
    promised = NAMED_BY_DIGEST.fullmatch(name)
    if promised is None:
        return
    found = adapter_digest(folder)
    if not found.startswith(promised[1]):
        raise DigestMismatch(
            f"adapter {name!r}: expected weights of digest {promised[1]}…, found {found[:12]}…: "
            "these are not the weights that were registered under this name"
        )
