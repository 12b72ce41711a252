"""A real worker with the real handler: `… DATABASE_URL HOME JUDGE_URL ENGINE_URL`."""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from services.db import Database
from services.jobs.worker import run_worker
from services.rlaif.worker import run_rlaif
from tests.services.rlaif.world import FAST, build_world

if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    built = build_world(Database(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    handlers = {"rlaif.run": partial(run_rlaif, pace=FAST, first_pause_s=0.02)}
    run_worker(SimpleNamespace(**built), handlers, stop, poll_s=0.02)
