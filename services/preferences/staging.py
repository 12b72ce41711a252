"""Folders of data sets appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.errors import Conflict, InvalidInput, StorageFull
from services.preferences.models import Manifest

FILES = frozenset(
    {
        "train.jsonl",
        "eval.jsonl",
        "dropped.jsonl",
        "warned.jsonl",
        "provenance.jsonl",
        "README.md",
        "manifest.json",
    }
)
"""What every data set holds."""
MORE_FILES = frozenset(
    {f"{part}.{ending}" for part in ("train", "eval") for ending in ("csv", "parquet")}
    | {"kto-train.jsonl", "kto-eval.jsonl"}
)
"""What a data set may hold beside it."""


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether a folder holds exactly the files of a manifest, byte for byte."""
    wanted = {name: facts["sha256"] for name, facts in manifest.content["files"].items()}
    wanted["manifest.json"] = manifest.sha256
    if not folder.is_dir() or {path.name for path in folder.iterdir()} != wanted.keys():
        return False
    return all(digest_of(folder / name) == digest for name, digest in wanted.items())


def digest_of(path: Path, *, synced: bool = False) -> str:
    """SHA-256 of a file, 64 hex characters.

    Args:
        synced: See to it that its bytes are on the disk first.
    """
    with path.open("rb") as file:
        if synced:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that is on the disk when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def reported() -> Iterator[None]:
    """Say a full disk and a refused folder in our words.

    Raises:
        StorageFull: The disk is full.
        InvalidInput: The folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFull("the disk is full; no data set was written") from error
        raise InvalidInput(
            f"folder {error.filename}: expected one that can be written, found: {error.strerror}"
        ) from error


@dataclass(frozen=True)
class Stage:
    """A place beside the target, where files wait until they are complete.

    Attributes:
        folder: Empty at first.
    """

    folder: Path

    def place(self, target: Path) -> None:
        """Put the folder in the target's place in one step.

        Raises:
            Conflict: Something that is no data set has come there meanwhile.
        """
        _refuse_other(target)
        if target.exists():
            target.rename(self.folder.parent / "former")
        self.folder.rename(target)


@contextmanager
def staged(target: Path) -> Iterator[Stage]:
    """A stage for the target; what is not put in place by the end is removed.

    Raises:
        Conflict: The target is there and holds something that is no data set.
        StorageFull: The disk is full.
        InvalidInput: The folder cannot be written.
    """
    with reported():
        target = target.absolute()
        _refuse_other(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            folder = work / "new"
            folder.mkdir()
            yield Stage(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _refuse_other(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise Conflict(f"{target.name}: expected a folder or nothing there, found a file")
    names = {path.name for path in target.iterdir()}
    # A lone README.md may well be somebody's own: only the manifest tells an export.
    other = sorted(names - FILES - MORE_FILES) or sorted(names - {"manifest.json"} or ())
    if other and (names - FILES - MORE_FILES or "manifest.json" not in names):
        raise Conflict(
            f"folder {target.name}: expected it empty or with an earlier export, "
            f"found {other[0]!r}; nothing was written"
        )
