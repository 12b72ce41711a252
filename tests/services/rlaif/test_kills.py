"""Workers killed with SIGKILL in the middle of candidates, calls and batches: nothing twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from services.jobs.models import JobStatus
from services.rlaif.models import CallState, Mode, Outcome, Run
from tests.services.rlaif.test_runs import check_books
from tests.services.rlaif.world import ENGINEER, World
from tests.support import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
PATIENCE_S = 240.0


@contextmanager
def worker(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process, killed at the end."""
    arguments = (
        world.db.url.render_as_string(hide_password=False), str(world.settings.home),
        world.judge.url, world.engine.url,
    )  # fmt: skip
    module = "tests.services.rlaif.worker_process"
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(fact: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert process.poll() is None, "the worker ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ended(world: World, run: Run) -> Callable[[], bool]:
    return lambda: world.rlaif.get(ENGINEER, run.id).job.status.is_final


def test_killed_again_and_again_a_run_asks_and_pays_for_nothing_twice(world: World) -> None:
    world.judge.slow_s = 0.03
    run = world.launch(12, "[slow]", concurrency=3)
    kills = 0
    for candidates, verdicts in ((20, 0), (48, 8), (48, 25)):
        with worker(world) as process:

            def reached(more: int = candidates, judged: int = verdicts) -> bool:
                asked = len(world.engine.requests)
                return asked >= more and len(world.judge.bills) >= judged

            wait_for(reached, process)
        kills += 1
    with worker(world) as process:
        wait_for(ended(world, run), process)
    found = world.rlaif.get(ENGINEER, run.id)
    assert (found.job.status, found.outcome) == (JobStatus.SUCCEEDED, Outcome.COMPLETE)
    assert found.counts.candidates == 48
    lost = found.counts.calls.get(CallState.LOST, 0)
    assert lost <= 3 * kills, "at most what was on its way at each kill"
    assert found.counts.calls[CallState.DONE] == 48 - lost
    assert world.judge.paid_twice == []
    # What the judge was asked is what the table knows: nothing was sent that nobody knows of.
    assert set(world.judge.bills) <= {call.custom_id for call in world.calls()}
    check_books(world)
    assert len(world.pairs()) == 24
    if lost:
        world.rlaif.resume(ENGINEER, run.id, ask_lost_again=True)
        world.judge.slow_s = 0.0
        found = world.work(found)
        assert found.counts.calls[CallState.DONE] == 48
        assert found.counts.calls[CallState.ABANDONED] == lost


@SQLITE
def test_a_batch_that_was_sent_when_the_worker_died_is_found_and_not_sent_again(
    world: World,
) -> None:
    world.judge.ends_batches = False
    run = world.launch(3, mode=Mode.BATCH)
    with worker(world) as process:
        wait_for(lambda: len(world.judge.batches) == 1, process)
    # As if the answer had never arrived, whatever the process had time to write down.
    from services.rlaif.store import BatchRow

    with world.db.write() as session:
        session.query(BatchRow).update({"remote_id": None})
    world.judge.end(next(iter(world.judge.batches)))
    with worker(world) as process:
        wait_for(ended(world, run), process)
    found = world.rlaif.get(ENGINEER, run.id)
    assert found.outcome is Outcome.COMPLETE
    assert found.counts.calls == {CallState.DONE: 12}
    assert len(world.judge.batches) == 1
    check_books(world)


@SQLITE
def test_a_batch_whose_answer_was_lost_is_found_by_its_custom_ids(world: World) -> None:
    world.judge.troubles.append("late")
    run = world.done(1, mode=Mode.BATCH)
    assert run.counts.calls == {CallState.DONE: 4}
    assert len(world.judge.batches) == 1
    check_books(world)


@SQLITE
def test_a_batch_that_never_arrived_is_sent_after_all(world: World) -> None:
    world.judge.troubles.append("lost")
    run = world.done(1, mode=Mode.BATCH)
    assert run.counts.calls == {CallState.VOID: 4, CallState.DONE: 4}
    assert len(world.judge.batches) == 1
    check_books(world)


@SQLITE
def test_a_call_whose_answer_never_came_is_not_sent_again_by_itself(world: World) -> None:
    run = world.done(1, "[drop]", pairs_per_prompt=1)
    assert run.outcome is Outcome.COMPLETE
    assert run.counts.calls == {CallState.LOST: 2}
    assert run.spent_micro > 0, "it counts at its highest cost"
    assert world.judge.paid_twice == []
