"""Looking at a process from outside: does it answer, and what did it say last."""

from __future__ import annotations

import contextlib
import http.client
from pathlib import Path
from urllib.parse import urlsplit

PROBE_TIMEOUT_S = 2.0


def answers(url: str) -> bool:
    """Whether a GET on an http URL answers 200 within `PROBE_TIMEOUT_S`."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port or 80, timeout=PROBE_TIMEOUT_S
    )
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def last_line(path: Path, *, limit: int = 300) -> str:
    """The last line of a log that is not empty, cut to `limit` characters."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65_536))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
        if filled := [line for line in lines if line]:
            return f"{filled[-1][:limit]} (more in {path})"
    return f"it wrote nothing to {path}"
