"""The supervisor: starts programs, watches them, starts them again, ends them in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Event
from types import FrameType
from typing import IO

from console.processes import records
from console.processes.probing import answers, last_line
from services.errors import Unavailable

LAUNCH = Path(__file__).with_name("launch.py")
TICK_S = 0.1
PROBE_EVERY_S = 5.0
SILENT_AFTER = 3
"""Probes in a row without an answer before anybody is told."""

STEADY_S = 60.0
MAX_BACKOFF_S = 30.0
MAX_FAILED_STARTS = 4
ECHO_S = 1.0
LOG_LIMIT_BYTES = 10 * 1024 * 1024
WRONG_USE = 2
"""Exit status of a program whose configuration is off: starting it again cannot help."""


@dataclass(frozen=True)
class Program:
    """One process of the installation.

    Attributes:
        command: Program and arguments.
        ready_url: Answers 200 once it serves; None where `ready_file` tells.
        ready_file: Holds the process id once it works.
        shown: What people are told when it is ready, such as its address.
        cwd: Working directory; the supervisor's own by default.
        start_timeout_s: How long it may take until ready, seconds.
        grace_s: How long it may take to end, seconds.
        stop_phase: Lower ones end first.
        notes: What people should know of it before it starts, one sentence each.
    """

    name: str
    command: tuple[str, ...]
    ready_url: str | None = None
    ready_file: Path | None = None
    shown: str = ""
    cwd: Path | None = None
    start_timeout_s: float = 120.0
    grace_s: float = 10.0
    stop_phase: int = 0
    notes: tuple[str, ...] = ()


class Happening(StrEnum):
    """What a status line tells of."""

    NOTE = "note"
    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"
    RESTARTING = "restarting"
    SILENT = "silent"
    LEFTOVER = "leftover"
    STOPPED = "stopped"
    KILLED = "killed"


Report = Callable[[str, Happening, str], None]
"""Takes a program's name, what happened and one sentence."""


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    ready_at: float | None = None
    start_again_at: float | None = None
    probed_at: float = 0.0
    missed: int = 0
    failures: int = 0
    group: int = field(default=0)


class StopRequest:
    """Whether the supervisor was asked to stop, and whether it was asked again.

    The second time within `ECHO_S` is taken for the first one: a terminal signals a whole group,
    and `make` passes on what its children have received already.
    """

    def __init__(self) -> None:
        self.stop = Event()
        self.hurry = Event()
        self._asked_at = 0.0

    def listen(self) -> None:
        """Take Ctrl-C, SIGTERM and the end of the terminal as the request. Main thread only."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.ask)

    def ask(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Ask to stop, or to hurry."""
        now = time.monotonic()
        if not self.stop.is_set():
            self._asked_at = now
            self.stop.set()
        elif now - self._asked_at > ECHO_S:
            self.hurry.set()


class Supervisor:
    """Keeps programs running until it is told to stop.

    Args:
        home: `PARAM_HOME`; records go to `run/`, logs to `logs/`.
        environment: Of every program.
        report: Takes one status line at a time.
        backoff_s: Wait before the first restart, seconds; doubled each time up to
            `MAX_BACKOFF_S`, and back to this after `STEADY_S` without a failure.
        leftover_patience_s: How long a program of a killed supervisor may take to end, seconds.
    """

    def __init__(
        self,
        *,
        home: Path,
        environment: Mapping[str, str],
        report: Report,
        backoff_s: float = 1.0,
        leftover_patience_s: float = 15.0,
    ) -> None:
        self._children: list[_Child] = []
        self._run_dir = home / "run"
        self._logs_dir = home / "logs"
        self._environment = dict(environment)
        self._report = report
        self._backoff_s = backoff_s
        self._leftover_patience_s = leftover_patience_s
        self._guard: subprocess.Popen[bytes] | None = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only supervisor of this `PARAM_HOME`, and clear up after one that was killed.

        Raises:
            Conflict: Another supervisor runs.
        """
        with records.only_supervisor(self._run_dir):
            records.end_leftovers(
                self._run_dir,
                lambda name, text: self._report(name, Happening.LEFTOVER, text),
                patience_s=self._leftover_patience_s,
            )
            yield

    def run(
        self,
        programs: Sequence[Program],
        request: StopRequest,
        *,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Start everything, keep it up until asked to stop, then end it.

        Inside `alone()`, and in the main thread only: the kernel binds a program's life to the
        thread that started it.

        Args:
            on_ready: Called once, when every program has become ready.

        Raises:
            Unavailable: A program never became ready, however often it was started.
        """
        self._children = [_Child(program) for program in programs]
        self._logs_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._start_guard()
            for child in self._children:
                for note in child.program.notes:
                    self._report(child.program.name, Happening.NOTE, note)
                self._start(child)
            self._watch(request.stop, on_ready)
        finally:
            self._stop_all(request.hurry)

    def _watch(self, stop: Event, on_ready: Callable[[], None]) -> None:
        told = False
        while not stop.wait(TICK_S):
            for child in self._children:
                self._tend(child)
            if not told and all(child.ready_at is not None for child in self._children):
                told = True
                on_ready()

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if child.start_again_at is not None and now >= child.start_again_at:
                self._start(child)
        elif (status := child.process.poll()) is not None:
            self._ended(child, status)
        elif child.ready_at is None:
            self._await_ready(child, now)
        elif now - child.probed_at >= PROBE_EVERY_S:
            self._probe_again(child, now)

    def _start(self, child: _Child) -> None:
        program = child.program
        if program.ready_file:
            program.ready_file.unlink(missing_ok=True)
        record = self._run_dir / f"{program.name}.pid"
        command = (sys.executable, "-I", "-S", str(LAUNCH), "run", str(os.getpid()), str(record))
        with self._log(program.name) as log:
            child.process = subprocess.Popen(
                (*command, *program.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=program.cwd,
                env=self._environment,
                start_new_session=True,
            )
        child.group = child.process.pid
        child.started_at, child.ready_at, child.start_again_at = time.monotonic(), None, None
        child.missed = 0
        self._tell_guard("+", child.group)
        self._report(program.name, Happening.STARTING, f"process {child.group}")

    def _await_ready(self, child: _Child, now: float) -> None:
        took_s = now - child.started_at
        if self._is_ready(child):
            child.ready_at = child.probed_at = now
            shown = child.program.shown or "at work"
            self._report(child.program.name, Happening.READY, f"{shown} (after {took_s:.1f} s)")
        elif took_s > child.program.start_timeout_s:
            self._end(child)
            self._failed(child, f"was not ready within {child.program.start_timeout_s:g} s")

    def _probe_again(self, child: _Child, now: float) -> None:
        """Say that a program went silent; a busy machine is no reason to kill it."""
        child.probed_at = now
        if child.ready_at is not None and now - child.ready_at > STEADY_S:
            child.failures = 0
        if not self._is_ready(child):
            child.missed += 1
            if child.missed == SILENT_AFTER:
                self._report(child.program.name, Happening.SILENT, "runs, but does not answer")
            return
        if child.missed >= SILENT_AFTER:
            self._report(child.program.name, Happening.READY, "answers again")
        child.missed = 0

    def _is_ready(self, child: _Child) -> bool:
        program = child.program
        if program.ready_file:
            with contextlib.suppress(FileNotFoundError):
                return program.ready_file.read_text().strip() == str(child.group)
            return False
        return program.ready_url is None or answers(program.ready_url)

    def _ended(self, child: _Child, status: int) -> None:
        records.signal_group(child.group, signal.SIGKILL)  # What a dead program left in its group.
        self._tell_guard("-", child.group)
        child.process = None
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended ({status})"
        self._failed(child, how, hopeless=status == WRONG_USE and child.ready_at is None)

    def _failed(self, child: _Child, how: str, *, hopeless: bool = False) -> None:
        name, never_ready = child.program.name, child.ready_at is None
        child.failures += 1
        if hopeless or (never_ready and child.failures >= MAX_FAILED_STARTS):
            log = self._logs_dir / f"{name}.log"
            raise Unavailable(f"{name}: expected it to start, but it {how}: {last_line(log)}")
        wait_s = min(self._backoff_s * 2 ** (child.failures - 1), MAX_BACKOFF_S)
        child.start_again_at = time.monotonic() + wait_s
        child.ready_at = None
        self._report(name, Happening.ENDED, how)
        self._report(
            name, Happening.RESTARTING, f"in {wait_s:g} s, for the {_ordinal(child.failures)} time"
        )

    def _end(self, child: _Child) -> None:
        process = child.process
        if process is None:
            return
        lives: Callable[[], bool] = lambda: process.poll() is None  # noqa: E731
        records.end_group(child.group, lives, patience_s=child.program.grace_s)
        self._tell_guard("-", child.group)
        child.process = None

    def _stop_all(self, hurry: Event) -> None:
        """End the programs phase by phase; a second request to stop cuts the grace short."""
        for phase in sorted({child.program.stop_phase for child in self._children}):
            living = [
                child
                for child in self._children
                if child.process is not None and child.program.stop_phase == phase
            ]
            self._stop_phase(living, hurry)
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()
            self._guard.wait()

    def _stop_phase(self, living: list[_Child], hurry: Event) -> None:
        asked_at = time.monotonic()
        for child in living:
            if child.process is not None:
                child.process.terminate()
        while living:
            for child in list(living):
                late = time.monotonic() - asked_at > child.program.grace_s or hurry.is_set()
                gone = child.process is None or child.process.poll() is not None
                if gone or late:
                    living.remove(child)
                    self._swept(child, killed=not gone)
            time.sleep(0.02 if living else 0)

    def _swept(self, child: _Child, *, killed: bool) -> None:
        records.signal_group(child.group, signal.SIGKILL)
        if child.process is not None:
            child.process.wait()
        child.process = None
        self._tell_guard("-", child.group)
        (self._run_dir / f"{child.program.name}.pid").unlink(missing_ok=True)
        if child.program.ready_file:
            child.program.ready_file.unlink(missing_ok=True)
        self._report(
            child.program.name,
            Happening.KILLED if killed else Happening.STOPPED,
            "did not end in time and was killed" if killed else "ended",
        )

    def _start_guard(self) -> None:
        grace_s = max((child.program.grace_s for child in self._children), default=0.0)
        self._guard = subprocess.Popen(
            (sys.executable, "-I", "-S", str(LAUNCH), "guard", str(grace_s)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _tell_guard(self, sign: str, group: int) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # Killed by hand; the kernel's bond holds.
                self._guard.stdin.write(f"{sign}{group}\n".encode())
                self._guard.stdin.flush()

    def _log(self, name: str) -> IO[bytes]:
        path = self._logs_dir / f"{name}.log"
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")


def _ordinal(number: int) -> str:
    last = number % 10 if number % 100 not in {11, 12, 13} else 0
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"
