"""Runs the real supervisor over stand-in programs: supervisor.py HOME < JSON list of programs.

Prints one JSON line per status: [name, happening, text].
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from console.processes.supervision import Program, StopRequest, Supervisor
from services.errors import ConsoleError


def main() -> int:
    def report(name: str, happening: str, text: str) -> None:
        print(json.dumps([name, str(happening), text]), flush=True)

    programs = [
        Program(**{**told, "command": tuple(told["command"])}) for told in json.load(sys.stdin)
    ]
    request = StopRequest()
    request.listen()
    supervisor = Supervisor(
        home=Path(sys.argv[1]),
        environment=os.environ,
        report=report,
        backoff_s=0.1,
        leftover_patience_s=0.3,
    )
    try:
        with supervisor.alone():
            supervisor.run(programs, request, on_ready=lambda: report("all", "ready", ""))
    except ConsoleError as error:
        report("supervisor", error.code, error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
