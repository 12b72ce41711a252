"""The folder of one run: what lies in it, and who may write what. Imports no torch.

    spec.json       the order: specification, base model, dataset; written by the worker
    run.lock        locked by the child for as long as it lives; inherited from the worker
    child.json      process id of the child
    stage.json      what the child is doing
    inputs.json     digests of what the first attempt saw; later attempts must see the same
    metrics.jsonl   one line a step
    train.log       everything that the child prints
    checkpoint-N/   saved states; whole only if the file `whole` is in it
    adapter/        what came out
    stop            somebody wants the child to save its state and end; obeyed after a step
    result.json     how it ended; written last, in one rename
    mlflow.json     how far MLflow was told; written by the worker

The folder is the child's whole world: it needs no database, so it trains on when every other
process is gone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TextIO

from services.training.models import Point

WHOLE = "whole"
STOP = "stop"
TAIL_BYTES = 65_536
ALREADY_RUNNING = 75
"""Exit status of a process that found the run's lock held; EX_TEMPFAIL of sysexits.h."""


class RunFolder:
    """Reads and writes the files of one run.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "train.log"
        self.metrics_file = path / "metrics.jsonl"
        self.adapter = path / "adapter"

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder, or None where it is not there (yet)."""
        try:
            found: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file in one rename: it is there whole or not at all."""
        half = self.path / f".{name}.{os.getpid()}"
        with half.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, ensure_ascii=False, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        half.replace(self.path / name)

    def remove(self, *names: str) -> None:
        """Remove files that tell of an earlier attempt."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def lock(self) -> TextIO | None:
        """Take the run's lock; None where a living process holds it.

        The lock belongs to the open file, so a child that inherits the descriptor holds it as
        long as it lives, however its parent ends.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = (self.path / "run.lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def points(self) -> list[Point]:
        """The curve: one point a step, in order; a step that was done again counts once."""
        try:
            lines = self.metrics_file.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        # What follows the last line feed is a line that is still being written.
        return points_of(lines[:-1])

    def last_point(self) -> Point | None:
        """The newest point, read from the end of the file: cheap enough to ask all the time."""
        try:
            with self.metrics_file.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - 4096, 0))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return None
        points = points_of(lines[:-1][-3:])
        return points[-1] if points else None

    def log_tail(self, max_bytes: int = TAIL_BYTES) -> str:
        """The end of the log, from a whole line on."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - max_bytes, 0))
                tail = file.read(max_bytes)
        except FileNotFoundError:
            return ""
        if size > max_bytes:
            tail = tail.partition(b"\n")[2]
        return tail.decode("utf-8", errors="replace")

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint, or None."""
        whole = [path.parent for path in self.path.glob(f"checkpoint-*/{WHOLE}")]
        return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


_POINT_FIELDS = frozenset(field.name for field in fields(Point))


def points_of(lines: list[bytes]) -> list[Point]:
    """The points of whole metric lines; the last word on a step holds."""
    by_step = {}
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:
            continue  # a process was killed in the middle of this line; its step was done again
        by_step[values["step"]] = Point(**{k: v for k, v in values.items() if k in _POINT_FIELDS})
    return [by_step[step] for step in sorted(by_step)]


class Lockable(Protocol):
    """A folder with a lock."""

    def lock(self) -> TextIO | None:
        """Take it; None where a living process holds it."""
        ...


def held(folder: Lockable, lock_fd: int | None) -> TextIO | None:
    """The folder's lock: the one that was handed on, or taken now; None where it cannot be had.

    One that was handed on is held until this process is gone. Python closes its files when it
    begins to end, which with torch loaded is a second before that; so the descriptor gets a twin
    that only the kernel closes.
    """
    if lock_fd is None:
        return folder.lock()
    os.dup(lock_fd)
    return os.fdopen(lock_fd, "a", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
