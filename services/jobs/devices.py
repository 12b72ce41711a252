"""What a host can train on: one slot of the queue `training` for each device."""

from __future__ import annotations

import re
from pathlib import Path

from services.errors import WrongConfiguration

AUTO = "auto"
JOIN = "+"
"""Between the devices of one slot: `cuda:0+cuda:1` trains one run on both."""
_NAME = re.compile(r"cpu(\+cpu)*|cuda:\d{1,3}(\+cuda:\d{1,3})*")
_GPU_FILE = re.compile(r"nvidia(\d+)")


def devices(asked: str, *, dev: Path = Path("/dev")) -> tuple[str, ...]:
    """The devices of this host, a name for each slot.

    Args:
        asked: Names parted by commas, `cpu` or `cuda:N` (twice `cpu` trains two runs at once);
            several joined by + are one slot, whose runs use all of them, a process each; `auto`
            for every NVIDIA GPU that the system shows, or one `cpu` where there is none.
        dev: Where the system shows devices.

    Raises:
        WrongConfiguration: A name is neither, or a GPU is named twice.
    """
    if asked == AUTO:
        found = sorted(
            int(match[1])
            for path in dev.glob("nvidia*")
            if (match := _GPU_FILE.fullmatch(path.name))
        )
        return tuple(f"cuda:{number}" for number in found) or ("cpu",)
    names = tuple(name.strip() for name in asked.split(","))
    wrong = next((name for name in names if not _NAME.fullmatch(name)), None)
    if wrong is not None:
        raise WrongConfiguration(
            f"PARAM_TRAINING_DEVICES: expected auto, or cpu and cuda:N parted by commas, found {wrong!r}"
        )
    single = [one for name in names for one in name.split(JOIN)]
    twice = next((one for one in single if one != "cpu" and single.count(one) > 1), None)
    if twice is not None:
        raise WrongConfiguration(
            f"PARAM_TRAINING_DEVICES: expected each GPU once, found {twice} twice"
        )
    return names


def processes(device: str) -> int:
    """How many processes train a run of this slot together: one for each of its devices."""
    return device.count(JOIN) + 1


def visible(device: str) -> str:
    """The slot's GPUs as CUDA_VISIBLE_DEVICES takes them; empty for a CPU."""
    return ",".join(name.removeprefix("cuda:") for name in device.split(JOIN) if name != "cpu")
