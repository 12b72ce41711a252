"""What tests need before there is a fixture: what must be there, free ports, real data."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

REQUIRE_ALL = os.environ.get("PARAM_REQUIRE_ALL") == "1"
ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def require(found: bool, what: str) -> None:
    """Skip by name where something is missing; fail instead under `PARAM_REQUIRE_ALL=1`."""
    if found:
        return
    if REQUIRE_ALL:
        pytest.fail(f"PARAM_REQUIRE_ALL=1 and {what} is missing")
    pytest.skip(f"{what} is missing")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
