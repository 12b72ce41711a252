"""A real worker with the real DPO handler: `worker_process.py DATABASE_URL HOME [HOST]`.

Its runs can be held still at certain steps; see `held_child`. A worker that is given the name of a host waits 3 s, not 60, before it takes over another host's.
"""

from __future__ import annotations

import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

from services.db import Database
from services.jobs.claims import LEASE
from services.jobs.worker import run_worker
from services.training import backends
from services.training.worker import dpo_handler
from tests.services.training.world import build_world

if __name__ == "__main__":
    stop = threading.Event()
    backends.CHILD = "tests.services.training.held_child"
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    host = sys.argv[3] if len(sys.argv) > 3 else ""
    lease = timedelta(seconds=3) if host else LEASE
    world = build_world(Database(sys.argv[1]), Path(sys.argv[2]), real_base=True, host=host)
    run_worker(world, {"training.dpo": dpo_handler}, stop, poll_s=0.1, lease=lease)
