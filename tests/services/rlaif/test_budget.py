"""The tenant's month: a run that does not fit never begins, and one that stops fitting stops."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from services.errors import BudgetExceeded
from services.jobs.models import JobStatus
from services.metering.allowance import READ_AGAIN_S, Allowance
from services.rlaif.models import CallState, Mode, Outcome
from services.tenants.store import TenantRow
from tests.services.rlaif.world import CLI, ENGINEER, TENANT, World, prompts, spec

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def allow(world: World, micro: int | None, tenant: str = TENANT) -> None:
    with world.db.write() as session:
        session.execute(update(TenantRow).where(TenantRow.id == tenant).values(monthly_micro=micro))


def spent(world: World) -> int:
    return sum(row.cost_micro for row in world.usage())


def test_a_run_that_is_expected_to_cost_more_than_is_left_is_never_queued(world: World) -> None:
    allow(world, 1_000)
    with pytest.raises(BudgetExceeded) as refused:
        world.launch(2)
    said = refused.value.message
    assert said.startswith("tenant acme: the run may cost 0.0")
    assert "0.001000 USD of the 0.001 USD for 20" in said
    assert said.endswith("are left; raise the month's budget, or go on next month")
    assert 0 < refused.value.retry_after_s <= 32 * 86_400
    assert world.rlaif.list(CLI, TENANT) == []
    allow(world, 10_000_000)
    world.launch(2)


def test_the_budget_of_another_tenant_is_no_bound(world: World) -> None:
    allow(world, 1, "globex")
    assert world.done(1).outcome is Outcome.COMPLETE


@pytest.mark.parametrize("mode", [Mode.DIRECT, Mode.BATCH])
def test_a_month_that_ends_up_spent_stops_the_run_and_a_larger_budget_goes_on(
    world: World, mode: Mode
) -> None:
    run = world.launch(4, mode=mode, concurrency=4)
    budget = 30_000 if mode is Mode.DIRECT else 25_000
    allow(world, budget)
    run = world.work(run)
    assert (run.job.status, run.outcome) == (JobStatus.FAILED, None)
    assert run.job.error is not None
    assert "the next call may cost" in run.job.error
    assert "raise the month's budget" in run.job.error
    assert 0 < spent(world) <= budget
    assert run.reserved_micro == 0
    done = run.counts.calls[CallState.DONE]
    assert 0 < done < 16
    with pytest.raises(BudgetExceeded):
        allow(world, spent(world))
        world.rlaif.resume(ENGINEER, run.id)
    allow(world, 10_000_000)
    world.rlaif.resume(ENGINEER, run.id)
    run = world.work(run)
    assert (run.job.status, run.outcome) == (JobStatus.SUCCEEDED, Outcome.COMPLETE)
    assert run.counts.calls == {CallState.DONE: 16}
    assert world.judge.paid_twice == []


def test_candidates_stop_at_the_month_too(world: World) -> None:
    run = world.launch(4)
    allow(world, 40)
    run = world.work(run)
    assert run.job.status is JobStatus.FAILED
    assert "raise the month's budget" in (run.job.error or "")
    assert run.counts.candidates < 16
    assert spent(world) <= 40


def test_what_two_runs_hold_is_promised_once(world: World) -> None:
    one = world.launch(1)
    expected = world.rlaif.estimate(ENGINEER, TENANT, spec(), prompts(1)).expected_micro
    allow(world, expected + 1_000)
    with world.db.write() as session:
        from services.rlaif.store import RunRow

        session.get_one(RunRow, one.id).reserved_micro = 2_000
    with pytest.raises(BudgetExceeded):
        world.launch(1)


def test_between_two_readings_the_own_spending_counts(world: World) -> None:
    allow(world, 1_000)
    now = [0.0]
    allowance = Allowance(world.metering, TENANT, monotonic=lambda: now[0])
    with world.db.read() as session:
        assert allowance.left_micro(session) == 1_000
        allowance.paid(400)
        assert allowance.left_micro(session) == 600
        allowance.refuse_beyond(session, 600, "it")
        with pytest.raises(BudgetExceeded, match="it may cost 0.000601 USD, 0.000600 USD of"):
            allowance.refuse_beyond(session, 601, "it")
        with pytest.raises(BudgetExceeded, match="0.000500 USD of"):
            allowance.refuse_beyond(session, 600, "it", held_micro=100)
        now[0] = READ_AGAIN_S
        assert allowance.left_micro(session) == 1_000, "read again, and nobody has a usage row"
