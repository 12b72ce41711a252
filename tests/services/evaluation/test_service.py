from pathlib import Path

import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import InvalidInput, NotFound, NotPermitted
from services.evaluation.models import Checks, Verdict
from services.evaluation.service import is_running
from services.evaluation.worker import parameters
from services.jobs.models import JobStatus
from tests.services.evaluation.world import (
    ANNOTATOR,
    ENGINEER,
    MANAGER,
    STRANGER,
    World,
    answer,
    build,
    finished,
    scores,
    summary,
)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return build(database, tmp_path)


def events(world: World, action: str) -> list[OutboxRow]:
    with world.db.read() as session:
        return list(session.scalars(select(OutboxRow).where(OutboxRow.action == action)))


def test_another_tenant_sees_launches_and_finishes_nothing(world: World) -> None:
    evaluation = finished(world, scores(gained=25))
    with pytest.raises(NotPermitted):
        world.evaluations.launch(STRANGER, "legal", world.adapter.name)
    with pytest.raises(NotPermitted):
        world.evaluations.list(STRANGER, "legal")
    with pytest.raises(NotPermitted):
        world.evaluations.latest_for(STRANGER, "legal", world.adapter.name)
    for look in (
        world.evaluations.get,
        world.evaluations.pair_scores,
        world.evaluations.answers,
        world.evaluations.stop,
        world.evaluations.resume,
    ):
        with pytest.raises(NotFound, match="was not found"):
            look(STRANGER, evaluation.id)
    with pytest.raises(NotFound):
        world.evaluations.finish(STRANGER, evaluation.id, summary(scores(right=1)), [], [])
    assert world.evaluations.list(STRANGER, "medical") == []


def test_a_manager_reads_but_does_not_launch_and_an_annotator_does_neither(world: World) -> None:
    evaluation = finished(world, scores(gained=25))
    assert world.evaluations.get(MANAGER, evaluation.id) == evaluation
    assert len(world.evaluations.pair_scores(MANAGER, evaluation.id)) == 25
    with pytest.raises(NotPermitted, match="train and evaluate"):
        world.evaluations.launch(MANAGER, "legal", world.adapter.name)
    with pytest.raises(NotPermitted, match="train and evaluate"):
        world.evaluations.finish(MANAGER, evaluation.id, summary(scores(right=1)), [], [])
    with pytest.raises(NotFound):
        world.evaluations.get(ANNOTATOR, evaluation.id)
    with pytest.raises(NotPermitted):
        world.evaluations.list(ANNOTATOR, "legal")


def test_a_launch_queues_a_job_in_the_place_of_a_training_run(world: World) -> None:
    evaluation = world.evaluations.launch(ENGINEER, "legal", world.adapter.name)
    assert (evaluation.job.kind, evaluation.job.queue) == ("evaluation.score", "training")
    assert evaluation.job.payload == {"evaluation_id": evaluation.id}
    assert evaluation.job.status is JobStatus.QUEUED
    assert is_running(evaluation)
    assert evaluation.adapter_digest == world.adapter.digest
    assert (evaluation.summary, evaluation.prompts) == (None, None)
    (event,) = events(world, "evaluation.launched")
    assert event.details["adapter_digest"] == world.adapter.digest


def test_by_default_the_pairs_of_the_adapters_own_dataset_and_its_beta_are_used(
    world: World,
) -> None:
    evaluation = world.evaluations.launch(ENGINEER, "legal", world.adapter.name)
    assert (evaluation.dataset_id, evaluation.beta) == (world.dataset.id, 0.25)
    assert evaluation.dataset_sha256 == world.dataset.sha256


def test_named_prompts_become_user_turns(world: World) -> None:
    evaluation = world.evaluations.launch(
        ENGINEER, "legal", world.adapter.name, prompts=[" Başkent neresi? "], beta=0.5
    )
    assert evaluation.prompts == (({"role": "user", "content": "Başkent neresi?"},),)
    assert evaluation.beta == 0.5
    assert world.evaluations.launch(ENGINEER, "legal", world.adapter.name, prompts=[]).prompts == ()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"prompts": [""]}, "prompt 1: expected 1 to 20000 characters, found 0"),
        ({"prompts": ["a", "b" * 20_001]}, "prompt 2: expected 1 to 20000"),
        ({"prompts": ["a"] * 301}, "at most 300 prompts, found 301"),
        ({"beta": 0}, "beta: expected a number above 0"),
        ({"beta": float("nan")}, "beta: expected a number above 0"),
    ],
)
def test_a_launch_that_cannot_work_is_refused_and_queues_nothing(
    world: World, changes: dict, found: str
) -> None:
    with pytest.raises(InvalidInput, match=found):
        world.evaluations.launch(ENGINEER, "legal", world.adapter.name, **changes)
    assert world.jobs.list(ENGINEER, "legal") == []


def test_an_unknown_adapter_or_dataset_is_refused(world: World) -> None:
    with pytest.raises(NotFound, match="no adapter"):
        world.evaluations.launch(ENGINEER, "legal", "legal-0123456789ab")
    with pytest.raises(NotFound, match="no data ?set"):
        world.evaluations.launch(ENGINEER, "legal", world.adapter.name, dataset_id="none")


def test_a_dataset_without_held_out_pairs_is_refused(world: World) -> None:
    none = world.preferences.snapshot(ENGINEER, "legal", eval_fraction=0.0)
    with pytest.raises(InvalidInput, match="at least 1 held-out pair, found none"):
        world.evaluations.launch(ENGINEER, "legal", world.adapter.name, dataset_id=none.id)


def test_what_was_found_is_written_once_whole_and_audited_without_floats(world: World) -> None:
    found = scores(gained=15, right=5, wrong=5)
    evaluation = finished(world, found)
    assert world.evaluations.pair_scores(ENGINEER, evaluation.id) == found
    assert evaluation.summary is not None
    assert evaluation.summary.verdict is Verdict.BETTER
    assert not is_running(evaluation)
    answers = world.evaluations.answers(ENGINEER, evaluation.id)
    assert [one.adapter_degenerate for one in answers] == [False, True]
    assert answers[0] == answer(0)

    again = world.evaluations.finish(
        ENGINEER, evaluation.id, summary(scores(lost=25)), scores(lost=25), []
    )
    assert again is False
    assert world.evaluations.get(ENGINEER, evaluation.id).summary == evaluation.summary
    (event,) = events(world, "evaluation.finished")
    assert event.details["verdict"] == "better"
    assert event.details["n_pairs"] == 25
    assert not any(isinstance(value, float) for value in event.details.values())
    assert "Ankara" not in str(event.details)


def test_the_latest_finished_evaluation_counts_before_one_that_still_waits(world: World) -> None:
    assert world.evaluations.latest_for(ENGINEER, "legal", world.adapter.name) is None
    first = finished(world, scores(gained=25))
    second = finished(world, scores(lost=25))
    waiting = world.evaluations.launch(ENGINEER, "legal", world.adapter.name)
    latest = world.evaluations.latest_for(ENGINEER, "legal", world.adapter.name)
    assert latest == second
    listed = world.evaluations.list(ENGINEER, "legal", adapter=world.adapter.name)
    assert [one.id for one in listed] == [waiting.id, second.id, first.id]
    assert world.evaluations.list(ENGINEER, "legal", adapter="other-0123456789ab") == []


def test_a_waiting_evaluation_can_be_stopped_and_resumed(world: World) -> None:
    evaluation = world.evaluations.launch(ENGINEER, "legal", world.adapter.name)
    assert world.evaluations.stop(ENGINEER, evaluation.id).job.status is JobStatus.STOPPED
    assert world.evaluations.resume(ENGINEER, evaluation.id).job.status is JobStatus.QUEUED


def test_mlflow_is_told_what_was_measured_and_how(world: World) -> None:
    told = parameters(
        world.evaluations.launch(
            ENGINEER, "legal", world.adapter.name, prompts=["One?", "Two?"],
            references=["1", None], checks=Checks(tasks=False, text_count=7),
        )
    )  # fmt: skip
    assert told["adapter"] == world.adapter.name
    assert (told["beta"], told["prompts"], told["references"]) == ("0.25", "2", "1")
    assert (told["tasks"], told["texts"], told["text_count"]) == ("False", "True", "7")
    usual = world.evaluations.launch(ENGINEER, "legal", world.adapter.name)
    assert parameters(usual)["prompts"] == "usual"
