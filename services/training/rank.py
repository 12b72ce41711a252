"""One of the processes that train a run together: `accelerate launch … rank RUN_DIR`.

It is started by `services.training.group`, learns its number from the environment that the
launcher sets, and writes `rank-N.json` last, unless another process's death ended it. All of them
compute; only the first writes to the run's folder.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import Any

from services.training.folder import RunFolder
from services.training.group import die_with_parent, take_part

_BROKEN = ("gloo", "nccl", "connection closed by peer", "connection reset", "process group")
"""Words of errors that tell of another process's end, not of this one's."""


class Onlooker(RunFolder):
    """A run's folder for the processes that only compute."""

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Leave it to the first process."""

    def really_write(self, name: str, content: dict[str, Any]) -> None:
        """Write it all the same."""
        super().write(name, content)


class Unswitched:
    """No signal ends such a process in order: the leader writes the file `stop`."""

    asked = False
    in_training = False


def main(arguments: list[str] | None = None) -> int:
    """Train one process's share of a run; see the module."""
    found = sys.argv[1:] if arguments is None else arguments
    die_with_parent()
    path = Path(found[0])
    with take_part(RunFolder(path)):
        return _train(path)


def _train(path: Path) -> int:
    import accelerate
    import torch

    state = accelerate.PartialState(cpu=not torch.cuda.is_available())
    folder = Onlooker(path)
    own = f"rank-{state.process_index}.json"
    try:
        from services.training.recipe import train

        result = train(RunFolder(path) if state.is_main_process else folder, Unswitched())
    except BaseException as error:
        traceback.print_exc()
        if is_anothers(error):
            return 1
        from services.training.dpo import explain

        result = {"outcome": "failed", "error": explain(error)}
    from services.training.dpo import peak_rss_mb

    folder.really_write(own, {**result, "at": time.time(), "peak_rss_mb": round(peak_rss_mb())})
    if result["outcome"] == "failed":
        return 1
    state.wait_for_everyone()
    state.destroy_process_group()
    return 0


def is_anothers(error: BaseException) -> bool:
    """Whether an error only says that another process of the group has gone."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _BROKEN)


if __name__ == "__main__":
    sys.exit(main())
