"""The list of training runs at size: `python bench/runs.py [--runs 500] [--steps 2000]`.

Makes runs in a fresh SQLite home, one of them with a long curve, and prints how long the service
takes for everything that the page asks when it opens, and how long the page takes in headless
Chromium from the click on its name to the painted list.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench.card import _environment as environment
from bench.opening import CHROMIUM, PASSWORD, Opening, free_port, opened
from services import bootstrap, settings
from services.db import Database, new_id, utcnow
from services.db.revise import declared_tables
from services.jobs.models import JobStatus
from services.jobs.store import JobRow
from services.tenants.models import Actor, Limits, Role
from services.training.folder import RunFolder
from services.training.models import DpoSpec, Point
from services.training.service import Training
from services.training.store import RunRow

TENANT = "bench"
SYSTEM = Actor.system("bench")
TIMES = 9
TARGET_MS = 500


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--times", type=int, default=9, help="openings of the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder), free_port()
        built = bootstrap.build(settings.load(environment(home, port)))
        declared_tables().create_all(built.db.engine)
        built.tenants.create(SYSTEM, "Bench", limits=Limits(5, 100, 10_000))
        built.tenants.create_user(
            SYSTEM, "engineer", display_name="Engineer", password=PASSWORD,
            grants={TENANT: frozenset({Role.ENGINEER})},
        )  # fmt: skip
        training = built.training
        newest = fill(built.db, training, options.runs, options.steps)
        show(
            options,
            {
                "list of runs": timed(lambda: training.lines(SYSTEM, TENANT, limit=500)),
                "one run": timed(lambda: training.get(SYSTEM, newest)),
                "its curve": timed(lambda: training.metrics(SYSTEM, newest)),
                "the log's end": timed(lambda: training.log_tail(SYSTEM, newest)),
            },
        )
        built.close()
        if CHROMIUM is None:
            print("the page: left out, Chromium is not on this machine")
        else:
            show_opening(opened(home, port, "train", user="engineer", times=options.times))


def fill(db: Database, training: Training, n_runs: int, n_steps: int) -> str:
    """Write finished runs; the newest has a curve and a log. Returns its id."""
    began = utcnow() - timedelta(days=n_runs)
    spec = DpoSpec.from_preset("quick", alias="bench", dataset_id="d", base_model="b")
    run_id = ""
    with db.write() as session:
        for number in range(n_runs):
            run_id, job_id, at = new_id(), new_id(), began + timedelta(days=number)
            session.add(
                JobRow(
                    id=job_id, tenant_id=TENANT, kind="training.dpo", queue="training",
                    payload={"run_id": run_id}, status=JobStatus.SUCCEEDED, progress=1.0,
                    message="the adapter is registered", attempt=1, crashes=0, created_at=at,
                    created_by_id="u", created_by="bench",
                )
            )  # fmt: skip
            session.flush()
            session.add(
                RunRow(
                    id=run_id, tenant_id=TENANT, job_id=job_id, alias="bench",
                    spec=spec.as_json(), spec_sha256=spec.sha256, dataset_id="d",
                    dataset_sha256="d" * 64, base_digest="b" * 64, adapter=f"bench-{number:012x}",
                    result={"final": {"loss": 0.3}}, created_at=at, created_by="bench",
                )
            )  # fmt: skip
    folder = training.folder(training.get(SYSTEM, run_id))
    write_curve(folder, n_steps)
    return run_id


def write_curve(folder: RunFolder, n_steps: int) -> None:
    """A curve of many steps and a log of some megabytes."""
    folder.path.mkdir(parents=True)
    point = Point(1, n_steps, 0.5, 0.1, 1.0, 0.2, 0.1, 1e-4, 1.5, 200.0, 900.0, 3.0, 1.0)
    lines = (json.dumps({**asdict(point), "step": step}) for step in range(1, n_steps + 1))
    folder.metrics_file.write_text("".join(f"{line}\n" for line in lines))
    folder.log.write_text("one line of the log, as long as such lines are\n" * 100_000)


def timed(call: Callable[[], Any]) -> list[float]:
    """Milliseconds of several calls, in order."""
    found = []
    for _ in range(TIMES):
        began = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - began))
    return sorted(found)


def show(options: argparse.Namespace, found: dict[str, list[float]]) -> None:
    """Print one row a question."""
    table = Table(title=f"{options.runs} runs, the newest with {options.steps} steps")
    for column in ("what the page asks", "median ms", "slowest ms"):
        table.add_column(column, justify="left" if column.startswith("what") else "right")
    for name, times in found.items():
        table.add_row(name, f"{statistics.median(times):.1f}", f"{times[-1]:.1f}")
    Console().print(table)


def show_opening(found: list[Opening]) -> None:
    """Print how long the page took."""
    table = Table(title=f"Train, from the click to the painted list, {len(found)} times")
    for column in ("what", "median ms", "slowest ms"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, times in (
        (f"by the clock (at most {TARGET_MS})", sorted(one.clock for one in found)),
        ("processor time of the console", sorted(one.server for one in found)),
        ("processor time of the page's thread", sorted(one.browser for one in found)),
    ):
        table.add_row(name, f"{statistics.median(times):.0f}", f"{times[-1]:.0f}")
    Console().print(table)
    print("load of the machine meanwhile: {:.1f}, {:.1f}, {:.1f}".format(*psutil.getloadavg()))


if __name__ == "__main__":
    main()
