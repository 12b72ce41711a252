"""How long this process wants to run at a stretch where it shares a core.

The process that records answers takes its share of a core in few long turns, so that the one that
answers, which runs often and briefly, seldom has to wait behind it. Shares stay as they are: this is
no priority, and nobody who holds a lock of the database is kept from going on. Linux knows such a wish
since 6.12 (sched_setattr(2), `sched_runtime` of SCHED_OTHER); elsewhere nothing changes.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import struct
import sys

log = logging.getLogger(__name__)

LONG_TURN_NS = 30_000_000

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
"""size, policy, flags, nice, priority, runtime, deadline, period."""


def take_long_turns() -> bool:
    """Ask for long turns for this thread and those that it will start.

    Returns:
        Whether the kernel took the wish; one before 6.12 takes it and does nothing.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False  # whoever runs it under another policy has wishes of their own
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wish = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, LONG_TURN_NS, 0, 0)
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(number, 0, wish, 0) == 0:
        return True
    log.info("long turns: the kernel refused them: %s", os.strerror(ctypes.get_errno()))
    return False
