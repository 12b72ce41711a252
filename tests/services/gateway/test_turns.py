from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
import subprocess
import sys

from services.bootstrap import Services
from services.gateway.ledger import Scribe
from services.gateway.turns import LONG_TURN_NS
from tests.conftest import require

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275, "riscv64": 275}
FIELDS = struct.Struct("=IIQiIQQQ")


def kernel_knows_turns() -> bool:
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    assert version is not None
    return tuple(map(int, version.groups())) >= (6, 12)


def takes_long_turns(thread: int) -> bool:
    found = ctypes.create_string_buffer(FIELDS.size)
    number = SCHED_GETATTR[platform.machine()]
    assert ctypes.CDLL(None).syscall(number, thread, found, FIELDS.size, 0) == 0
    runtime: int = FIELDS.unpack(found)[5]
    return runtime == LONG_TURN_NS


async def test_all_of_the_process_that_records_takes_long_turns_and_nobody_else(
    services: Services,
) -> None:
    require(
        sys.platform == "linux" and platform.machine() in SCHED_GETATTR, "sched_getattr (Linux)"
    )
    scribe = Scribe()
    await scribe.tend(sign=False)
    try:
        threads = [int(name) for name in os.listdir(f"/proc/{scribe.pid}/task")]
        assert len(threads) > 1
        assert {takes_long_turns(thread) for thread in threads} == {kernel_knows_turns()}
    finally:
        await scribe.close()
    assert not takes_long_turns(0)


def test_whoever_chose_another_policy_keeps_it() -> None:
    require(sys.platform == "linux", "scheduling policies (Linux)")
    asked = (
        "import os; from services.gateway.turns import take_long_turns;"
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0));"
        "print(take_long_turns(), os.sched_getscheduler(0) == os.SCHED_BATCH)"
    )
    said = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.split() == ["False", "True"]
