"""The real training process, which holds itself still where a test wants to meet it.

While `hold` lies in the run's folder it stops itself (SIGSTOP) after every third step, once that
step's line is written, until somebody lets it go on (SIGCONT). A slow machine passes no point by.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from services.training import dpo, group
from services.training.folder import RunFolder

HOLD = "hold"
EVERY = 3


def hold_still(hold: Path) -> None:
    """Have this process hold itself still as the module says."""
    from services.training.recorder import Recorder

    plain = Recorder.on_log

    def on_log(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        plain(self, args, state, control, **more)
        if state.global_step % EVERY == 0 and hold.exists():
            os.kill(os.getpid(), signal.SIGSTOP)

    Recorder.on_log = on_log  # type: ignore[method-assign, assignment]


def main() -> int:
    """Train like `services.training.dpo`, but for the holding."""
    path = Path(sys.argv[1])
    if dpo.group_of(RunFolder(path)).is_single:
        hold_still(path / HOLD)
    group.MODULE = "tests.services.training.held_rank"
    return dpo.main()


if __name__ == "__main__":
    sys.exit(main())
