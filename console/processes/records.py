"""What a supervisor leaves on disk: one lock for itself, one record for each program."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from services.errors import Conflict

KILL_PATIENCE_S = 5.0


@contextmanager
def only_supervisor(run_dir: Path) -> Iterator[None]:
    """Hold the lock of this `PARAM_HOME`.

    Raises:
        Conflict: Another supervisor holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(run_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            raise Conflict(
                f"PARAM_HOME {run_dir.parent}: expected no running `param up`, found process "
                f"{holder}; stop that one or set another PARAM_HOME"
            ) from error
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield
    finally:
        os.close(lock)


def end_leftovers(run_dir: Path, report: Callable[[str, str], None], *, patience_s: float) -> None:
    """End programs that a killed supervisor left behind.

    A record that is still locked names a living program: only what the supervisor started holds
    that lock, and it wrote its own process id under it. An id alone would prove nothing, since
    ids are used again.

    Args:
        report: Takes the program's name and one sentence.
        patience_s: How long one may take to end before it is killed, seconds.

    Raises:
        Conflict: A record is locked, but names no process group of this user.
    """
    for record in sorted(run_dir.glob("*.pid")):
        if is_held(record):
            group = _group_of(record)
            report(record.stem, f"left over from an earlier start (process {group}): ending it")
            end_group(group, partial(is_held, record), patience_s=patience_s)
        record.unlink(missing_ok=True)


def is_held(record: Path) -> bool:
    """Whether the program of a record, or a part of it, still runs."""
    try:
        with record.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _group_of(record: Path) -> int:
    group = 0
    try:
        group = int(json.loads(record.read_bytes())["pid"])
        os.killpg(group, 0)
    except (ValueError, KeyError, TypeError, ProcessLookupError, PermissionError) as error:
        raise Conflict(
            f"{record}: expected a program that an earlier `param up` started, found the record "
            f"held by something else (process {group or 'unknown'}); end it by hand"
        ) from error
    return group


def end_group(group: int, lives: Callable[[], bool], *, patience_s: float) -> None:
    """End a process group: asked first, killed when it does not go in time.

    Args:
        group: Process group id.
        lives: Whether it is still there.
        patience_s: How long it may take after the first signal, seconds.
    """
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, KILL_PATIENCE_S)):
        deadline = time.monotonic() + wait_s
        signal_group(group, number)
        while lives() and time.monotonic() < deadline:
            time.sleep(0.05)
        if not lives():
            return


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; whether there was one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False
