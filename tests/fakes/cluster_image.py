"""What the simulated cluster's image holds instead of the real one: quick, torch-free runs.

`python -m tests.fakes.cluster_image pod RUN_DIR` is `services.training.pod` around
`python -m tests.fakes.cluster_image RUN_DIR`, which does what the `mode` of `spec.json` says: `work`
does twenty steps, `wait` goes on until it is told to stop, `die` is killed without a word, `fail`
reports a failure, `deaf` obeys nobody. It goes on behind its last step, as the real one does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from services.training.folder import STOP, RunFolder
from services.training.pod import main as pod

STEP_S = 0.02


class Told(BaseException):
    """SIGTERM came, or the file `stop`."""


def on_signal(*_: Any) -> None:
    raise Told


def run(folder: RunFolder) -> None:
    lock = folder.lock()
    assert lock is not None, "another process holds the run"
    order = folder.read("spec.json") or {}
    mode = order["mode"]
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "deaf" else on_signal)
    print(f"mode {mode}, threads {order['threads']}", flush=True)
    if mode == "die" and not (folder.path / "died").exists():
        (folder.path / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        result = work(folder, mode)
    except Told:
        result = {"outcome": "stopped"}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    folder.write("result.json", result)
    lock.close()


def work(folder: RunFolder, mode: str) -> dict[str, Any]:
    if mode == "fail":
        return {"outcome": "failed", "error": "it did not work"}
    done = int((folder.read("steps.json") or {}).get("done", 0))
    while done < (10**9 if mode in {"wait", "deaf"} else 20):
        done += 1
        folder.write("steps.json", {"done": done})
        print(json.dumps({"step": done}), flush=True)
        if mode != "deaf" and (folder.path / STOP).exists():
            raise Told
        time.sleep(STEP_S)
    return {"outcome": "succeeded", "steps": done}


if __name__ == "__main__":
    if sys.argv[1] == "pod":
        sys.exit(pod(sys.argv[2:], child="tests.fakes.cluster_image"))
    run(RunFolder(Path(sys.argv[1])))
