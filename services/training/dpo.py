"""The process that trains one run: `python -m services.training.dpo RUN_DIR [--lock-fd N]`.

It holds the run's lock from its first line to its end, ends in order on SIGTERM (a checkpoint
within one step, then `result.json` says `stopped`), and writes `result.json` last in any case
but a kill. Exit status 0 whenever `result.json` was written, 75 where another process holds the
lock. torch is imported only after the lock is held.
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
    options = parser.parse_args(arguments)
    folder = RunFolder(options.run_dir)
    lock = held(folder, options.lock_fd)
    if lock is None:
        print("another process trains this run", file=sys.stderr)
        return ALREADY_RUNNING
    with lock:
        _run(folder)
    return 0


def _run(folder: RunFolder) -> None:
    started = time.monotonic()
    try:
        switch = StopSwitch()
        os.nice(NICENESS)
        folder.write("child.json", {"pid": os.getpid()})
        folder.write("stage.json", {"stage": "loading the base model"})
        from services.training.recipe import train  # torch comes in here, under the lock

        result = train(folder, switch)
    except StopAsked:
        result = {"outcome": "stopped"}
    except BaseException as error:
        traceback.print_exc()
        result = {"outcome": "failed", "error": explain(error)}
    folder.write(
        "result.json",
        {
            **result,
            "seconds": round(time.monotonic() - started, 1),
            "peak_rss_mb": round(peak_rss_mb()),
        },
    )


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
