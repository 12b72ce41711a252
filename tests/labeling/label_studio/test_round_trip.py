"""What holds against a Label Studio server, the fake one and a real one alike."""

from __future__ import annotations

from typing import Any

import pytest

from labeling.label_studio.models import Outcome, Person, ProjectState, TaskState
from labeling.label_studio.server import Server
from labeling.label_studio.state import add_person
from labeling.label_studio.store import ProjectRow, TaskRow
from services.errors import NotFound, Unavailable
from services.preferences.models import Origin, PairStatus
from services.tenants.models import Actor, Role
from tests.fakes.label_studio import TOKEN
from tests.labeling.label_studio.conftest import ENGINEER, World
from tests.labeling.label_studio.servers import RunningServer, control, results

ADA = Actor("user", "user-ada", "Ada", {"acme": frozenset({Role.ANNOTATOR})})


def state(world: World, project_id: str) -> ProjectState:
    found = world.label_studio.projects(ENGINEER, "acme")
    return next(one for one in found if one.project.id == project_id)


def known(world: World) -> None:
    """Somebody has said who both accounts are."""
    server = world.label_studio.sync.settings.label_studio_url
    with world.db.write() as session:
        for account, annotator in zip(world.accounts, world.annotators, strict=True):
            person = Person(server, account, f"account {account}", annotator)
            add_person(session, "acme", person, actor_id=ENGINEER.id, at=world.time())


# --- there


def test_pairs_become_tasks_once_and_the_desk_does_not_serve_them(world: World) -> None:
    world.import_pairs(5)
    project = world.push(limit=3)
    world.sync(project)
    world.sync(project)
    assert project.remote_id is not None
    tasks = world.people.tasks(project.remote_id)
    assert len(tasks) == 3
    assert {task["data"]["param_task"] for task in tasks} == {t.id for t in world.tasks(project)}
    served = {card.pair_id for card in [world.queue.next_card(ADA, "acme")] if card}
    pushed = {task["data"]["pair_id"] for task in tasks}
    assert served
    assert not served & pushed
    assert {pair.assignee for pair in world.pairs()} == {None, project.assignee}


def test_tasks_show_the_texts_and_nothing_of_where_they_are_from(world: World) -> None:
    world.import_pairs(2)
    project = world.push()
    assert project.remote_id is not None
    for task in world.people.tasks(project.remote_id):
        pair = world.pair(task["data"]["pair_id"])
        shown = {task["data"]["left_id"]: task["data"]["response_a"]}
        shown[task["data"]["right_id"]] = task["data"]["response_b"]
        assert shown == {response.id: response.text for response in pair.responses}
        assert task["data"]["turns"] == [{"role": "user", "content": pair.prompt.question}]
        assert "8.0" not in str(task["data"])
        assert task["total_predictions"] == 0


def test_predictions_are_pushed_when_asked_for_and_count_as_revealed(world: World) -> None:
    known(world)
    world.import_pairs(2)
    project = world.push(is_blind=False)
    assert project.remote_id is not None
    for task in world.people.tasks(project.remote_id):
        pair = world.pair(task["data"]["pair_id"])
        better = max(pair.responses, key=lambda one: one.extra["score"])
        side = "a" if task["data"]["left_id"] == better.id else "b"
        (prediction,) = task["predictions"]
        assert prediction["result"][0]["value"] == {"choices": [f"{side}3"]}
        assert len(prediction["result"]) == 1
        world.people.annotate(task["id"], world.accounts[0], f"{side}3")
    assert world.sync(project) == 2
    assert {vote.is_revealed for vote in world.votes()} == {True}


# --- and back


def test_a_vote_comes_back_with_everything_that_was_said(world: World) -> None:
    known(world)
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    world.people.annotate(
        task.remote_id, world.accounts[0], "b1",
        ratings={"accuracy_a": 2, "accuracy_b": 5}, note="  Kısa ve doğru. ", edits={},
    )  # fmt: skip
    assert world.sync(project) == 1
    assert world.sync(project) == 0
    assert world.sync(project, everything=True) == 0
    (vote,) = world.votes(task.pair_id)
    left, right = task.left_response_id, task.right_response_id
    assert (vote.left_response_id, vote.right_response_id) == (left, right)
    assert (vote.preferred_response_id, vote.strength) == (right, 1)
    assert vote.ratings == {left: {"accuracy": 2}, right: {"accuracy": 5}}
    assert (vote.note, vote.active_ms, vote.origin) == (
        "Kısa ve doğru.", 4500, Origin.LABEL_STUDIO,
    )  # fmt: skip
    assert vote.annotator_id == "user-ada"
    assert not vote.is_revealed
    pair = world.pair(task.pair_id)
    assert (pair.status, pair.chosen_response_id) == (PairStatus.APPROVED, right)


@pytest.mark.parametrize(
    ("choice", "status"),
    [("tie", PairStatus.REJECTED), ("both_bad", PairStatus.REJECTED), ("a1", PairStatus.APPROVED)],
)
def test_each_verdict_decides_as_at_the_desk(world: World, choice: str, status: PairStatus) -> None:
    known(world)
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    world.people.annotate(task.remote_id, world.accounts[0], choice)
    assert world.sync(project) == 1
    assert world.pair(task.pair_id).status is status


def test_a_flag_makes_the_pair_disputed(world: World) -> None:
    known(world)
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    world.people.annotate(task.remote_id, world.accounts[0], "a3", flags=("needs_expert",))
    world.sync(project)
    assert world.pair(task.pair_id).status is PairStatus.DISPUTED
    assert world.votes(task.pair_id)[0].flags == ("needs_expert",)


def test_an_unknown_account_waits_until_somebody_says_who_it_is(world: World) -> None:
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    world.people.annotate(task.remote_id, world.accounts[0], "a2")
    assert world.sync(project) == 0
    assert world.votes() == []
    found = state(world, project.id)
    assert found.annotations == {Outcome.WAITING: 1}
    (person,) = world.label_studio.people(ENGINEER, "acme")
    assert (person.remote_id, person.annotator_id) == (world.accounts[0], None)
    assert person.label.startswith("ada-")
    world.name_accounts()
    assert world.sync(project) == 1
    assert world.sync(project) == 0
    assert state(world, project.id).annotations == {Outcome.VOTED: 1}


def test_a_changed_annotation_revises_the_vote_and_the_older_one_stays(world: World) -> None:
    known(world)
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    annotation = world.people.annotate(task.remote_id, world.accounts[0], "a2")
    world.sync(project)
    for choice in ("b2", "a2"):
        world.people.change(annotation, choice)
        assert world.sync(project) == 1
        assert world.sync(project) == 0
    first, second, third = world.votes(task.pair_id)
    assert (second.revises_id, third.revises_id) == (first.id, second.id)
    assert not third.is_revealed
    assert world.pair(task.pair_id).chosen_response_id == task.left_response_id


def test_a_second_annotation_of_the_same_person_is_a_revision(world: World) -> None:
    known(world)
    world.import_pairs(1)
    world.overlap(2)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    world.people.annotate(task.remote_id, world.accounts[0], "a2")
    world.people.annotate(task.remote_id, world.accounts[0], "b2")
    assert world.sync(project) == 2
    first, second = world.votes(task.pair_id)
    assert second.revises_id == first.id
    assert world.pair(task.pair_id).status is PairStatus.UNREVIEWED


def test_two_people_decide_where_two_are_asked(world: World) -> None:
    known(world)
    world.import_pairs(1)
    world.overlap(2)
    project = world.push()
    assert project.remote_id is not None
    assert world.people.project(project.remote_id)["maximum_annotations"] == 2
    task = world.tasks(project)[0]
    assert task.remote_id is not None
    world.people.annotate(task.remote_id, world.accounts[0], "a1")
    world.sync(project)
    assert world.pair(task.pair_id).status is PairStatus.UNREVIEWED
    world.people.annotate(task.remote_id, world.accounts[1], "a3")
    world.sync(project)
    assert world.pair(task.pair_id).status is PairStatus.APPROVED
    assert len(world.votes(task.pair_id)) == 2


def test_an_edit_becomes_a_version_and_the_vote_is_about_it(world: World) -> None:
    known(world)
    world.import_pairs(1)
    world.overlap(2)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    untouched = world.pair(task.pair_id).response(task.right_response_id)
    assert untouched is not None
    prefilled = untouched.text.replace("\n", "\r\n")
    mended = {"a": "Ankara'dır. Düzeltildi.", "b": prefilled}
    annotation = world.people.annotate(task.remote_id, world.accounts[0], "a2", edits=mended)
    assert world.sync(project) == 1
    pair = world.pair(task.pair_id)
    left = pair.response(task.left_response_id)
    version = next(one for one in pair.responses if one.text == mended["a"])
    assert left is not None
    assert (version.author_id, version.version) == ("user-ada", 2)
    assert next(one for one in pair.responses if one != version) == untouched
    (vote,) = world.votes(task.pair_id)
    assert vote.preferred_response_id == version.id
    # The next annotator is to see the new text: the old task is closed, a new one is there.
    old, new = world.tasks(project)
    assert (old.state, new.state) == (TaskState.CLOSED, TaskState.SENT)
    assert project.remote_id is not None
    shown = {task["id"]: task for task in world.people.tasks(project.remote_id)}
    assert shown[old.remote_id]["is_labeled"]
    assert mended["a"] in {
        shown[new.remote_id]["data"]["response_a"], shown[new.remote_id]["data"]["response_b"],
    }  # fmt: skip
    # Ada changes her mind on the old task, with her edit in place: a revision, no new version.
    world.people.change(annotation, "a3", edits=mended)
    assert world.sync(project) == 1
    assert world.votes(task.pair_id)[1].revises_id == vote.id
    assert {one.version for one in world.pair(task.pair_id).responses} == {1, 2}
    # Bora votes on the text that is no more: kept, listed, not counted.
    world.people.annotate(task.remote_id, world.accounts[1], "b2")
    assert world.sync(project) == 0
    found = state(world, project.id)
    assert found.annotations[Outcome.LATE] == 1
    assert "has changed since it was shown" in found.problems[0].reason
    assert new.remote_id is not None
    side = "a" if new.left_response_id == version.id else "b"
    world.people.annotate(new.remote_id, world.accounts[1], f"{side}1")
    assert world.sync(project) == 1
    assert world.pair(task.pair_id).chosen_response_id == version.id


BAD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no verdict": (results(None, note="only a note"), "preference: expected one choice, found 0"),
    "unknown verdict": (results("c9"), "found 'c9'"),
    "six stars": (results("a1", ratings={"safety_a": 6}), "expected 1 to 5 stars, found '6'"),
    "unknown flag": (results("a1", flags=("boring",)), "found 'boring'"),
    "unknown control": (
        [*results("a1"), control("hidden", "choices", {"choices": ["x"]})],
        "expected only our controls, found 'hidden'",
    ),
    "twice": ([*results("a1"), *results("b1")], "preference: expected one result, found several"),
    "empty edit": (results("a1", edits={"a": "  "}), "expected a text, found an empty one"),
    "long note": (results("a1", note="x" * 2001), "expected at most 2,000 characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_the_server_takes_and_we_do_not_is_listed_with_the_reason(
    world: World, name: str
) -> None:
    known(world)
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    result, reason = BAD[name]
    body = {"result": result, "completed_by": world.accounts[0]}
    annotation = world.people.submit(task.remote_id, body)
    assert world.sync(project) == 0
    assert world.votes(task.pair_id) == []
    (problem,) = state(world, project.id).problems
    assert (problem.outcome, problem.annotation_id) == (Outcome.REFUSED, annotation)
    assert reason in problem.reason
    world.people.change(annotation, "a1")
    assert world.sync(project) == 1
    assert state(world, project.id).problems == ()


def test_votes_on_texts_that_were_changed_over_there_are_refused(world: World) -> None:
    known(world)
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    assert project.remote_id is not None
    assert task.remote_id is not None
    (shown,) = world.people.tasks(project.remote_id)
    world.people.tamper(task.remote_id, {**shown["data"], "response_a": "Something else."})
    world.people.annotate(task.remote_id, world.accounts[0], "a3")
    assert world.sync(project) == 0
    (problem,) = state(world, project.id).problems
    assert "somebody has changed the task over there" in problem.reason


def test_a_skip_is_no_vote(world: World) -> None:
    known(world)
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    body = {"result": [], "was_cancelled": True, "completed_by": world.accounts[0]}
    world.people.submit(task.remote_id, body)
    assert world.sync(project) == 0
    assert state(world, project.id).annotations == {Outcome.SKIPPED: 1}


def test_a_deleted_annotation_takes_no_vote_away(world: World) -> None:
    known(world)
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    assert task.remote_id is not None
    annotation = world.people.annotate(task.remote_id, world.accounts[0], "a2")
    world.sync(project)
    world.people.delete(annotation)
    assert world.sync(project) == 0
    assert len(world.votes(task.pair_id)) == 1
    found = state(world, project.id)
    assert (found.gone, found.annotations) == (1, {})


def test_pairs_that_nobody_judged_can_be_taken_back(world: World) -> None:
    known(world)
    world.import_pairs(2)
    project = world.push()
    judged, other = world.tasks(project)
    assert judged.remote_id is not None
    world.people.annotate(judged.remote_id, world.accounts[0], "a2")
    world.sync(project)
    assert world.label_studio.take_back(ENGINEER, "acme", project.id) == 1
    world.sync(project)
    assert world.pair(other.pair_id).assignee is None
    assert {task.state for task in world.tasks(project)} == {TaskState.CLOSED}
    assert project.remote_id is not None
    assert all(task["is_labeled"] for task in world.people.tasks(project.remote_id))


def test_a_pair_that_is_decided_here_is_closed_there(world: World) -> None:
    world.import_pairs(1)
    project = world.push()
    (task,) = world.tasks(project)
    world.preferences.decide(ENGINEER, "acme", task.pair_id, verdict=PairStatus.REJECTED)
    world.sync(project)
    assert project.remote_id is not None
    assert world.people.tasks(project.remote_id)[0]["is_labeled"]
    assert [one.state for one in world.tasks(project)] == [TaskState.CLOSED]


def test_the_answer_to_an_import_that_was_lost_doubles_nothing(
    world: World, server: RunningServer
) -> None:
    """The tasks are there, and nobody here knows it: as after a SIGKILL of ours at that moment."""
    world.import_pairs(4)
    project = world.push()
    with world.db.write() as session:
        for task in world.tasks(project):
            row = session.get_one(TaskRow, task.id)
            row.remote_id, row.state = None, TaskState.PLANNED.value
    world.sync(project)
    assert project.remote_id is not None
    assert len(world.people.tasks(project.remote_id)) == 4
    assert {task.state for task in world.tasks(project)} == {TaskState.SENT}


def test_the_answer_to_making_a_project_that_was_lost_doubles_nothing(world: World) -> None:
    world.import_pairs(1)
    project = world.push()
    with world.db.write() as session:
        session.get_one(ProjectRow, project.id).remote_id = None
        (task,) = world.tasks(project)
        row = session.get_one(TaskRow, task.id)
        row.remote_id, row.state = None, TaskState.PLANNED.value
    world.sync(project)
    assert world.project(project.id).remote_id == project.remote_id
    marked = [one for one in world.people.projects() if project.id in one["description"]]
    assert len(marked) == 1


def test_a_wrong_token_and_a_missing_project_are_told(world: World, server: RunningServer) -> None:
    stranger = Server(server.url, "f" * 40)
    with pytest.raises(Unavailable, match="refuses the token"):
        stranger.find_project("")
    stranger.close()
    known_one = Server(server.url, TOKEN)
    with pytest.raises(NotFound, match="has no project 999999"):
        list(known_one.judged(999999, None))
    known_one.close()
