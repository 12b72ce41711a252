"""A worker process for kill tests: `worker_process.py DATABASE_URL HOME`.

Its handler `count` notes its beginning in HOME/ledger, waits for HOME/go, notes its end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from services.db import Database
from services.jobs.worker import JobContext, run_worker
from tests.services.jobs.actors import parts


def count(context: JobContext) -> None:
    home = context.services.settings.home
    note(home, f"begin {context.job.id} {os.getpid()}")
    while not (home / "go").exists():
        context.wait(0.05)
        context.check()
    note(home, f"end {context.job.id} {os.getpid()}")


def note(home: Path, line: str) -> None:
    with (home / "ledger").open("a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    services = parts(Database(sys.argv[1]), Path(sys.argv[2]))
    run_worker(services, {"count": count}, stop, poll_s=0.05)
