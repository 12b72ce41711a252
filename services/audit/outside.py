"""Copies of signed checkpoints in a second place, which the log's owner cannot change with the log.

Whoever can write to the whole database can also write the whole log anew. Only a checkpoint that
lies elsewhere shows it. Before a newer one is written there, the last one is read back *from
there* and the log must go on from it; a log that does not is not copied over its evidence.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import select

from services.audit.models import Checkpoint, OpenNote
from services.audit.outbox import record
from services.audit.proving import Proofs
from services.audit.store import CopyRow
from services.audit.verification import read_checkpoint
from services.db import Clock, Database, utcnow
from services.errors import NotFound, Unavailable, VerificationFailed
from services.tenants.models import Actor

MAX_NOTE_BYTES = 16 * 1024
TIMEOUT_S = 10.0
_NEWEST = "checkpoint"


class Place(Protocol):
    """Somewhere else; holds the newest checkpoint's note, and older ones where it can."""

    @property
    def name(self) -> str:
        """As people and the log call it; without secrets."""
        ...

    def read(self) -> str | None:
        """The newest note there; None in a place that is still empty.

        Raises:
            Unavailable: It cannot be read now.
        """
        ...

    def write(self, note: str, size: int) -> None:
        """Keep a newer note.

        Raises:
            Unavailable: It cannot be written now.
        """
        ...


class FolderPlace:
    """A folder, on another disk or another machine's share.

    Args:
        folder: Holds `checkpoint`, the newest, and `checkpoints/SIZE` of each that was written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = str(folder)

    def read(self) -> str | None:
        """See `Place`."""
        path = self._folder / _NEWEST
        try:
            if not self._folder.is_dir():
                raise Unavailable(f"{self._folder}: expected a folder for checkpoints, found none")
            return path.read_bytes()[:MAX_NOTE_BYTES].decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"{path}: cannot be read: {error.strerror}") from error

    def write(self, note: str, size: int) -> None:
        """See `Place`."""
        try:
            with self._locked():
                kept = self._folder / "checkpoints"
                kept.mkdir(exist_ok=True)
                _put(kept / f"{size:020}", note)
                _put(self._folder / _NEWEST, note)
        except OSError as error:
            raise Unavailable(f"{self._folder}: cannot be written: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


class UrlPlace:
    """An address that answers GET with the newest note (404 before the first) and takes PUT.

    Args:
        url: With http or https.
        token: Sent as a bearer token; empty for none.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self.name = url.partition("?")[0]

    def read(self) -> str | None:
        """See `Place`."""
        import httpx

        try:
            answer = httpx.get(self._url, headers=self._headers, timeout=TIMEOUT_S)
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.name}: cannot be read: {_reason(error)}") from error
        return answer.content[:MAX_NOTE_BYTES].decode("utf-8", "replace")

    def write(self, note: str, size: int) -> None:
        """See `Place`."""
        import httpx

        headers = {**self._headers, "content-type": "text/plain; charset=utf-8"}
        try:
            httpx.put(
                self._url, content=note.encode(), headers=headers, timeout=TIMEOUT_S
            ).raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.name}: cannot be written: {_reason(error)}") from error


def place_of(setting: str, token: str = "") -> Place | None:
    """The place that a setting names; None for an empty one.

    Args:
        setting: A folder, or an http(s) address.
    """
    if not setting:
        return None
    if setting.startswith(("http://", "https://")):
        return UrlPlace(setting, token)
    return FolderPlace(Path(setting).expanduser())


class OutsideCopies:
    """Keeps the newest checkpoint in a second place, and compares the log with what lies there.

    Args:
        db: Where the log is kept.
        proofs: Of the same log.
        place: None where no second place is set.
        origin: Name of the log in checkpoints.
        open_note: Checks a note's signature and gives its text.
        clock: Gives the present time.
    """

    def __init__(
        self,
        db: Database,
        proofs: Proofs,
        place: Place | None,
        *,
        origin: str,
        open_note: OpenNote,
        clock: Clock = utcnow,
    ) -> None:
        self._db = db
        self._proofs = proofs
        self.place = place
        self._origin = origin
        self._open_note = open_note
        self._clock = clock

    def last(self) -> tuple[int, str] | None:
        """Size and note of the checkpoint that lies outside; None where there is none.

        Raises:
            Unavailable: The place cannot be read.
            VerificationFailed: What lies there is no checkpoint of this log.
        """
        note = None if self.place is None else self.place.read()
        if note is None:
            return None
        return read_checkpoint(note, self._origin, self._open_note)[0], note

    def compare(self) -> int:
        """Check that the log goes on from the checkpoint outside.

        Returns:
            The size of that checkpoint; 0 where none lies there.

        Raises:
            Unavailable: The place cannot be read.
            VerificationFailed: The log was cut off or rewritten since, or what lies there is no
                checkpoint of this log.
        """
        found = self.last()
        if found is None:
            self._refuse_vanished()
            return 0
        size, note = found
        outside = read_checkpoint(note, self._origin, self._open_note)[1]
        place = "" if self.place is None else self.place.name
        try:
            ours = self._proofs.root(size)
        except NotFound as error:
            raise VerificationFailed(
                f"audit log: expected at least the {size} entries of the checkpoint in {place}, "
                "found fewer; the log was cut off"
            ) from error
        if ours != outside:
            raise VerificationFailed(
                f"audit log: expected the root {outside.hex()} of the checkpoint in {place} at "
                f"size {size}, found {ours.hex()}; an entry up to {size} was rewritten"
            )
        return size

    def copy(self, checkpoint: Checkpoint) -> bool:
        """Write a checkpoint to the second place, after comparing, and read it back.

        Returns:
            Whether it was written; False where there is no place or it holds that one already.

        Raises:
            Unavailable: The place cannot be reached.
            VerificationFailed: See `compare`; or something else was read back.
        """
        if self.place is None or self.compare() >= checkpoint.size:
            return False
        self.place.write(checkpoint.note, checkpoint.size)
        if self.place.read() != checkpoint.note:
            raise VerificationFailed(
                f"{self.place.name}: expected the checkpoint of size {checkpoint.size} that was "
                "just written, read something else back"
            )
        with self._db.write() as session:
            if session.get(CopyRow, (checkpoint.size, self.place.name)) is None:
                session.add(CopyRow(size=checkpoint.size, place=self.place.name, at=self._clock()))
        return True

    def told(self, actor: Actor, problem: str) -> None:
        """Leave an entry in the log about a contradiction; once for each."""
        with self._db.write() as session:
            record(
                session, actor, "audit.contradicted", f"place:{self.place.name if self.place else '-'}",
                tenant_id=None, details={"problem": problem}, at=self._clock(),
            )  # fmt: skip

    def newest_copy(self) -> CopyRow | None:
        """What was copied last to the present place."""
        if self.place is None:
            return None
        newest = (
            select(CopyRow)
            .where(CopyRow.place == self.place.name)
            .order_by(CopyRow.size.desc())
            .limit(1)
        )
        with self._db.read() as session:
            return session.scalar(newest)

    def _refuse_vanished(self) -> None:
        """A place that was written to is not empty by itself."""
        before = self.newest_copy()
        if before is not None and self.place is not None:
            raise VerificationFailed(
                f"{self.place.name}: expected the checkpoint of size {before.size} that was "
                "written there, found none"
            )


def _put(path: Path, note: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as out:
        out.write(note)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)


def _reason(error: Exception) -> str:
    """What went wrong, without an address that may hold a secret."""
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else type(error).__name__
