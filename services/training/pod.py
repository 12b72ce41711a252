"""What a run's pod executes: `python -m services.training.pod RUN_DIR [--node N --meet HOST:PORT]`.

It starts `services.training.dpo`, writes what that prints both to the run's log on the shared
volume, where the run's page reads it, and to its own output, where `kubectl logs` does, hands
SIGTERM on, and ends with the same status. A pod's own log is gone with the pod. Of a run on
several nodes the first one's output is the run's log.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from services.training.folder import RunFolder

CHILD = "services.training.dpo"


def main(arguments: list[str] | None = None, *, child: str = CHILD) -> int:
    """Run one run's process; see the module.

    Args:
        arguments: The run's folder and what is handed on, instead of the process's own.
        child: What is started.
    """
    found = sys.argv[1:] if arguments is None else arguments
    if not found or not Path(found[0]).is_dir():
        print(
            f"expected the folder of a run, found {' '.join(found) or 'nothing'}", file=sys.stderr
        )
        return 2
    folder = RunFolder(Path(found[0]))
    process: subprocess.Popen[bytes] | None = None
    told = False

    def hand_on(number: int, _frame: Any) -> None:
        nonlocal told
        told = True
        if process is not None:
            process.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    with _log(folder, found[1:]).open("ab", buffering=0) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", child, str(folder.path), *found[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if told:  # the signal came before there was anybody to hand it to
            process.terminate()
        assert process.stdout is not None
        while piece := process.stdout.read1(65_536):  # type: ignore[attr-defined]
            log.write(piece)
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _log(folder: RunFolder, told: list[str]) -> Path:
    """Where the output is kept: the run's log, but on the first node only."""
    node = told[told.index("--node") + 1] if "--node" in told else "0"
    return folder.log if node == "0" else Path(os.devnull)


if __name__ == "__main__":
    sys.exit(main())
