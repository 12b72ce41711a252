"""Fifty times kill -9 under load, and what is left: `python -m bench.kills [--kills 50]`.

A real gateway process answers six clients (whole answers, short and long streams) from a fake
engine and is killed with SIGKILL in the middle, again and again; half-way the tenant's tokens of
the day and money of the month are made so narrow that they run out. Afterwards every claim is
checked; a claim that does not hold ends the program with its name.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from services.db import Database
from services.db.revise import declared_tables
from tests.fakes.engine import FakeEngine
from tests.services.gateway.edges import process_over
from tests.services.gateway.killing import Findings, kill_often


def main() -> None:
    """Kill, check, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=50)
    kills = arguments.parse_args().kills
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, FakeEngine() as engine:
        folder = Path(name)
        database = Database(f"sqlite:///{folder / 'param.db'}")
        declared_tables().create_all(database.engine)
        with process_over(database, engine, folder) as gateway:
            found = kill_often(gateway, kills)
        database.close()
    for text, value in rows(found):
        print(f"{text:<58}{value:>14,}")
    print(f"all of it holds; {time.monotonic() - began:.0f} s")


def rows(found: Findings) -> list[tuple[str, int]]:
    """What is printed; every claim was checked before."""
    tokens = sum(row.prompt_tokens + row.completion_tokens for row in found.rows)
    spent = sum(row.cost_micro for row in found.rows)
    return [
        ("kill -9 under load", found.kills),
        ("requests that the engine was asked", found.asked),
        ("requests in the log, each once", len(found.rows)),
        ("receipts given to the end, all in the log", len(found.receipts)),
        ("streams cut off after their first words, all in the log", len(found.begun)),
        ("requests interrupted, made known by the next process", found.interrupted),
        ("requests refused (429)", found.statuses[429]),
        ("tokens of the day: used", tokens),
        ("tokens of the day: limit", found.limits.daily_tokens),
        ("money of the month, micro-USD: spent", spent),
        ("money of the month, micro-USD: budget", found.limits.monthly_micro or 0),
        ("reservations left behind", 0),
    ]


if __name__ == "__main__":
    main()
