"""Who may do what, and what is refused before any server is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from labeling.label_studio import schedule
from labeling.label_studio.models import Selection
from labeling.label_studio.service import LabelStudio
from labeling.queue import ReviewQueue
from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted, WrongConfiguration
from services.jobs import hints
from services.jobs.models import JobStatus
from services.jobs.service import Jobs
from services.preferences.service import Preferences
from services.settings import Settings, load
from services.tenants.models import Actor, Role
from tests.labeling.label_studio.conftest import ENGINEER
from tests.services.preferences.conftest import Time

URL = "http://127.0.0.1:9"
ANNOTATOR = Actor("user", "user-ada", "Ada", {"acme": frozenset({Role.ANNOTATOR})})
STRANGER = Actor("user", "user-eve", "Eve", {"globex": frozenset({Role.ENGINEER})})
MANAGER = Actor("user", "user-mia", "Mia", {"acme": frozenset({Role.MANAGER})})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    plain = load({"PARAM_HOME": str(tmp_path)}, directory=tmp_path)
    return replace(plain, label_studio_url=URL, label_studio_token="a-token")


@pytest.fixture
def label_studio(
    database: Database, preferences: Preferences, queue: ReviewQueue, settings: Settings, time: Time
) -> LabelStudio:
    return LabelStudio(database, queue, Jobs(database, clock=time), settings, clock=time)


def push(label_studio: LabelStudio, title: str = "A project") -> str:
    preferences_project, _ = label_studio.push(ENGINEER, "acme", Selection(), title=title)
    return preferences_project.id


CALLS: dict[str, Callable[[LabelStudio, Actor, str], object]] = {
    "push": lambda found, actor, _: found.push(actor, "acme", Selection(), title="Some"),
    "take_back": lambda found, actor, project: found.take_back(actor, "acme", project),
    "ask": lambda found, actor, project: found.ask(actor, "acme", project),
    "run_here": lambda found, actor, project: found.run_here(actor, "acme", project),
    "people": lambda found, actor, _: found.people(actor, "acme"),
    "annotators": lambda found, actor, _: found.annotators(actor, "acme"),
    "map_person": lambda found, actor, _: found.map_person(actor, "acme", URL, 1, None),
    "projects": lambda found, actor, _: found.projects(actor, "acme"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("actor", [STRANGER, ANNOTATOR, MANAGER], ids=lambda one: one.name)
def test_only_those_who_may_edit_pairs_do_anything(
    label_studio: LabelStudio, call: str, actor: Actor
) -> None:
    project = push(label_studio)
    if call == "projects" and actor is MANAGER:
        assert [one.project.id for one in label_studio.projects(actor, "acme")] == [project]
        return
    with pytest.raises(NotPermitted):
        CALLS[call](label_studio, actor, project)


@pytest.mark.parametrize("call", ["take_back", "ask"])
def test_a_project_of_another_tenant_is_not_found(label_studio: LabelStudio, call: str) -> None:
    project = push(label_studio)
    both = Actor("user", "u", "U", {"globex": frozenset({Role.ENGINEER})})
    method = getattr(label_studio, call)
    with pytest.raises(NotFound):
        method(both, "globex", project)


@pytest.mark.parametrize("missing", ["label_studio_url", "label_studio_token"])
def test_without_a_server_nothing_is_handed_over(
    database: Database, queue: ReviewQueue, settings: Settings, missing: str
) -> None:
    found = LabelStudio(database, queue, Jobs(database), replace(settings, **{missing: ""}))
    assert not found.is_configured
    with pytest.raises(WrongConfiguration, match="PARAM_LABEL_STUDIO_URL"):
        found.push(ENGINEER, "acme", Selection(), title="Some")


@pytest.mark.parametrize(
    ("title", "limit"), [("", 1), (" ", 1), ("ab", 1), ("x" * 51, 1), ("Some", 0), ("Some", 10_001)]
)
def test_titles_and_numbers_that_cannot_be_used_are_refused(
    label_studio: LabelStudio, title: str, limit: int
) -> None:
    with pytest.raises(InvalidInput, match="expected [13] to"):
        label_studio.push(ENGINEER, "acme", Selection(limit=limit), title=title)


def test_a_title_names_one_kind_of_project(label_studio: LabelStudio) -> None:
    project = push(label_studio)
    assert push(label_studio) == project
    with pytest.raises(Conflict, match="it is blind"):
        label_studio.push(ENGINEER, "acme", Selection(), title="A project", is_blind=False)


def test_a_synchronisation_that_waits_is_not_asked_for_twice(label_studio: LabelStudio) -> None:
    project = push(label_studio)
    first = label_studio.ask(ENGINEER, "acme", project)
    assert label_studio.ask(ENGINEER, "acme", project).id == first.id
    assert (first.kind, first.payload) == (hints.LABEL_STUDIO, {"project": project})
    assert label_studio.ask(ENGINEER, "acme", project, everything=True).id != first.id
    assert label_studio.projects(ENGINEER, "acme")[0].job is not None


def test_two_synchronisations_of_one_project_take_turns(
    label_studio: LabelStudio, time: Time
) -> None:
    project = push(label_studio)
    assert label_studio.sync.hold(project, "one")
    assert label_studio.sync.hold(project, "one")
    assert not label_studio.sync.hold(project, "two")
    with pytest.raises(Conflict, match="just now"):
        label_studio.run_here(ENGINEER, "acme", project)
    time.pass_minutes(6)
    assert label_studio.sync.hold(project, "two")
    assert not label_studio.sync.hold(project, "one")


def test_a_project_stays_with_its_server(
    label_studio: LabelStudio, database: Database, queue: ReviewQueue, settings: Settings
) -> None:
    project = push(label_studio)
    moved = replace(settings, label_studio_url="http://127.0.0.1:10")
    other = LabelStudio(database, queue, Jobs(database), moved)
    with pytest.raises(WrongConfiguration, match="expected http://127.0.0.1:9"):
        other.run_here(ENGINEER, "acme", project)


def test_the_schedule_asks_for_what_is_due_and_once(
    label_studio: LabelStudio, database: Database, settings: Settings, time: Time,
    preferences: Preferences,
) -> None:  # fmt: skip
    jobs = Jobs(database, clock=time)
    push(label_studio, "Empty")
    assert schedule.ask_for_due(database, jobs, settings, clock=time) == 0
    preferences.load_demo(ENGINEER, "acme")
    project = push(label_studio)
    for due in (1, 0):
        assert schedule.ask_for_due(database, jobs, settings, clock=time) == due
    (job,) = jobs.list(Actor.system("test"), "acme")
    assert (job.payload, job.status) == ({"project": project}, JobStatus.QUEUED)
    time.pass_minutes(6)
    assert schedule.ask_for_due(database, jobs, settings, clock=time) == 1
    assert len(jobs.list(Actor.system("test"), "acme")) == 1
    off = replace(settings, label_studio_every_s=0)
    time.pass_minutes(6)
    assert schedule.ask_for_due(database, jobs, off, clock=time) == 0


def test_pairs_that_somebody_has_as_a_card_stay_at_the_desk(
    label_studio: LabelStudio, preferences: Preferences, queue: ReviewQueue
) -> None:
    preferences.load_demo(ENGINEER, "acme")
    card = queue.next_card(ANNOTATOR, "acme")
    assert card is not None
    total = preferences.stats(ENGINEER, "acme").total
    _, pairs = label_studio.push(ENGINEER, "acme", Selection(limit=10_000), title="All")
    assert pairs == total - 1
    assert preferences.pair(ENGINEER, "acme", card.pair_id).assignee is None


def test_a_person_is_somebody_who_may_review_here(label_studio: LabelStudio) -> None:
    with pytest.raises(NotFound, match="no account 7"):
        label_studio.map_person(ENGINEER, "acme", URL, 7, None)
