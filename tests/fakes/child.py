"""A job's child that loads no torch: `python -m tests.fakes.child FOLDER --lock-fd N`.

It does what the `mode` of `spec.json` says: `work` and `wait` end in order on SIGTERM, `die` is
killed without a word, `fail` reports a failure.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

STEP_S = 0.05


class Told(BaseException):
    """SIGTERM came."""


def on_signal(*_: Any) -> None:
    raise Told


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    half = folder / f".{name}"
    half.write_text(json.dumps(content))
    half.replace(folder / name)


def main() -> None:
    folder = Path(sys.argv[1])
    lock = os.fdopen(int(sys.argv[3]), "a")
    signal.signal(signal.SIGTERM, on_signal)
    order = json.loads((folder / "spec.json").read_text())
    with (folder / "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if order["mode"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        write(folder, "result.json", work(folder, order["mode"]))
    except Told:
        write(folder, "result.json", {"outcome": "stopped"})
    lock.close()


def work(folder: Path, mode: str) -> dict[str, Any]:
    if mode == "fail":
        return {"outcome": "failed", "error": "it did not work"}
    steps = 1200 if mode == "wait" else 20
    for step in range(steps):
        write(folder, "stage.json", {"stage": f"step {step}", "fraction": step / steps})
        time.sleep(STEP_S)
    return {"outcome": "succeeded", "steps": steps}


if __name__ == "__main__":
    main()
