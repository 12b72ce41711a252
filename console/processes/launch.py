"""What stands between the supervisor and a program. Run as a script, standard library only.

    launch.py run PARENT RECORD COMMAND…    become COMMAND, bound to the supervisor's life
    launch.py guard GRACE_S                 end the groups named on standard input when it closes

`run` asks Linux to end the program when its supervisor ends (`PR_SET_PDEATHSIG` survives exec),
and holds a file lock on the program's record as long as any of it lives: a lock, unlike a
process id, is never reused. `guard` does the same where that call does not exist (macOS), for
grandchildren, and for programs that ignore the first signal: the supervisor tells it each
process group, and the end of its standard input means that the supervisor is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOCK_PATIENCE_S = 10.0
ORPHANED = 113
STILL_HELD = 114


def run(parent: int, record: str, command: list[str]) -> int:
    """Become the command; returns only where that is refused.

    Args:
        parent: Process id of the supervisor.
        record: File that says what runs, JSON; locked as long as it runs.
        command: Program and arguments.

    Returns:
        `ORPHANED` if the supervisor is gone already, `STILL_HELD` if the program still runs.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # It ended before the call above could bind us to it.
        return ORPHANED
    lock = os.open(record, os.O_RDWR | os.O_CREAT, 0o600)
    if not _locked(lock):
        print(f"{record}: another copy of this program still runs", file=sys.stderr)
        return STILL_HELD
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps({"pid": os.getpid(), "command": command}).encode())
    os.set_inheritable(lock, True)
    os.execvp(command[0], command)


def _locked(lock: int) -> bool:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def guard(grace_s: float) -> int:
    """Wait for the supervisor's end, then end what it left behind.

    Lines `+PID` and `-PID` on standard input name process groups that run and that have ended.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line.startswith("+") else groups.discard)(int(line[1:]))
    deadline = time.monotonic() + grace_s
    groups = {group for group in groups if _signalled(group, signal.SIGTERM)}
    while groups and time.monotonic() < deadline:
        time.sleep(0.1)
        groups = {group for group in groups if _signalled(group, 0)}
    for group in groups:
        _signalled(group, signal.SIGKILL)
    return 0


def _signalled(group: int, number: int) -> bool:
    """Signal a process group; whether there was one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", parent, record, *command]:
            sys.exit(run(int(parent), record, command))
        case ["guard", grace_s]:
            sys.exit(guard(float(grace_s)))
        case _:
            sys.exit(__doc__)
