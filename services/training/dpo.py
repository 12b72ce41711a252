"""The process that trains one run: `python -m services.training.dpo RUN_DIR [--lock-fd N]`.

Where `spec.json` names several processes it leads them instead (`services.training.group`). It holds the run's lock from its first line to its end, ends in order on SIGTERM (a checkpoint
within one step, then `result.json` says `stopped`), and writes `result.json` last in any case
but a kill. Exit status 0 whenever `result.json` was written, 75 where another process holds the
lock, 70 where the processes that it led died. torch is imported only after the lock is held.
"""

from __future__ import annotations

import argparse
import errno
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from services.errors import ConsoleError
from services.training.folder import ALREADY_RUNNING, RunFolder, held
from services.training.group import Group, GroupDied, lead

DIED = 70
"""Exit status of a process whose group died; EX_SOFTWARE of sysexits.h."""
NICENESS = 5
"""Answers to users come before training where both share the cores."""


class StopAsked(BaseException):
    """SIGTERM came before the first step: nothing is lost by leaving at once."""


class StopSwitch:
    """Turns SIGTERM into an exception before training, and into a flag during it."""

    def __init__(self) -> None:
        self.asked = False
        self.in_training = False
        signal.signal(signal.SIGTERM, self._on_signal)
        # Ctrl-C in a terminal reaches the whole group; the worker decides what becomes of us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        first, self.asked = not self.asked, True
        if first and not self.in_training:
            raise StopAsked


def main(arguments: list[str] | None = None) -> int:
    """Train one run; see the module."""
    parser = argparse.ArgumentParser(prog="python -m services.training.dpo")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--lock-fd", type=int, help="descriptor that holds the run's lock already")
    parser.add_argument("--node", type=int, default=0, help="number of this host in the run")
    parser.add_argument("--meet", default="", help="address and port of the run's first host")
    options = parser.parse_args(arguments)
    folder = RunFolder(options.run_dir)
    group = group_of(folder, options.node, options.meet)
    if group.node:
        return lead_elsewhere(folder, group)
    lock = held(folder, options.lock_fd)
    if lock is None:
        print("another process trains this run", file=sys.stderr)
        return ALREADY_RUNNING
    with lock:
        return _run(folder, group)


def group_of(folder: RunFolder, node: int = 0, meet: str = "") -> Group:
    """How many processes train the run, as it was told, and which of them are this host's."""
    order = folder.read("spec.json") or {}
    return Group(int(order.get("processes", 1)), int(order.get("nodes", 1)), node, meet)


def lead_elsewhere(folder: RunFolder, group: Group) -> int:
    """Lead the processes of a host that is not the run's first; how it ends is not told here."""
    try:
        os.nice(NICENESS)
        lead(folder, StopSwitch(), group)
    except StopAsked:
        return 0
    except GroupDied as error:
        print(error.message, file=sys.stderr)
        return DIED
    return 0


def _run(folder: RunFolder, group: Group) -> int:
    started = time.monotonic()
    result: dict[str, Any]
    try:
        switch = StopSwitch()
        os.nice(NICENESS)
        folder.write("child.json", {"pid": os.getpid()})
        folder.write("stage.json", {"stage": "loading the base model"})
        if group.is_single:
            from services.training.recipe import train  # torch comes in here, under the lock

            result = train(folder, switch)
        else:
            result = lead(folder, switch, group)
    except StopAsked:
        result = {"outcome": "stopped"}
    except GroupDied as error:
        # As if this process had been killed with them: the run goes on from its last checkpoint.
        print(error.message, file=sys.stderr)
        return DIED
    except BaseException as error:
        traceback.print_exc()
        result = {"outcome": "failed", "error": explain(error)}
    folder.write(
        "result.json",
        {
            "peak_rss_mb": round(peak_rss_mb()),
            **result,
            "seconds": round(time.monotonic() - started, 1),
        },
    )
    return 0


def explain(error: BaseException) -> str:
    """One sentence about why a run failed; never a line of the data."""
    text = str(error)
    if isinstance(error, ConsoleError):
        return error.message
    if (isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}) or (
        "No space left on device" in text
    ):
        return "the disk is full; free some space, then resume the run"
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return "the memory did not suffice; lower batch_size or max_length"
    return f"unexpected {type(error).__name__}; the traceback is in the run's log"


def peak_rss_mb() -> float:
    """The most memory that this process held at once, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    sys.exit(main())
