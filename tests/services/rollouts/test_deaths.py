"""The driver dies in every state, before and after all that it does, and the next one goes on.

One rollout goes through all states, and each new point at which a driver could die is one at which
one does: what the next driver finds is what a crash leaves. Real processes and a real signal are in
`test_kill.py`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from services.db import Database
from services.rollouts.driving import store as drives
from services.rollouts.driving.notebook import LEASE
from services.rollouts.models import Arm, Rollout, RolloutState
from services.rollouts.samples import store as samples
from tests.services.rollouts.conftest import ENGINEER
from tests.services.rollouts.deadly import BEFORE, DeadlyDatabase, FileBackend
from tests.services.rollouts.driven import POLICY, Course

ENOUGH = 150
WAY = [
    ("planned", 0), ("preloading", 0), ("stepping", 10), ("drilling", 0), ("stepping", 10),
    ("paused", 10), ("stepping", 10), ("stepping", 50), ("promoted", 100), ("rolled_back", 0),
]  # fmt: skip
BAD_WAY = [*WAY[:3], ("rolled_back", 0)]
PATIENT = POLICY.replace("preload: 2m", "preload: 1d").replace("max_hold: 1h", "max_hold: 7d")


class Died(BaseException):
    """The driver is gone; nothing after this line of it was done."""


@dataclass
class FirstTime:
    """Lets a driver die wherever none has died before.

    Attributes:
        state: Of the rollout, as the test saw it last.
        points: Where one died: state, what it was about to do or had done, and for what.
    """

    state: str = ""
    points: set[tuple[str, str, str]] = field(default_factory=set)
    is_on: bool = False

    def passes(self, point: str) -> None:
        found = (self.state, point, _errand())
        if self.is_on and found not in self.points:
            self.points.add(found)
            raise Died


def _errand() -> str:
    """Which functions of the driver led here."""
    names, frame = [], sys._getframe(2)
    while frame is not None:
        if "services/rollouts/" in frame.f_code.co_filename and "/tests/" not in (
            frame.f_code.co_filename
        ):
            names.append(frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(names)


@dataclass
class Scene:
    """A rollout on a cluster, and its mortal drivers."""

    course: Course
    plain: Course
    cluster: Path
    fate: FirstTime
    rollout: Rollout
    deaths: int = 0

    def found(self) -> Rollout:
        return self.plain.is_(self.rollout)

    def live(self) -> int:
        percent: int = json.loads(self.cluster.read_text())["live"]["percent"]
        return percent

    def turn(self) -> bool:
        """One turn of a driver; whether it lived through it and all is in effect."""
        self.course.now += timedelta(seconds=10)
        self.plain.now = self.course.now
        self.fate.state, self.fate.is_on = self.found().state.value, True
        try:
            self.course.driver.turn()
        except Died:
            self.deaths += 1
            self.course.now += LEASE
            self.course.driver = self.course.new_driver()
            return False
        finally:
            self.fate.is_on = False
            self.stands_at_what_was_asked()
        with self.plain.database.read() as session:
            row = session.get(drives.DriveRow, self.rollout.id)
            return row is not None and row.applied_seq == self.found().steps[-1].seq

    def stands_at_what_was_asked(self) -> None:
        """The cluster is at the share of the latest step, or still at that of the one before."""
        steps = self.found().steps
        asked = {step.percent for step in steps[-2:]}
        if steps[-1].state in {RolloutState.PLANNED, RolloutState.PRELOADING}:
            asked.add(BEFORE["percent"])
        if steps[-1].state is RolloutState.ROLLED_BACK:
            asked.add(BEFORE["percent"])
        assert self.live() in asked, f"{self.live()} % was not asked for: {steps[-1]}"

    def until_in_effect(self, state: str, percent: int) -> None:
        for _ in range(200):
            if self.turn() and self.plain.states(self.rollout)[-1] == (state, percent):
                return
        pytest.fail(f"{state} at {percent} % never came: {self.plain.states(self.rollout)}")

    def answers(self, *, errors: int = 0) -> None:
        """Both arms answer, the stable one well."""
        self.plain.answers(self.rollout, Arm.STABLE, ENOUGH)
        self.plain.answers(self.rollout, Arm.CANARY, ENOUGH, errors=errors)


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    fate = FirstTime()
    cluster = tmp_path / "cluster.json"
    cluster.write_text(json.dumps({"live": BEFORE, "told": []}))
    url = database.url.render_as_string(hide_password=False)
    mortal = DeadlyDatabase(url, fate)
    course = Course(mortal, tmp_path, others=(FileBackend(cluster, fate),))
    rollout = course.launch(PATIENT, backend="file")
    return Scene(course, Course(database, tmp_path, is_new=False), cluster, fate, rollout)


@pytest.fixture(autouse=True)
def _closed(scene: Scene):  # type: ignore[no-untyped-def]
    yield
    scene.course.database.close()


def _died_in(scene: Scene) -> dict[str, set[str]]:
    """The points at which a driver died, by state."""
    found: dict[str, set[str]] = {}
    for state, point, _errand in scene.fate.points:
        found.setdefault(state, set()).add(point)
    return found


WRITES = {"before a write", "before a commit", "after a commit"}
CHANGES = {"before a change of the cluster", "after a change of the cluster"}


def test_a_driver_may_die_anywhere_on_the_way_forward_and_back(scene: Scene) -> None:
    people = scene.plain.stage.rollouts
    scene.until_in_effect("stepping", 10)
    people.drill(ENGINEER, scene.rollout.id)
    scene.until_in_effect("stepping", 10)
    people.pause(ENGINEER, scene.rollout.id)
    scene.until_in_effect("paused", 10)
    scene.answers()
    for _ in range(8):
        scene.turn()
    people.resume(ENGINEER, scene.rollout.id)
    scene.until_in_effect("stepping", 10)
    scene.answers()
    scene.until_in_effect("stepping", 50)
    scene.answers()
    scene.until_in_effect("promoted", 100)
    assert scene.live() == 100
    assert scene.plain.stage.means() == scene.rollout.candidate
    people.rollback(ENGINEER, scene.rollout.id, reason="after all")
    scene.until_in_effect("rolled_back", 0)
    assert json.loads(scene.cluster.read_text())["live"] == BEFORE
    assert scene.plain.stage.means() is None
    assert scene.plain.states(scene.rollout) == WAY, "no step is lost, and none is made twice"
    died = _died_in(scene)
    assert died["planned"] >= WRITES | {"at a probe", "at a capture"}
    for state in ("preloading", "stepping", "drilling", "promoted"):
        assert died[state] >= WRITES | CHANGES | {"at a look at the cluster"}, state
    assert died["paused"] >= WRITES | {"at a look at the cluster"}
    assert died["rolled_back"] >= WRITES | CHANGES


def test_a_driver_may_die_anywhere_while_it_rolls_back_by_itself(scene: Scene) -> None:
    scene.until_in_effect("stepping", 10)
    scene.answers(errors=ENOUGH)
    scene.until_in_effect("rolled_back", 0)
    assert json.loads(scene.cluster.read_text())["live"] == BEFORE
    assert scene.plain.states(scene.rollout) == BAD_WAY
    assert "error_rate" in scene.found().steps[-1].reason
    with scene.plain.database.read() as session:
        counted = samples.counts(session, scene.rollout.id, scene.rollout.started_at)
    assert counted == {Arm.STABLE: ENOUGH, Arm.CANARY: ENOUGH}
    assert scene.deaths == len(scene.fate.points) > 20
