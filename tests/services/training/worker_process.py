"""A real worker with the real DPO handler: `worker_process.py DATABASE_URL HOME`."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from services.db import Database
from services.jobs.worker import run_worker
from services.training.worker import dpo_handler
from tests.services.training.world import build_world

if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    world = build_world(Database(sys.argv[1]), Path(sys.argv[2]), real_base=True)
    run_worker(world, {"training.dpo": dpo_handler}, stop, poll_s=0.1)
