from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from services.audit.outbox import OutboxRow
from services.db import Database, utcnow
from services.jobs.claims import LEASE, MAX_CRASHES, Claims
from services.jobs.models import JobStatus
from services.jobs.service import Jobs
from services.jobs.store import JobRow
from tests.services.jobs.actors import ENGINEER

KINDS = ["count"]


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


@pytest.fixture
def claims(database: Database, tmp_path: Path) -> Iterator[Claims]:
    found = Claims(database, tmp_path / "workers")
    yield found
    found.close()


def test_a_queue_runs_as_many_jobs_as_it_has_slots_oldest_first(jobs: Jobs, claims: Claims) -> None:
    first, second, third = (
        jobs.enqueue(ENGINEER, "acme", "count", {}, queue="training").id for _ in range(3)
    )
    taken = claims.claim("training", KINDS)
    assert taken is not None
    assert (taken.id, taken.attempt, taken.status) == (first, 1, JobStatus.RUNNING)
    assert claims.claim("training", KINDS) is None
    claims.end(first, JobStatus.SUCCEEDED, "done")
    assert [claims.claim("training", KINDS) is not None, jobs.get(ENGINEER, second).worker] == [
        True,
        claims.worker,
    ]
    assert jobs.get(ENGINEER, third).status is JobStatus.QUEUED


def test_kinds_without_a_handler_are_left_alone(jobs: Jobs, claims: Claims) -> None:
    jobs.enqueue(ENGINEER, "acme", "bake", {})
    mine = jobs.enqueue(ENGINEER, "acme", "count", {})
    taken = claims.claim("default", KINDS)
    assert taken is not None
    assert taken.id == mine.id


def test_sixteen_workers_that_claim_at_once_get_one_slot_between_them(
    jobs: Jobs, database: Database, tmp_path: Path
) -> None:
    for _ in range(16):
        jobs.enqueue(ENGINEER, "acme", "count", {}, queue="training")
    workers = [Claims(database, tmp_path / "workers") for _ in range(16)]
    gate = threading.Barrier(16)
    taken: list[str] = []

    def claim(worker: Claims) -> None:
        gate.wait()
        job = worker.claim("training", KINDS)
        if job is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=claim, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    for worker in workers:
        worker.close()


def test_the_database_refuses_a_second_job_in_a_slot(
    jobs: Jobs, claims: Claims, database: Database
) -> None:
    taken, waiting = (
        jobs.enqueue(ENGINEER, "acme", "count", {}, queue="training").id for _ in range(2)
    )
    claims.claim("training", KINDS)
    with pytest.raises(IntegrityError), database.write() as session:
        row = session.get(JobRow, waiting)
        assert row is not None
        row.status, row.slot, row.host = JobStatus.RUNNING, 0, claims.host
    assert jobs.get(ENGINEER, taken).status is JobStatus.RUNNING


def test_nothing_is_adopted_from_a_living_worker_however_old_its_sign_of_life(
    jobs: Jobs, claims: Claims, database: Database, tmp_path: Path
) -> None:
    jobs.enqueue(ENGINEER, "acme", "count", {})
    claims.claim("default", KINDS)
    late = Claims(database, tmp_path / "workers", clock=lambda: utcnow() + 10 * LEASE)
    assert late.adopt(KINDS) == []
    late.close()


def test_the_jobs_of_a_dead_worker_go_to_one_adopter_at_once(
    jobs: Jobs, claims: Claims, database: Database, tmp_path: Path
) -> None:
    job = jobs.enqueue(ENGINEER, "acme", "count", {}, queue="training")
    dead = Claims(database, tmp_path / "workers")
    dead.claim("training", KINDS)
    dead._file.close()  # what the kernel does when a process is killed
    adopted = claims.adopt(KINDS)
    assert [(found.id, found.attempt, found.worker) for found in adopted] == [
        (job.id, 2, claims.worker)
    ]
    assert claims.adopt(KINDS) == []
    assert not dead.end(job.id, JobStatus.SUCCEEDED, "said a ghost")
    assert not dead.progress(job.id, 0.9, "said a ghost")
    assert not dead.put_back(job.id)
    assert jobs.get(ENGINEER, job.id).status is JobStatus.RUNNING


def test_a_worker_with_another_home_is_believed_dead_only_after_its_lease_and_never_in_training(
    jobs: Jobs, database: Database, tmp_path: Path
) -> None:
    moving = jobs.enqueue(ENGINEER, "acme", "count", {})
    jobs.enqueue(ENGINEER, "acme", "count", {}, queue="training")
    far = Claims(database, tmp_path / "far")
    far.claim("default", KINDS)
    far.claim("training", KINDS)
    near = Claims(database, tmp_path / "near")
    assert near.adopt(KINDS) == []
    late = Claims(
        database, tmp_path / "late", clock=lambda: utcnow() + LEASE + timedelta(seconds=1)
    )
    assert [job.id for job in late.adopt(KINDS)] == [moving.id]
    for worker in (far, near, late):
        worker.close()


def test_each_host_trains_on_its_own_devices(
    jobs: Jobs, database: Database, tmp_path: Path
) -> None:
    queued = [jobs.enqueue(ENGINEER, "acme", "count", {}, queue="training").id for _ in range(4)]
    locks = tmp_path / "workers"
    one = Claims(database, locks, host="one")
    two = Claims(database, locks, host="two", slots={"training": 2})
    found = [worker.claim("training", KINDS) for worker in (one, one, two, two, two)]
    assert [job and (job.id, job.host, job.slot) for job in found] == [
        (queued[0], "one", 0), None, (queued[1], "two", 0), (queued[2], "two", 1), None,
    ]  # fmt: skip
    assert jobs.get(ENGINEER, queued[3]).status is JobStatus.QUEUED
    one.close()
    two.close()


def test_a_dead_hosts_run_moves_into_a_free_slot_of_another_host_only_after_the_lease(
    jobs: Jobs, database: Database, tmp_path: Path
) -> None:
    first, second = (
        jobs.enqueue(ENGINEER, "acme", "count", {}, queue="training").id for _ in range(2)
    )
    locks = tmp_path / "workers"
    dead = Claims(database, locks, host="dead", slots={"training": 2})
    assert dead.claim("training", KINDS)
    assert dead.claim("training", KINDS)
    dead._file.close()  # what the kernel does when a process is killed
    soon = Claims(database, locks, host="other")
    assert soon.adopt(KINDS) == [], "its own host comes first: a process may live on there"
    late = Claims(database, locks, host="other", clock=lambda: utcnow() + 2 * LEASE)
    (moved,) = late.adopt(KINDS)
    assert (moved.id, moved.host, moved.slot) == (first, "other", 0)
    waiting = jobs.get(ENGINEER, second)
    assert (waiting.status, waiting.host) == (JobStatus.QUEUED, ""), "no slot is free for it there"
    for worker in (soon, late):
        worker.close()


def test_a_job_that_keeps_killing_its_workers_is_failed_with_a_sentence(
    jobs: Jobs, claims: Claims, database: Database, tmp_path: Path
) -> None:
    job = jobs.enqueue(ENGINEER, "acme", "count", {})
    victim = Claims(database, tmp_path / "workers")
    victim.claim("default", KINDS)
    for _ in range(MAX_CRASHES):
        victim._file.close()
        victim = Claims(database, tmp_path / "workers")
        assert len(victim.adopt(KINDS)) == 1
    victim._file.close()
    assert claims.adopt(KINDS) == []
    failed = jobs.get(ENGINEER, job.id)
    assert failed.status is JobStatus.FAILED
    assert failed.error == (
        "the worker ended 6 times in a row while this job ran; too little memory is the usual cause"
    )


def test_a_job_is_ended_once_and_every_step_of_it_is_audited(
    jobs: Jobs, claims: Claims, database: Database
) -> None:
    job = jobs.enqueue(ENGINEER, "acme", "count", {})
    claims.claim("default", KINDS)
    assert claims.progress(job.id, 0.5, "half")
    assert jobs.get(ENGINEER, job.id).progress == 0.5
    assert claims.end(job.id, JobStatus.SUCCEEDED, "done")
    assert not claims.end(job.id, JobStatus.FAILED, "no", "no")
    ended = jobs.get(ENGINEER, job.id)
    assert (ended.status, ended.progress, ended.error) == (JobStatus.SUCCEEDED, 1.0, None)
    assert ended.ended_at is not None
    with database.read() as session:
        actions = session.scalars(select(OutboxRow.action)).all()
    assert sorted(actions) == ["job.queued", "job.started", "job.succeeded"]


def test_a_job_that_is_put_back_keeps_its_place_and_one_that_was_to_stop_is_stopped(
    jobs: Jobs, claims: Claims
) -> None:
    first, second = (
        jobs.enqueue(ENGINEER, "acme", "count", {}, queue="training").id for _ in range(2)
    )
    claims.claim("training", KINDS)
    assert claims.put_back(first)
    again = claims.claim("training", KINDS)
    assert again is not None
    assert again.id == first
    jobs.request_stop(ENGINEER, first)
    assert claims.put_back(first)
    assert jobs.get(ENGINEER, first).status is JobStatus.STOPPED
    assert jobs.get(ENGINEER, second).status is JobStatus.QUEUED
