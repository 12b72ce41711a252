"""What the processes of one run tell each other; alone, each of these is what it says itself.

Every process of the run has to ask, and at the same point. Imports torch.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import PartialState
from torch import distributed


def several() -> bool:
    """Whether this process trains with others."""
    return distributed.is_available() and distributed.is_initialized()


def anyone(says: bool) -> bool:
    """Whether any of them says so."""
    return total(float(says)) > 0


def total(value: float) -> float:
    """The sum over all of them."""
    if not several():
        return value
    found = torch.tensor(value, dtype=torch.float32, device=PartialState().device)
    distributed.all_reduce(found)
    return float(found.item())


def gpu_mb() -> float:
    """The most GPU memory that all of them held so far, MiB; 0 without a GPU."""
    if not torch.cuda.is_available():
        return 0.0
    return round(total(torch.cuda.max_memory_allocated() / 2**20), 1)


def the_firsts(value: Any) -> Any:
    """What the first of them has found; files on a network may look different to the others."""
    if not several():
        return value
    found = [value]
    distributed.broadcast_object_list(found, src=0, device=PartialState().device)
    return found[0]


def wait_for_all() -> None:
    """Return once all of them have come here."""
    if several():
        PartialState().wait_for_everyone()
