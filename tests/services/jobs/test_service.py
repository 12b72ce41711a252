from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database, utcnow
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted
from services.jobs.claims import Claims
from services.jobs.models import JobStatus
from services.jobs.service import LOST_AFTER, Jobs
from tests.services.jobs.actors import ANNOTATOR, ENGINEER, MANAGER, STRANGER


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


def test_another_tenant_cannot_tell_a_job_from_one_that_does_not_exist(jobs: Jobs) -> None:
    job = jobs.enqueue(ENGINEER, "acme", "count", {})
    for ask in (jobs.get, jobs.request_stop, jobs.resume):
        with pytest.raises(NotFound) as of_other:
            ask(STRANGER, job.id)
        with pytest.raises(NotFound) as of_none:
            ask(STRANGER, "no-such-job")
        assert str(of_other.value).replace(job.id, "*") == str(of_none.value).replace(
            "no-such-job", "*"
        )
    with pytest.raises(NotPermitted):
        jobs.list(STRANGER, "acme")
    with pytest.raises(NotPermitted):
        jobs.enqueue(STRANGER, "acme", "count", {})


def test_who_may_only_read_changes_nothing(jobs: Jobs) -> None:
    job = jobs.enqueue(ENGINEER, "acme", "count", {})
    assert jobs.get(MANAGER, job.id).id == job.id
    with pytest.raises(NotPermitted):
        jobs.enqueue(MANAGER, "acme", "count", {})
    with pytest.raises(NotPermitted):
        jobs.request_stop(MANAGER, job.id)
    with pytest.raises(NotPermitted):
        jobs.resume(MANAGER, job.id)
    with pytest.raises(NotFound):
        jobs.get(ANNOTATOR, job.id)


def test_a_job_and_its_audit_event_exist_exactly_if_the_callers_transaction_commits(
    jobs: Jobs, database: Database
) -> None:
    with pytest.raises(RuntimeError, match="undone"), database.write() as session:
        jobs.enqueue_in_session(session, ENGINEER, "acme", "count", {"n": 1})
        raise RuntimeError("undone")
    assert jobs.list(ENGINEER, "acme") == []
    job = jobs.enqueue(ENGINEER, "acme", "count", {"n": 1})
    with database.read() as session:
        events = session.scalars(select(OutboxRow)).all()
    assert [(event.action, event.subject) for event in events] == [("job.queued", f"job:{job.id}")]
    assert (job.status, job.payload, job.created_by) == ("queued", {"n": 1}, "Engineer")


def test_an_unknown_queue_is_refused(jobs: Jobs) -> None:
    with pytest.raises(InvalidInput, match="expected a queue of .*, found 'gpu'"):
        jobs.enqueue(ENGINEER, "acme", "count", {}, queue="gpu")


def test_the_list_is_newest_first_and_of_one_kind_if_asked(jobs: Jobs) -> None:
    made = [jobs.enqueue(ENGINEER, "acme", kind, {}).id for kind in ("a", "b", "a")]
    assert [job.id for job in jobs.list(ENGINEER, "acme")] == made[::-1]
    assert [job.id for job in jobs.list(ENGINEER, "acme", "a")] == [made[2], made[0]]


def test_a_waiting_job_stops_at_once_and_can_be_queued_again(jobs: Jobs) -> None:
    job = jobs.enqueue(ENGINEER, "acme", "count", {})
    assert jobs.request_stop(ENGINEER, job.id).status is JobStatus.STOPPED
    with pytest.raises(Conflict, match="expected a waiting or running job, found stopped"):
        jobs.request_stop(ENGINEER, job.id)
    assert jobs.resume(ENGINEER, job.id).status is JobStatus.QUEUED
    with pytest.raises(Conflict, match="expected a stopped or failed job, found queued"):
        jobs.resume(ENGINEER, job.id)


def test_a_running_job_stops_when_its_worker_says_so(
    jobs: Jobs, database: Database, tmp_path: Path
) -> None:
    job = jobs.enqueue(ENGINEER, "acme", "count", {})
    claims = Claims(database, tmp_path)
    claims.claim("default", ["count"])
    assert jobs.request_stop(ENGINEER, job.id).status is JobStatus.STOPPING
    assert jobs.request_stop(ENGINEER, job.id).status is JobStatus.STOPPING
    claims.end(job.id, JobStatus.STOPPED, "stopped")
    stopped = jobs.get(ENGINEER, job.id)
    assert (stopped.status, stopped.worker) == (JobStatus.STOPPED, None)
    claims.close()


def test_a_job_whose_worker_fell_silent_long_ago_stops_at_once(
    jobs: Jobs, database: Database, tmp_path: Path
) -> None:
    job = jobs.enqueue(ENGINEER, "acme", "count", {})
    claims = Claims(database, tmp_path, clock=lambda: utcnow() - LOST_AFTER - timedelta(seconds=1))
    claims.claim("default", ["count"])
    assert jobs.request_stop(ENGINEER, job.id).status is JobStatus.STOPPED
    assert claims.beat([job.id]) == {}
    assert not claims.end(job.id, JobStatus.SUCCEEDED, "too late")
    assert jobs.get(ENGINEER, job.id).status is JobStatus.STOPPED
    claims.close()
