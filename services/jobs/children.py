"""A job's child process: start it or find it, show its progress, take over what it reports.

Work that loads torch runs in a process of its own, which outlives the worker. A handler may be
called again for the same job at any time: after the worker was killed, after the child was
killed, after both were. It looks first, and acts on what it finds:

| the folder's lock | `result.json` | what is done |
| --- | --- | --- |
| held | any | a child lives: attend it, whoever started it |
| free | there | it has ended: take over what it reported |
| free | not there | start a child; it goes on behind what the folder holds |

Whoever starts a child holds the lock already and hands the open file on, so there is no moment
in which two children could start.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO

import psutil

from services.errors import ConsoleError
from services.jobs.devices import visible
from services.jobs.worker import JobContext, JobTaken

POLL_S = 0.5
GRACE_S = 60.0
"""From the order to stop until a child that does not obey is killed, seconds."""
MAX_RESTARTS = 2
"""How often one worker starts a child again that died without a word."""

log = logging.getLogger("param.children")


class ChildFailed(ConsoleError):
    """A job's process reported a failure, or died without a word."""

    code = "job_failed"


class ChildFolder(Protocol):
    """The folder that a child works in; see `training.folder.RunFolder`."""

    path: Path
    log: Path

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder, or None."""
        ...

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file in one rename."""
        ...

    def remove(self, *names: str) -> None:
        """Remove files."""
        ...

    def lock(self) -> TextIO | None:
        """Take the folder's lock; None where a living process holds it."""
        ...


class ChildProcess:
    """The process that works in a folder: started once, found again, told to end.

    Args:
        folder: Where it works.
        module: What it runs: `python -m MODULE FOLDER --lock-fd N`. It holds the lock for life,
            ends in order on SIGTERM, and writes `result.json` last: an object with `outcome`.
        host: Name of this machine; a process of another one is not signalled.
    """

    def __init__(self, folder: ChildFolder, module: str, *, host: str = "") -> None:
        self._folder = folder
        self._module = module
        self._host = host or socket.gethostname()
        self._process: subprocess.Popen[bytes] | None = None

    def lives(self) -> bool:
        """Whether a process holds the folder's lock, whoever started it."""
        if self._process is not None:
            self._process.poll()  # so that a dead child does not stay a zombie
        lock = self._folder.lock()
        if lock is not None:
            lock.close()
        return lock is None

    def start(self, lock: TextIO, *, device: str = "") -> int:
        """Start it and hand the lock on; its process id.

        Args:
            device: A slot as `devices` names it: what it is to see; empty for all.
        """
        self._folder.remove("child.json")
        command = [sys.executable, "-m", self._module, str(self._folder.path)]
        if device:
            # Set by `env`, which becomes the process: it has to be there before torch is.
            command = ["env", f"CUDA_VISIBLE_DEVICES={visible(device)}", *command]
        with self._folder.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "--lock-fd", str(lock.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )
        self._folder.write("child.json", {"pid": self._process.pid, "host": self._host})
        return self._process.pid

    def tell(self, number: signal.Signals) -> bool:
        """Signal its group, if it is known, here, and still is that process; whether it was."""
        note = self._folder.read("child.json")
        if note is None or note.get("host", self._host) != self._host:
            return False  # its first lines have not run yet, or it lives elsewhere
        try:
            if str(self._folder.path) not in psutil.Process(note["pid"]).cmdline():
                return False
            os.killpg(note["pid"], number)
        except (psutil.Error, ProcessLookupError):
            return False
        return True

    def wait(self) -> None:
        """Take the exit status of the process that this side started, once it is gone."""
        if self._process is not None:
            self._process.wait()

    @property
    def last_exit(self) -> str:
        """By which signal the last process that was started here ended, in words, if by one."""
        code = self._process.returncode if self._process is not None else None
        return f" (signal {-code})" if code is not None and code < 0 else ""


class Child:
    """One worker's care for the child of one job.

    Args:
        context: The job.
        folder: Where the child works.
        module: What the child runs; see `ChildProcess`.
        prepare: Writes what the child is told; called before every start.
        show: Shows the child's progress; called twice a second.
    """

    def __init__(
        self,
        context: JobContext,
        folder: ChildFolder,
        module: str,
        *,
        prepare: Callable[[], None],
        show: Callable[[], None],
    ) -> None:
        self._context = context
        self._folder = folder
        self._process = ChildProcess(folder, module)
        self._prepare = prepare
        self._show = show
        self._starts = 0
        self._told_at: float | None = None

    def result(self) -> dict[str, Any]:
        """Attend or start children until one has written its result; return that.

        Raises:
            ChildFailed: Children died without a word, several in a row.
            JobStopped: A person asked for a stop before one was started.
            JobPutBack: This worker is leaving, likewise.
            JobTaken: Another worker holds the job; the child is left alone.
        """
        while True:
            lock = self._folder.lock()
            if lock is None:
                self._attend()
                continue
            with lock:
                result = self._folder.read("result.json")
                if result is not None:
                    return result
                self._context.check()
                self._start(lock)

    def _start(self, lock: TextIO) -> None:
        if self._starts > MAX_RESTARTS:
            raise ChildFailed(without_a_word(self._starts, self._process.last_exit))
        self._starts += 1
        self._told_at = None
        self._prepare()
        pid = self._process.start(lock)
        log.info("job %s runs in process %d", self._context.job.id, pid)

    def _attend(self) -> None:
        while self._process.lives():
            if self._context.is_taken:
                raise JobTaken
            if self._context.should_leave:
                self._tell_to_stop()
                time.sleep(POLL_S)
            else:
                self._show()
                self._context.wait(POLL_S)
        self._process.wait()

    def _tell_to_stop(self) -> None:
        now = time.monotonic()
        if self._told_at is None:
            if self._process.tell(signal.SIGTERM):
                self._told_at = now
        elif now - self._told_at > GRACE_S:
            self._process.tell(signal.SIGKILL)


def without_a_word(times: int, how: str) -> str:
    """The sentence about processes that died and left no result."""
    return (
        f"the process of this job ended {times} times without a word{how}; "
        "too little memory is the usual cause"
    )
