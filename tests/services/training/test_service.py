from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import Conflict, InvalidInput, MissingModel, NotFound, NotPermitted
from services.jobs.models import JobStatus
from services.training.models import DpoSpec, differences
from tests.services.jobs.actors import ANNOTATOR, ENGINEER, MANAGER, STRANGER
from tests.services.training.world import World, build_world


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return build_world(database, tmp_path)


def test_another_tenant_cannot_tell_a_run_from_one_that_does_not_exist(world: World) -> None:
    training, spec = world.training, world.spec()
    run = training.launch_dpo(ENGINEER, "acme", spec)
    for ask in (training.get, training.metrics, training.log_tail, training.stop, training.resume):
        with pytest.raises(NotFound, match="was not found"):
            ask(STRANGER, run.id)
        with pytest.raises(NotFound, match="was not found"):
            ask(STRANGER, "no-such-run")
    for ask_all in (training.list, training.lines, training.standing):
        with pytest.raises(NotPermitted):
            ask_all(STRANGER, "acme")
    with pytest.raises(NotPermitted):
        training.launch_dpo(STRANGER, "acme", spec)
    with pytest.raises(NotFound):
        training.launch_dpo(STRANGER, "globex", spec)


def test_who_may_only_read_changes_nothing(world: World) -> None:
    training, spec = world.training, world.spec()
    run = training.launch_dpo(ENGINEER, "acme", spec)
    assert training.get(MANAGER, run.id) == run
    for actor in (MANAGER, ANNOTATOR):
        with pytest.raises(NotPermitted):
            training.launch_dpo(actor, "acme", spec)
    with pytest.raises(NotPermitted):
        training.stop(MANAGER, run.id)
    with pytest.raises(NotFound):
        training.get(ANNOTATOR, run.id)


def test_a_launch_queues_one_training_job_and_writes_both_events(
    world: World, database: Database
) -> None:
    run = world.training.launch_dpo(ENGINEER, "acme", world.spec())
    assert (run.job.kind, run.job.queue, run.job.status) == ("training.dpo", "training", "queued")
    assert run.job.payload == {"run_id": run.id}
    assert (run.adapter, run.mlflow_run_id, run.created_by) == (None, None, "Engineer")
    assert world.training.list(ENGINEER, "acme") == [run]
    with database.read() as session:
        actions = session.scalars(
            select(OutboxRow.action).where(OutboxRow.actor_id == ENGINEER.id)
        ).all()
    assert sorted(actions) == ["job.queued", "training.launched"]


def test_what_cannot_work_is_refused_before_anything_is_queued(
    world: World, database: Database, tmp_path: Path
) -> None:
    spec = world.spec()
    with pytest.raises(NotFound):
        world.training.launch_dpo(
            ENGINEER, "acme", DpoSpec(alias="a", dataset_id="none", base_model="tiny")
        )
    with pytest.raises(InvalidInput, match="beta: expected"):
        world.training.launch_dpo(
            ENGINEER, "acme", DpoSpec("a", spec.dataset_id, "tiny", beta=-1.0)
        )
    strict = build_world(database, tmp_path, real_base=True)
    with pytest.raises(MissingModel):
        strict.training.launch_dpo(ENGINEER, "acme", spec)
    assert world.training.list(ENGINEER, "acme") == []
    assert world.jobs.list(ENGINEER, "acme") == []


def test_a_waiting_run_stops_at_once_and_can_be_resumed(world: World) -> None:
    run = world.training.launch_dpo(ENGINEER, "acme", world.spec())
    assert world.training.stop(ENGINEER, run.id).job.status is JobStatus.STOPPED
    with pytest.raises(Conflict):
        world.training.stop(ENGINEER, run.id)
    assert world.training.resume(ENGINEER, run.id).job.status is JobStatus.QUEUED
    assert world.training.metrics(ENGINEER, run.id) == []
    assert world.training.log_tail(ENGINEER, run.id) == ""


def test_an_estimate_looks_at_nothing_of_another_tenant(world: World) -> None:
    training, spec = world.training, world.spec()
    told = training.estimate(MANAGER, "acme", spec, frozen=True)
    assert (told.steps, told.measured_runs) == (6, 0)
    assert told.tokens > 0
    for frozen in (True, False):
        with pytest.raises(NotPermitted):
            training.estimate(STRANGER, "acme", spec, frozen=frozen)
    with pytest.raises(NotFound):
        training.estimate(STRANGER, "globex", spec, frozen=True)
    with pytest.raises(NotPermitted):
        training.standing(STRANGER, "acme")


def test_a_clone_names_a_run_of_its_own_tenant_only(world: World) -> None:
    training, spec = world.training, world.spec()
    first = training.launch_dpo(ENGINEER, "acme", spec)
    assert training.standing(ENGINEER, "acme") == (True, True)
    second = training.launch_dpo(
        ENGINEER, "acme", DpoSpec.from_json({**spec.as_json(), "beta": 0.5}), parent_id=first.id
    )
    assert second.parent_id == first.id
    assert differences(first, second) == [("beta", 0.1, 0.5)]
    with pytest.raises(NotFound, match="run 'no-such-run' was not found"):
        training.launch_dpo(ENGINEER, "acme", spec, parent_id="no-such-run")
    with pytest.raises(InvalidInput, match="backend: expected one of local, found 'moon'"):
        training.launch_dpo(ENGINEER, "acme", spec, backend="moon")
    for run in (first, second):
        training.stop(ENGINEER, run.id)
    assert training.standing(ENGINEER, "acme") == (True, False)


def test_a_line_of_the_list_says_what_the_run_says(world: World) -> None:
    first = world.training.launch_dpo(ENGINEER, "acme", world.spec())
    second = world.training.launch_dpo(ENGINEER, "acme", world.spec())
    world.training.stop(ENGINEER, first.id)
    for line, run in zip(
        world.training.lines(ENGINEER, "acme"), world.training.list(ENGINEER, "acme"), strict=True
    ):
        assert (line.id, line.status, line.progress) == (run.id, run.job.status, run.job.progress)
        assert (line.alias, line.preset, line.adapter) == (
            run.spec.alias, run.spec.preset, run.adapter,
        )  # fmt: skip
        assert (line.created_at, line.created_by) == (run.created_at, run.created_by)
    assert [line.id for line in world.training.lines(ENGINEER, "acme", limit=1)] == [second.id]
