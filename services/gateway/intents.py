"""What was begun and what became of it: lines on disk, so that no crash makes a request unseen.

Each gateway process appends to a journal of its own in `PARAM_HOME/gateway`: a line when a request
is about to go to the engine, now and then one with what a stream has delivered, one with its
outcome before it is answered to its end, one when the outcome is committed. A line is one write(2),
so it outlives the process from the moment it is there (not the machine: the power may fail before
the disk has it).

A process holds a lock (flock) on its journal for as long as it lives; whoever gets the lock of
another journal knows that its writer is dead, records the outcomes that it left, and makes the
requests without one known (`services.gateway.recovery`). Nothing in a journal is content: ids,
names, digests, counts, times. The digests bear no salt, unlike those of log and receipt, so a
journal is emptied in the next quiet moment, and begins anew when it has grown.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import orjson

from services.db import new_id
from services.errors import StorageFull, Unavailable
from services.gateway.outcome import Outcome, read_outcome

log = logging.getLogger(__name__)

FOLDER = "gateway"
SUFFIX = ".journal"
ROTATE_BYTES = 8 * 1024 * 1024
"""A journal that has grown to this size goes on as a new one with what is still open."""

_FULL = "the disk of the gateway's journal is full"


@dataclass(slots=True)  # one for each request: freezing would double the price of making it
class Intent:
    """A request that is about to go to the engine.

    Attributes:
        prompt_price: Micro-USD for a million tokens, as admitted; likewise `completion_price`.
        received_at: ISO 8601, UTC.
    """

    request_id: str
    tenant_id: str
    actor_id: str
    actor_name: str
    alias: str
    served: str
    adapter_digest: str | None
    arm: str
    rollout_id: str | None
    percent: int
    stream: bool
    policy_version: int
    price_version: str
    prompt_price: int
    completion_price: int
    received_at: str


@dataclass(slots=True)
class Open:
    """An intent without an outcome, and what its client is known to have been given.

    Attributes:
        is_delivered: Some of the answer went out; the counts are the engine's at that moment.
    """

    intent: Intent
    is_delivered: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(slots=True)
class Left:
    """What a journal holds that is not known elsewhere, in the order of its lines.

    Attributes:
        open: Requests without an outcome.
        told: Outcomes that nobody has said to be committed.
    """

    open: list[Open] = field(default_factory=list)
    told: list[Outcome] = field(default_factory=list)


class Journal:
    """The journal of this process.

    Args:
        folder: Where the journals of all processes of this installation are.

    Raises:
        Unavailable: The folder or the file cannot be made.
    """

    def __init__(self, folder: Path, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._folder = folder
        self._rotate_bytes = rotate_bytes
        self._open: dict[str, Open] = {}
        self._told: dict[str, Outcome] = {}
        self._orphans: dict[str, Open] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path, self._file = _fresh(folder)
        except OSError as error:
            raise Unavailable(
                f"PARAM_HOME: expected a folder for journals that can be written at {folder}, "
                f"found {error.strerror}"
            ) from error
        self._size = 0
        self._is_torn = False

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def open_count(self) -> int:
        """Requests whose outcome is not committed yet."""
        return len(self._open) + len(self._told) + len(self._orphans)

    def begin(self, intent: Intent) -> None:
        """Write that a request is about to go to the engine.

        Raises:
            StorageFull: The disk is full.
            Unavailable: The journal cannot be written; what cannot be noted is not begun.
        """
        try:
            if self._size > self._rotate_bytes:
                self._rotate()
            self._write(_begin_line(intent))
        except StorageFull as error:
            raise StorageFull(f"{error.message}; nothing was begun") from error
        self._open[intent.request_id] = Open(intent)

    def progress(self, request_id: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Write what a stream has delivered so far; a disk that refuses it does no harm now."""
        found = self._open.get(request_id)
        if found is None:
            return
        found.is_delivered = True
        found.prompt_tokens, found.completion_tokens = prompt_tokens, completion_tokens
        self._try(_progress_line(found))

    def tell(self, outcome: Outcome) -> None:
        """Write the outcome of a request, which need not have begun here.

        Raises:
            StorageFull: The disk is full.
            Unavailable: The journal cannot be written; what cannot be noted is not answered.
        """
        self._write(_told_line(outcome))
        self._told[outcome.request_id] = outcome
        self._open.pop(outcome.request_id, None)

    def end(self, *request_ids: str) -> None:
        """Write that the outcomes of requests are committed.

        Where this cannot be written the rows themselves are the proof: recovery finds them.
        """
        known = [one for one in request_ids if self._forget(one)]
        if known:
            self._try(b"".join(map(_end_line, known)))

    def rest(self) -> None:
        """Empty it where nothing is open: digests without salt must not outlast their commit long.

        For quiet moments, since a disk that is busy with a commit may let this wait.
        """
        if self.open_count or not self._size:
            return
        try:
            os.ftruncate(self._file, 0)
        except OSError as error:
            log.warning("the journal cannot be emptied: %s", error.strerror)
        else:
            self._size, self._is_torn = 0, False

    def _forget(self, request_id: str) -> bool:
        held = (self._open, self._told, self._orphans)
        return any([one.pop(request_id, None) is not None for one in held])

    def orphan(self, request_id: str) -> None:
        """Note that a request has ended in this process and its outcome could not be recorded."""
        found = self._open.pop(request_id, None)
        if found is not None:
            self._orphans[request_id] = found

    def orphans(self) -> list[Open]:
        """Requests whose outcome could not be recorded, to be made known when it can."""
        return list(self._orphans.values())

    def recovered(self, found: list[Open]) -> None:
        """Note that orphans are known now."""
        self.end(*(one.intent.request_id for one in found))

    def covering(self, intent: Intent, exchange: Covered) -> Covering:
        """A block at whose beginning the intent is written, and in which its request ends.

        Raises:
            StorageFull: See `begin`.
            Unavailable: See `begin`.
        """
        return Covering(self, intent, exchange)

    def close(self) -> None:
        """Let go of it; a journal in which nothing is open goes away."""
        if not self.open_count:
            self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _try(self, line: bytes) -> None:
        try:
            self._write(line)
        except Unavailable as error:
            log.warning("the journal: %s", error)

    def _write(self, line: bytes) -> None:
        # A line that was cut off by a full disk ends here, so that it spoils no other.
        data = b"\n" + line if self._is_torn else line
        try:
            written = os.write(self._file, data)
        except OSError as error:
            raise _refused(error) from error
        self._size += written
        self._is_torn = written != len(data)
        if self._is_torn:
            raise StorageFull(_FULL)

    def _rotate(self) -> None:
        """Go on in a new file; the old one goes only after everything open is in the new one."""
        try:
            path, file = _fresh(self._folder)
        except OSError as error:
            raise _refused(error) from error
        kept = b"".join(
            line
            for one in (*self._open.values(), *self._orphans.values())
            for line in (_begin_line(one.intent), *([_progress_line(one)] * one.is_delivered))
        ) + b"".join(map(_told_line, self._told.values()))
        try:
            if kept and os.write(file, kept) != len(kept):
                raise StorageFull(_FULL)
        except (OSError, StorageFull) as error:
            path.unlink(missing_ok=True)
            os.close(file)
            raise _refused(error) if isinstance(error, OSError) else error from error
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._path, self._file, self._size, self._is_torn = path, file, len(kept), False


class Covered(Protocol):
    """What `Covering` asks of an exchange.

    Attributes:
        request_id: The intent's.
        is_given_up: Its outcome was refused by the writer, so nobody else will record it.
    """

    request_id: str
    is_given_up: bool


class Covering:
    """Keeps an intent whose outcome nobody took; the writer ends those that it has committed."""

    __slots__ = ("_exchange", "_intent", "_journal")

    def __init__(self, journal: Journal, intent: Intent, exchange: Covered) -> None:
        self._journal, self._intent, self._exchange = journal, intent, exchange

    def __enter__(self) -> None:
        """Write the intent."""
        self._journal.begin(self._intent)

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._exchange.is_given_up:
            self._journal.orphan(self._exchange.request_id)


def dead_journals(folder: Path, mine: Path) -> Generator[Left, None, None]:
    """What was left in the journals of processes that are no more.

    Each is locked while it is looked at, and goes away when the next one is asked for: whoever
    stops before that leaves it to the next who looks.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path == mine:
            continue
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            if not _is_ours_now(file):
                continue
            with os.fdopen(os.dup(file), "rb") as journal:
                found = read_journal(journal.read())
            yield found
            path.unlink(missing_ok=True)
        finally:
            os.close(file)


def _is_ours_now(file: int) -> bool:
    """Lock a journal; not where its writer lives, or where a neighbour was faster."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file).st_nlink > 0


def read_journal(data: bytes) -> Left:
    """What is not known elsewhere; what is no whole line is passed over."""
    found: dict[str, Open] = {}
    told: dict[str, Outcome] = {}
    for line in data.split(b"\n"):
        if line:
            try:
                _apply(found, told, orjson.loads(line))
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
                log.warning("a journal has a line of %d bytes that cannot be read", len(line))
    return Left(list(found.values()), list(told.values()))


def _apply(found: dict[str, Open], told: dict[str, Outcome], line: dict[str, Any]) -> None:
    if "begin" in line:
        intent = Intent(**line["begin"])
        found[intent.request_id] = Open(intent)
    elif "told" in line:
        outcome = read_outcome(line["told"])
        told[outcome.request_id] = outcome
        found.pop(outcome.request_id, None)
    elif "end" in line:
        found.pop(line["end"], None)
        told.pop(line["end"], None)
    elif (one := found.get(line["given"])) is not None:
        one.is_delivered = True
        one.prompt_tokens, one.completion_tokens = map(int, line["tokens"])


def _begin_line(intent: Intent) -> bytes:
    return orjson.dumps({"begin": intent}) + b"\n"


def _progress_line(one: Open) -> bytes:
    tokens = [one.prompt_tokens, one.completion_tokens]
    return orjson.dumps({"given": one.intent.request_id, "tokens": tokens}) + b"\n"


def _told_line(outcome: Outcome) -> bytes:
    return b'{"told":%s}\n' % outcome.line()


def _end_line(request_id: str) -> bytes:
    return b'{"end":"%s"}\n' % request_id.encode()


def _fresh(folder: Path) -> tuple[Path, int]:
    """A new journal that is locked before anybody can find it."""
    path = folder / f"{new_id()}{SUFFIX}"
    hidden = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    file = os.open(hidden, flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)
    except OSError:
        os.close(file)
        hidden.unlink(missing_ok=True)
        raise
    return path, file


def _refused(error: OSError) -> Unavailable:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StorageFull(_FULL)
    return Unavailable(f"the gateway's journal cannot be written: {error.strerror}")
