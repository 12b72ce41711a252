"""Single values, each with its sentence where it cannot work."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.errors import WrongConfiguration


def host_name(values: Mapping[str, Any]) -> str:
    """What a worker calls this machine; empty for its own name."""
    found = str(values.get("worker_host", ""))
    if len(found) > 100 or not all(letter.isalnum() or letter in ".-_" for letter in found):
        raise WrongConfiguration(
            f"PARAM_WORKER_HOST: expected at most 100 letters, digits, dots, - and _, found {found!r}"
        )
    return found


def outside_url(values: Mapping[str, Any], name: str) -> str:
    """Address of a server that need not be there."""
    found = str(values.get(name, "")).rstrip("/")
    if found and not found.startswith(("http://", "https://")):
        raise WrongConfiguration(
            f"PARAM_{name.upper()}: expected http://… or https://…, found {found!r}"
        )
    return found


def home_folder(path: Path) -> Path:
    """The folder of all state, which is made later, where it can be made."""
    home = path.resolve()
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise WrongConfiguration(
            f"PARAM_HOME: expected a folder that can be written, or its place, found {nearest}"
        )
    return home


def log_level(name: str) -> str:
    """A level as Python's logging knows it."""
    levels = logging.getLevelNamesMapping()
    if name not in levels:
        raise WrongConfiguration(
            f"PARAM_LOG_LEVEL: expected one of {', '.join(levels)}, found {name!r}"
        )
    return name


def integer(values: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A whole number within its bounds."""
    raw = values.get(name, default)
    try:
        number = int(raw)
    except (TypeError, ValueError):
        number = low - 1
    if not low <= number <= high:
        raise WrongConfiguration(
            f"PARAM_{name.upper()}: expected a whole number from {low} to {high}, found {raw!r}"
        )
    return number
