"""How long the command takes to say what it can do: `python bench/commands.py`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

PARAM = Path(sys.executable).with_name("param")
RUNS = 7


def main() -> None:
    """Print a table of wall times."""
    print(f"{'command':<24}{'min ms':>10}{'median ms':>12}")
    for command in (("--help",), ("tenants", "--help"), ("train", "--help")):
        times = []
        for _ in range(RUNS):
            began = time.perf_counter()
            subprocess.run([PARAM, *command], capture_output=True, check=True)
            times.append(1000 * (time.perf_counter() - began))
        name = " ".join(("param", *command))
        print(f"{name:<24}{min(times):>10.0f}{statistics.median(times):>12.0f}")


if __name__ == "__main__":
    main()
