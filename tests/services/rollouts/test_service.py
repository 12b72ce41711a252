import threading

import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.errors import (
    Conflict,
    ConsoleError,
    GateFailed,
    InvalidInput,
    NotFound,
    NotPermitted,
)
from services.evaluation.models import Verdict
from services.rollouts.models import RolloutState, Route
from tests.services.rollouts.conftest import ENGINEER, MANAGER, STRANGER, SYSTEM, Stage


def test_another_tenant_can_neither_see_nor_move_a_rollout(stage: Stage) -> None:
    rollout = stage.rollouts.start(ENGINEER, "legal", "legal", stage.adapter(1), percent=10)
    for refused in (
        lambda: stage.rollouts.get(STRANGER, rollout.id),
        lambda: stage.rollouts.traffic(STRANGER, rollout.id),
        lambda: stage.rollouts.step(STRANGER, rollout.id, 50),
        lambda: stage.rollouts.promote(STRANGER, rollout.id, reason="mine"),
        lambda: stage.rollouts.rollback(STRANGER, rollout.id, reason="mine"),
    ):
        with pytest.raises(NotFound, match="there is no rollout"):
            refused()
    with pytest.raises(NotPermitted):
        stage.rollouts.list(STRANGER, "legal")
    with pytest.raises(NotPermitted):
        stage.rollouts.start(STRANGER, "legal", "legal", stage.adapter(2), percent=10)
    assert stage.rollouts.get(ENGINEER, rollout.id) == rollout


def test_a_manager_sees_and_moves_nothing(stage: Stage) -> None:
    candidate = stage.adapter(1)
    with pytest.raises(NotPermitted):
        stage.rollouts.start(MANAGER, "legal", "legal", candidate, percent=10)
    rollout = stage.rollouts.start(ENGINEER, "legal", "legal", candidate, percent=10)
    assert stage.rollouts.list(MANAGER, "legal") == [rollout]
    for refused in (
        lambda: stage.rollouts.step(MANAGER, rollout.id, 50),
        lambda: stage.rollouts.promote(MANAGER, rollout.id, reason="now"),
        lambda: stage.rollouts.rollback(MANAGER, rollout.id, reason="now"),
    ):
        with pytest.raises(NotPermitted):
            refused()


def test_a_rollout_goes_from_plan_to_promotion(stage: Stage) -> None:
    candidate = stage.adapter(1)
    stage.judge.verdict = Verdict.BETTER
    rollout = stage.rollouts.start(ENGINEER, "legal", "legal", candidate, percent=0)
    assert (rollout.state, rollout.stable) == (RolloutState.PLANNED, None)
    assert stage.rollouts.step(ENGINEER, rollout.id, 10).state is RolloutState.STEPPING
    route = stage.rollouts.routes()["legal", "legal"]
    assert route == Route("legal", "legal", None, candidate, 10, rollout.salt, rollout.id)
    done = stage.rollouts.promote(ENGINEER, rollout.id)
    assert [step.percent for step in done.steps] == [0, 10, 100]
    assert stage.rollouts.get(ENGINEER, rollout.id) == done
    assert stage.means() == candidate
    assert stage.rollouts.routes()["legal", "legal"] == Route("legal", "legal", candidate)
    champion = stage.registry.champion(ENGINEER, "legal", "legal")
    assert champion is not None
    assert champion.adapter == candidate


def test_a_failed_gate_is_named_and_a_reason_passes_it(stage: Stage) -> None:
    rollout = stage.rollouts.start(ENGINEER, "legal", "legal", stage.adapter(1), percent=10)
    with pytest.raises(GateFailed, match="The adapter was never evaluated"):
        stage.rollouts.promote(ENGINEER, rollout.id, reason="  ")
    stage.judge.verdict = Verdict.WORSE
    with pytest.raises(GateFailed, match="worse than its base model"):
        stage.rollouts.promote(ENGINEER, rollout.id)
    done = stage.rollouts.promote(ENGINEER, rollout.id, reason="the pairs were mislabelled")
    assert done.steps[-1].reason == "the pairs were mislabelled"
    with stage.db.read() as session:
        event = session.scalars(
            select(OutboxRow).where(OutboxRow.action == "rollout.promoted")
        ).one()
    assert event.details["gate_passed"] is False
    assert "worse than its base" in event.details["gate_reasons"][0]


def test_an_alias_has_one_open_rollout(stage: Stage) -> None:
    first = stage.rollouts.start(ENGINEER, "legal", "legal", stage.adapter(1), percent=10)
    other = stage.adapter(2)
    with pytest.raises(Conflict, match=f"expected no open rollout, found {first.id}"):
        stage.rollouts.start(ENGINEER, "legal", "legal", other, percent=10)
    stage.rollouts.rollback(ENGINEER, first.id, reason="slow")
    assert stage.rollouts.start(ENGINEER, "legal", "legal", other, percent=10).is_open


def test_two_people_who_start_at_once_open_one_rollout(stage: Stage) -> None:
    candidates = [stage.adapter(1), stage.adapter(2)]
    gate = threading.Barrier(2)
    refused: list[ConsoleError] = []

    def start(candidate: str) -> None:
        gate.wait()
        try:
            stage.rollouts.start(ENGINEER, "legal", "legal", candidate, percent=10)
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(candidate,)) for candidate in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert len(stage.rollouts.list(ENGINEER, "legal")) == 1


def test_only_an_adapter_made_for_the_alias_can_be_tried(stage: Stage) -> None:
    foreign = stage.adapter(1, tenant_id="medical")
    elsewhere = stage.adapter(2, alias="support")
    with pytest.raises(NotFound):
        stage.rollouts.start(ENGINEER, "legal", "legal", foreign, percent=10)
    with pytest.raises(NotFound):
        stage.rollouts.start(ENGINEER, "legal", "legal", "legal-000000000000", percent=10)
    with pytest.raises(InvalidInput, match="made for 'support'"):
        stage.rollouts.start(ENGINEER, "legal", "legal", elsewhere, percent=10)
    assert stage.rollouts.list(ENGINEER, "legal") == []


def test_what_the_alias_means_already_cannot_be_tried(stage: Stage) -> None:
    candidate = stage.adapter(1)
    stage.tenants.set_alias(SYSTEM, "legal", "legal", candidate)
    with pytest.raises(InvalidInput, match="means .* already"):
        stage.rollouts.start(ENGINEER, "legal", "legal", candidate, percent=10)


@pytest.mark.parametrize("percent", [-1, 101, True, 0.5, "10"])
def test_a_share_out_of_range_is_refused(stage: Stage, percent: int) -> None:
    candidate = stage.adapter(1)
    with pytest.raises(InvalidInput, match="from 0 to 100"):
        stage.rollouts.start(ENGINEER, "legal", "legal", candidate, percent=percent)
    rollout = stage.rollouts.start(ENGINEER, "legal", "legal", candidate, percent=10)
    with pytest.raises(InvalidInput, match="from 0 to 100"):
        stage.rollouts.step(ENGINEER, rollout.id, percent)


def test_a_rollback_leaves_the_stable_adapter(stage: Stage) -> None:
    stable, candidate = stage.adapter(1), stage.adapter(2)
    stage.tenants.set_alias(SYSTEM, "legal", "legal", stable)
    rollout = stage.rollouts.start(ENGINEER, "legal", "legal", candidate, percent=25)
    with pytest.raises(InvalidInput, match="expected a reason"):
        stage.rollouts.rollback(ENGINEER, rollout.id, reason=" ")
    done = stage.rollouts.rollback(ENGINEER, rollout.id, reason="wrong answers")
    assert (done.state, done.percent) == (RolloutState.ROLLED_BACK, 0)
    assert stage.rollouts.routes()["legal", "legal"] == Route("legal", "legal", stable)
    for ended in (
        lambda: stage.rollouts.step(ENGINEER, rollout.id, 50),
        lambda: stage.rollouts.promote(ENGINEER, rollout.id, reason="again"),
        lambda: stage.rollouts.rollback(ENGINEER, rollout.id, reason="again"),
    ):
        with pytest.raises(Conflict):
            ended()


def test_a_promotion_can_be_rolled_back_to_what_was_before(stage: Stage) -> None:
    stable, candidate = stage.adapter(1), stage.adapter(2)
    stage.tenants.set_alias(SYSTEM, "legal", "legal", stable)
    rollout = stage.rollouts.start(ENGINEER, "legal", "legal", candidate, percent=25)
    stage.rollouts.promote(ENGINEER, rollout.id, reason="trust me")
    stage.rollouts.rollback(ENGINEER, rollout.id, reason="trust was misplaced")
    assert stage.means() == stable
    champion = stage.registry.champion(ENGINEER, "legal", "legal")
    assert champion is not None
    assert champion.adapter == stable


def test_an_alias_moved_by_hand_is_not_overwritten(stage: Stage) -> None:
    rollout = stage.rollouts.start(ENGINEER, "legal", "legal", stage.adapter(1), percent=25)
    by_hand = stage.adapter(2)
    stage.tenants.set_alias(SYSTEM, "legal", "legal", by_hand)
    assert stage.rollouts.routes()["legal", "legal"].stable == by_hand
    with pytest.raises(Conflict, match="moved outside this rollout"):
        stage.rollouts.promote(ENGINEER, rollout.id, reason="ship it")
    assert stage.rollouts.get(ENGINEER, rollout.id).is_open


def test_every_change_leaves_one_event(stage: Stage) -> None:
    rollout = stage.rollouts.start(ENGINEER, "legal", "legal", stage.adapter(1), percent=5)
    stage.rollouts.step(ENGINEER, rollout.id, 50)
    stage.rollouts.rollback(ENGINEER, rollout.id, reason="slow")
    with stage.db.read() as session:
        events = session.scalars(
            select(OutboxRow)
            .where(OutboxRow.subject == f"rollout:{rollout.id}")
            .order_by(OutboxRow.id)
        ).all()
    assert [event.action for event in events] == [
        "rollout.started", "rollout.stepped", "rollout.rolled_back",
    ]  # fmt: skip
    assert [event.details["percent"] for event in events] == [5, 50, 0]
    assert {(event.actor_id, event.tenant_id) for event in events} == {("u1", "legal")}
