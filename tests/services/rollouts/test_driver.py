import json
from datetime import timedelta
from pathlib import Path

import pytest

from services.db import Database
from services.errors import Conflict
from services.evaluation.models import Verdict
from services.rollouts.driving import store as drives
from services.rollouts.driving.notebook import LEASE
from services.rollouts.models import Arm, RolloutState
from services.rollouts.samples.models import Standing
from tests.services.rollouts.conftest import ENGINEER
from tests.services.rollouts.deadly import BEFORE, FileBackend
from tests.services.rollouts.driven import POLICY, Course


@pytest.fixture
def course(database: Database, tmp_path: Path) -> Course:
    return Course(database, tmp_path)


def test_a_good_candidate_goes_all_the_way_by_itself(course: Course) -> None:
    rollout = course.launch()
    course.turn(times=2)
    assert course.states(rollout) == [("planned", 0), ("preloading", 0)]
    course.to_first_step(rollout)
    for _ in range(14):
        course.well(rollout)
        course.turn(10)
    assert course.states(rollout) == [
        ("planned", 0), ("preloading", 0), ("stepping", 10), ("stepping", 50), ("promoted", 100),
    ]  # fmt: skip
    assert course.stage.means() == rollout.candidate
    champion = course.stage.registry.champion(ENGINEER, "legal", "legal")
    assert champion is not None
    assert champion.adapter == rollout.candidate


def test_a_step_lasts_as_long_as_its_policy_says(course: Course) -> None:
    rollout = course.launch()
    course.to_first_step(rollout)
    course.well(rollout, 400)
    course.turn(1)
    course.turn(1, times=50)
    assert course.states(rollout)[-1] == ("stepping", 10)
    course.turn(10)
    assert course.states(rollout)[-1] == ("stepping", 50)


def test_a_failing_candidate_is_gone_within_one_interval(course: Course) -> None:
    rollout = course.launch()
    course.to_first_step(rollout)
    course.answers(rollout, Arm.STABLE, 200)
    course.answers(rollout, Arm.CANARY, 30, errors=30)
    course.turn(1)
    ended = course.is_(rollout)
    assert ended.state is RolloutState.ROLLED_BACK
    assert "error_rate" in ended.steps[-1].reason
    assert "n 200 and 30" in ended.steps[-1].reason
    assert course.stage.means() is None


def test_a_slow_candidate_is_gone_within_one_interval(course: Course) -> None:
    rollout = course.launch()
    course.to_first_step(rollout)
    course.answers(rollout, Arm.STABLE, 100)
    course.answers(rollout, Arm.CANARY, 40, latency_ms=400)
    course.turn(1)
    assert "latency_p50" in course.is_(rollout).steps[-1].reason
    assert course.is_(rollout).state is RolloutState.ROLLED_BACK


def test_what_breaks_late_is_seen_in_the_last_interval(course: Course) -> None:
    rollout = course.launch(POLICY.replace("hold: 1m", "hold: 50m"))
    course.to_first_step(rollout)
    course.well(rollout, 5_000)
    course.turn(11)
    assert course.is_(rollout).is_open
    course.answers(rollout, Arm.STABLE, 60)
    course.answers(rollout, Arm.CANARY, 60, errors=60)
    course.turn(11)
    assert course.is_(rollout).steps[-1].reason.startswith("the last interval")


def test_no_data_is_not_good_data(course: Course) -> None:
    rollout = course.launch()
    course.to_first_step(rollout)
    course.turn(60, times=30)
    assert course.states(rollout)[-1] == ("stepping", 10)
    course.answers(rollout, Arm.STABLE, 500)
    course.turn(60, times=40)
    ended = course.is_(rollout)
    assert ended.state is RolloutState.ROLLED_BACK
    assert ended.steps[-1].reason.startswith("undecided after")


def test_an_undecided_step_pauses_where_the_policy_says_so(course: Course) -> None:
    rollout = course.launch(POLICY + "when_undecided: pause\n")
    course.to_first_step(rollout)
    course.turn(600, times=8)
    assert course.states(rollout)[-1] == ("paused", 10)


def test_requests_that_no_adapter_is_to_blame_for_do_not_count(course: Course) -> None:
    rollout = course.launch()
    course.to_first_step(rollout)
    course.answers(rollout, Arm.STABLE, 200)
    course.answers(rollout, Arm.CANARY, 100, standing=Standing.EXCUSED)
    course.turn(1)
    assert course.is_(rollout).is_open


def test_a_paused_rollout_goes_no_further_but_still_goes_back(course: Course) -> None:
    rollout = course.launch()
    course.to_first_step(rollout)
    course.stage.rollouts.pause(ENGINEER, rollout.id, reason="lunch")
    for _ in range(10):
        course.well(rollout)
        course.turn(10)
    course.turn(600, times=20)
    assert course.states(rollout)[-1] == ("paused", 10)
    course.answers(rollout, Arm.STABLE, 100)
    course.answers(rollout, Arm.CANARY, 100, errors=100)
    course.turn(11)
    assert course.is_(rollout).state is RolloutState.ROLLED_BACK


def test_a_closed_gate_pauses_before_the_promotion_and_a_reason_opens_it(course: Course) -> None:
    course.stage.judge.verdict = Verdict.WORSE
    rollout = course.launch()
    course.to_first_step(rollout)
    for _ in range(20):
        course.well(rollout)
        course.turn(10)
    paused = course.is_(rollout)
    assert (paused.state, paused.percent) == (RolloutState.PAUSED, 50)
    assert "worse than its base model" in paused.steps[-1].reason
    assert course.stage.means() is None
    course.stage.rollouts.promote(ENGINEER, rollout.id, reason="the pairs were mislabelled")
    assert course.stage.means() == rollout.candidate


def test_a_candidate_that_never_loads_is_rolled_back(course: Course) -> None:
    rollout = course.launch()
    course.turn(30, times=3)
    assert course.states(rollout)[-1] == ("preloading", 0)
    course.turn(30, times=3)
    assert "not ready in time" in course.is_(rollout).steps[-1].reason


def test_a_drill_sends_everybody_back_and_forth_and_says_how_long_it_took(course: Course) -> None:
    rollout = course.launch()
    course.to_first_step(rollout)
    course.stage.rollouts.drill(ENGINEER, rollout.id)
    assert course.stage.rollouts.routes()["legal", "legal"].percent == 0
    with pytest.raises(Conflict, match="no drill"):
        course.stage.rollouts.step(ENGINEER, rollout.id, 20)
    course.turn(2, times=2)
    assert course.states(rollout)[-2:] == [("drilling", 0), ("stepping", 10)]
    assert "on the stable arm after 2.0 s" in course.is_(rollout).steps[-1].reason


def test_a_drill_of_a_rollout_without_a_policy_ends_as_well(course: Course) -> None:
    rollout = course.stage.rollouts.start(
        ENGINEER, "legal", "legal", course.stage.adapter(1), percent=25
    )
    course.stage.rollouts.drill(ENGINEER, rollout.id)
    course.turn(2, times=2)
    assert course.states(rollout) == [("stepping", 25), ("drilling", 0), ("stepping", 25)]


def test_a_rollback_works_in_every_state(course: Course) -> None:
    rollout = course.launch()
    course.stage.rollouts.rollback(ENGINEER, rollout.id, reason="planned")
    rollout = course.launch()
    course.turn()
    course.stage.rollouts.rollback(ENGINEER, rollout.id, reason="preloading")
    rollout = course.launch()
    course.to_first_step(rollout)
    course.stage.rollouts.drill(ENGINEER, rollout.id)
    course.stage.rollouts.rollback(ENGINEER, rollout.id, reason="drilling")
    course.turn(5, times=3)
    assert course.is_(rollout).state is RolloutState.ROLLED_BACK
    rollout = course.launch()
    course.to_first_step(rollout)
    course.stage.rollouts.pause(ENGINEER, rollout.id)
    course.stage.rollouts.rollback(ENGINEER, rollout.id, reason="paused")
    rollout = course.launch()
    course.to_first_step(rollout)
    course.stage.rollouts.promote(ENGINEER, rollout.id, reason="now")
    course.turn(5)
    course.stage.rollouts.rollback(ENGINEER, rollout.id, reason="promoted")
    course.turn(5, times=3)
    assert course.is_(rollout).state is RolloutState.ROLLED_BACK
    assert course.stage.means() is None


def test_two_drivers_never_hold_one_rollout(course: Course) -> None:
    rollout = course.launch()
    course.turn()
    other = course.new_driver()
    other.turn()
    assert course.states(rollout) == [("planned", 0), ("preloading", 0)]
    course.loaded.add(rollout.candidate)
    other.turn()
    assert len(course.states(rollout)) == 2
    course.now += LEASE + timedelta(seconds=1)
    other.turn()
    assert course.states(rollout)[-1] == ("stepping", 10)
    course.driver.turn()
    assert len(course.states(rollout)) == 3


def test_a_driver_that_leaves_lets_the_next_one_go_on_at_once(course: Course) -> None:
    rollout = course.launch()
    course.turn()
    course.loaded.add(rollout.candidate)
    course.driver._notebook.release([rollout.id])
    course.now += timedelta(seconds=2)
    course.new_driver().turn()
    assert course.states(rollout)[-1] == ("stepping", 10)


def test_a_promotion_names_the_look_that_led_to_it(course: Course) -> None:
    rollout = course.launch()
    course.to_first_step(rollout)
    for _ in range(14):
        course.well(rollout)
        course.turn(10)
    with course.database.read() as session:
        found = drives.verdicts(session, rollout.id)
    assert {one.outcome for one in found} <= {"pass", "inconclusive"}
    assert found[0].outcome == "pass"
    assert found[0].facts["comparisons"][0]["metric"] == "error_rate"


def test_a_person_that_moves_a_rollout_is_not_overruled_by_an_older_look(course: Course) -> None:
    rollout = course.launch()
    course.to_first_step(rollout)
    seen = course.is_(rollout)
    course.stage.rollouts.step(ENGINEER, rollout.id, 30)
    with pytest.raises(Conflict, match="expected it unmoved"):
        course.stage.rollouts.promote(ENGINEER, rollout.id, reason="late", seen=seen)


class _Immortal:
    def passes(self, _point: str) -> None:
        """Live on."""


@pytest.mark.parametrize("hurry", ["step", "promote"])
def test_who_does_not_wait_for_the_driver_is_restored_all_the_same(
    database: Database, tmp_path: Path, hurry: str
) -> None:
    cluster = tmp_path / "cluster.json"
    cluster.write_text(json.dumps({"live": BEFORE, "told": []}))
    course = Course(database, tmp_path, others=(FileBackend(cluster, _Immortal()),))
    rollout = course.launch(backend="file")
    if hurry == "step":
        course.stage.rollouts.step(ENGINEER, rollout.id, 30)
    else:
        course.stage.rollouts.promote(ENGINEER, rollout.id, reason="now")
    course.turn(2, times=2)
    assert json.loads(cluster.read_text())["live"]["percent"] in {30, 100}
    course.stage.rollouts.rollback(ENGINEER, rollout.id, reason="too early")
    course.turn(2, times=2)
    assert json.loads(cluster.read_text())["live"] == BEFORE


def test_a_pause_before_the_beginning_changes_nothing_outside(
    database: Database, tmp_path: Path
) -> None:
    cluster = tmp_path / "cluster.json"
    cluster.write_text(json.dumps({"live": BEFORE, "told": []}))
    course = Course(database, tmp_path, others=(FileBackend(cluster, _Immortal()),))
    rollout = course.launch(backend="file")
    course.stage.rollouts.pause(ENGINEER, rollout.id)
    course.turn(2, times=3)
    assert json.loads(cluster.read_text())["live"] == BEFORE
    course.stage.rollouts.resume(ENGINEER, rollout.id)
    course.turn(2, times=4)
    assert course.states(rollout)[-1] == ("stepping", 10)
