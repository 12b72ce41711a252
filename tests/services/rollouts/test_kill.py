"""SIGKILL of the driver's process on its way: nothing is lost, and nothing is made up.

That a driver may die in every state, before and after everything that it does, shows
`test_deaths.py`, within one process; here it is real processes, and a real signal.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.db import Database
from services.rollouts.driving.notebook import LEASE
from services.rollouts.models import Arm, Rollout
from tests.services.rollouts.deadly import BEFORE, DeadlyDatabase, FileBackend
from tests.services.rollouts.driven import POLICY, Course

TURNS = 60
STEP_S = 20
GOOD = [
    ("planned", 0), ("preloading", 0), ("stepping", 10), ("stepping", 50), ("promoted", 100),
]  # fmt: skip
BAD = [("planned", 0), ("preloading", 0), ("stepping", 10), ("rolled_back", 0)]


class Deadline:
    """Counts what a driver does, and kills its process at one of these points."""

    def __init__(self, at: int) -> None:
        self.left = at

    def passes(self, _point: str) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _course(url: str, folder: Path, minutes: int, at: int, *, is_new: bool) -> Course:
    """The same stage in this process; the clock goes on from where the last process was."""
    deadline = Deadline(at)
    course = Course(
        DeadlyDatabase(url, deadline),
        folder,
        is_new=is_new,
        others=(FileBackend(folder / "cluster.json", deadline),),
    )
    course.now += timedelta(minutes=minutes)
    return course


def _drive(
    url: str, folder: Path, rollout: Rollout, at: int, minutes: int, *, is_bad: bool
) -> None:
    """Turns of one driver until the end of the rollout, or of the process."""
    course = _course(url, folder, minutes, at, is_new=False)
    told = Course(Database(url), folder, is_new=False)
    for _ in range(TURNS):
        told.now = course.now
        if course.states(rollout)[-1][0] == "stepping":
            told.answers(rollout, Arm.STABLE, 100)
            told.answers(rollout, Arm.CANARY, 100, errors=100 if is_bad else 0)
        course.turn(STEP_S)
        if not course.is_(rollout).is_open:
            course.turn(STEP_S)
            break
    course.database.close()
    told.database.close()


def _in_a_process(drive: Callable[..., None], *args: Any, **named: Any) -> int:
    process = multiprocessing.get_context("fork").Process(target=drive, args=args, kwargs=named)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def _killed_at(database: Database, folder: Path, at: int, *, is_bad: bool) -> bool:
    """Kill a driver at a point, let the next one go on, look at what came of it.

    Returns:
        Whether the point exists.
    """
    folder.mkdir()
    url = database.url.render_as_string(hide_password=False)
    cluster = folder / "cluster.json"
    cluster.write_text(json.dumps({"live": BEFORE, "told": []}))
    course = _course(url, folder, 0, 0, is_new=True)
    rollout = course.launch(POLICY, backend="file")
    course.database.close()
    status = _in_a_process(_drive, url, folder, rollout, at, 0, is_bad=is_bad)
    assert status in {0, -signal.SIGKILL}
    was_killed = status != 0
    told = json.loads(cluster.read_text())["told"]
    assert set(told) <= {0, 10, 50, 100}, "no share that nobody asked for"
    if was_killed:
        # The dead driver's lease runs out first.
        minutes = 60 + round(LEASE.total_seconds() / 60)
        assert _in_a_process(_drive, url, folder, rollout, 0, minutes, is_bad=is_bad) == 0
    after = _course(url, folder, 0, 0, is_new=False)
    assert after.states(rollout) == (BAD if is_bad else GOOD)
    found = json.loads(cluster.read_text())
    if is_bad:
        assert found["live"] == BEFORE, "everything as it was, not only the share"
        assert after.stage.means() is None
    else:
        assert found["live"]["percent"] == 100
        assert after.stage.means() == rollout.candidate
    assert set(found["told"]) <= {0, 10, 50, 100}
    after.database.close()
    return was_killed


@pytest.mark.slow
@pytest.mark.parametrize("at", [22, 104])
def test_a_driver_killed_on_the_way_to_a_promotion_loses_nothing(
    database: Database, tmp_path: Path, at: int
) -> None:
    assert _killed_at(database, tmp_path / "at", at, is_bad=False)


@pytest.mark.slow
@pytest.mark.parametrize("at", [47])
def test_a_driver_killed_on_the_way_to_a_rollback_restores_everything(
    database: Database, tmp_path: Path, at: int
) -> None:
    assert _killed_at(database, tmp_path / "at", at, is_bad=True)
