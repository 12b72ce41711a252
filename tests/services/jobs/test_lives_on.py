"""A job whose process lives without a worker is stopped by the next worker, never on paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.db import Database
from services.jobs.claims import Claims
from services.jobs.models import JobStatus
from services.jobs.service import Jobs
from services.tenants.models import Actor

CLI = Actor.system("cli")
KIND = "training.dpo"


@pytest.mark.parametrize("queue", ["cluster", "training"])
def test_what_was_put_back_is_stopped_where_its_process_may_live(
    database: Database, tmp_path: Path, queue: str
) -> None:
    jobs = Jobs(database)
    first, second = (Claims(database, tmp_path / name) for name in ("a", "b"))
    job = jobs.enqueue(CLI, "acme", KIND, {}, queue=queue)
    assert first.claim(queue, [KIND]) is not None
    assert first.put_back(job.id)
    first.close()
    stopping = jobs.request_stop(CLI, job.id)
    if queue == "training":
        assert stopping.status is JobStatus.STOPPED
        second.close()
        return
    assert stopping.status is JobStatus.STOPPING
    assert second.claim(queue, [KIND]) is None
    [taken] = second.adopt([KIND])
    assert (taken.id, taken.status) == (job.id, JobStatus.STOPPING)
    second.close()


def test_what_never_began_is_stopped_at_once(database: Database) -> None:
    jobs = Jobs(database)
    job = jobs.enqueue(CLI, "acme", KIND, {}, queue="cluster")
    assert jobs.request_stop(CLI, job.id).status is JobStatus.STOPPED
