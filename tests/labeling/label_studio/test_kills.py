"""The server and our synchronisation die in the middle of their work: nothing is lost or doubled."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from labeling.label_studio.models import Project, Selection, TaskState
from labeling.label_studio.outbox import IMPORT
from services.errors import Unavailable
from services.preferences.store import ReviewRow
from tests.fakes.label_studio import FakeLabelStudio, wait_until
from tests.labeling.label_studio.conftest import ENGINEER, World
from tests.labeling.label_studio.servers import RunningServer
from tests.labeling.label_studio.test_round_trip import known
from tests.support import ROOT

PAIRS = 20
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def handed_over(world: World, count: int, *, is_blind: bool = True) -> Project:
    """A project with pairs that nobody has sent yet."""
    world.import_pairs(count)
    project, pairs = world.label_studio.push(
        ENGINEER, "acme", Selection(limit=count), title="kill", is_blind=is_blind
    )
    assert pairs == count
    return project


def assert_each_pair_is_one_open_task(world: World, project: Project, count: int) -> None:
    remote_id = world.project(project.id).remote_id
    assert remote_id is not None
    there = [task for task in world.people.tasks(remote_id) if not task["is_labeled"]]
    assert Counter(task["data"]["pair_id"] for task in there) == dict.fromkeys(
        (pair.id for pair in world.pairs()), 1
    )
    assert len(there) == count
    here = {task.remote_id: task.id for task in world.tasks(project)}
    assert here == {task["id"]: task["data"]["param_task"] for task in there}
    assert {task.state for task in world.tasks(project)} == {TaskState.SENT}


# A real one cannot be told when to die: for that one see the next test.
@pytest.mark.parametrize("server", ["fake"], indirect=True)
@pytest.mark.parametrize("trouble", ["die_after_import", "die_within_import", "lose_predictions"])
def test_a_server_that_dies_at_an_import_keeps_each_task_once(
    world: World, server: RunningServer, trouble: str
) -> None:
    assert isinstance(server, FakeLabelStudio)
    project = handed_over(world, 7, is_blind=False)
    server.trouble = trouble
    with pytest.raises(Unavailable, match="no Label Studio answers"):
        world.sync(project)
    assert server.trouble == ""
    server.restart()
    world.sync(project)
    world.sync(project)
    assert_each_pair_is_one_open_task(world, project, 7)
    remote_id = world.project(project.id).remote_id
    assert remote_id is not None
    assert {task["total_predictions"] for task in world.people.tasks(remote_id)} == {1}


def test_a_server_that_is_killed_while_tasks_arrive_has_each_once_in_the_end(
    world: World, server: RunningServer
) -> None:
    count = 2 * IMPORT + 20
    project = handed_over(world, count)
    died: list[Exception] = []

    def send() -> None:
        try:
            world.sync(project)
        except Unavailable as error:
            died.append(error)

    sending = threading.Thread(target=send)
    sending.start()
    wait_until(lambda: any(task.remote_id for task in world.tasks(project)), at_most_s=30)
    server.kill()
    sending.join()
    server.restart()
    assert len(died) == 1
    world.sync(project)
    assert_each_pair_is_one_open_task(world, project, count)


def test_a_server_that_is_killed_while_votes_come_in_loses_none(
    world: World, server: RunningServer
) -> None:
    known(world)
    project = handed_over(world, PAIRS)
    world.sync(project)
    choices = judge_all(world, project)
    died: list[Exception] = []

    def pull() -> None:
        try:
            world.sync(project)
        except Unavailable as error:
            died.append(error)

    server.kill()
    pull()
    assert len(died) == 1
    assert world.votes() == []
    server.restart()
    assert world.sync(project) == PAIRS
    assert_each_vote_is_there_once(world, project, choices)


def test_a_synchronisation_that_is_killed_again_and_again_doubles_and_loses_nothing(
    world: World, server: RunningServer, tmp_path: Path
) -> None:
    known(world)
    project = handed_over(world, PAIRS)
    arguments = (
        world.db.url.render_as_string(hide_password=False), server.url, project.id, str(tmp_path),
    )  # fmt: skip

    def begin() -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "tests.labeling.label_studio.sync_process", *arguments]
        return subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE)

    sending = begin()
    wait_until(lambda: world.project(project.id).remote_id is not None, at_most_s=60)
    sending.kill()
    sending.communicate()
    finish(begin())
    assert_each_pair_is_one_open_task(world, project, PAIRS)
    choices = judge_all(world, project)
    for votes in (1, PAIRS // 3):
        pulling = begin()
        wait_until(functools.partial(came_to, world, votes, pulling), at_most_s=60)
        pulling.kill()
        pulling.communicate()
    finish(begin())
    finish(begin())
    assert_each_vote_is_there_once(world, project, choices)


def test_a_vote_and_the_note_of_it_are_written_together_or_not_at_all(
    world: World, server: RunningServer
) -> None:
    known(world)
    project = handed_over(world, 1)
    world.sync(project)
    choices = judge_all(world, project)
    on, off = REFUSE_NOTES[world.db.is_sqlite]
    run(world, on)
    with pytest.raises(DBAPIError):
        world.sync(project)
    assert world.votes() == []
    run(world, off)
    assert world.sync(project) == 1
    assert_each_vote_is_there_once(world, project, choices)


REFUSE_NOTES = {
    True: (
        "CREATE TRIGGER full BEFORE INSERT ON label_studio_annotations "
        "BEGIN SELECT RAISE(ABORT, 'no'); END",
        "DROP TRIGGER full",
    ),
    False: (
        "ALTER TABLE label_studio_annotations ADD CONSTRAINT no CHECK (annotation_id < 0)",
        "ALTER TABLE label_studio_annotations DROP CONSTRAINT no",
    ),
}


def run(world: World, statement: str) -> None:
    with world.db.write() as session:
        session.execute(text(statement))


def came_to(world: World, votes: int, pulling: subprocess.Popen[bytes]) -> bool:
    with world.db.read() as session:
        found = session.scalar(select(func.count()).select_from(ReviewRow)) or 0
    return found >= votes or pulling.poll() is not None


def finish(process: subprocess.Popen[bytes]) -> None:
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told.decode(errors="replace")[-2000:]


def judge_all(world: World, project: Project) -> dict[str, str]:
    """Ada judges every task; which side she prefers, by pair."""
    sides = itertools.cycle(("a", "b"))
    found = {}
    for task in world.tasks(project):
        assert task.remote_id is not None
        side = next(sides)
        world.people.annotate(task.remote_id, world.accounts[0], f"{side}2")
        found[task.pair_id] = task.left_response_id if side == "a" else task.right_response_id
    return found


def assert_each_vote_is_there_once(world: World, project: Project, choices: dict[str, str]) -> None:
    found = [(vote.pair_id, vote.preferred_response_id) for vote in world.votes()]
    assert sorted(found) == sorted(choices.items())
    assert {vote.annotator_id for vote in world.votes()} == {"user-ada"}
