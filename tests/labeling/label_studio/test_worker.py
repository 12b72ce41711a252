"""The worker runs the job, and a job that names nothing fails with a sentence."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labeling.label_studio import sync
from labeling.label_studio.models import Selection
from labeling.label_studio.service import LabelStudio
from labeling.queue import ReviewQueue
from services import bootstrap
from services.bootstrap import Services
from services.db.revise import declared_tables
from services.jobs import hints
from services.jobs.models import JobStatus
from services.jobs.worker import run_worker
from services.settings import load
from services.tenants.models import Actor, Limits
from tests.fakes.label_studio import TOKEN, FakeLabelStudio, wait_until

SYSTEM = Actor.system("test")


@dataclass
class Installation:
    services: Services
    server: FakeLabelStudio


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with FakeLabelStudio() as server:
        variables = {
            "PARAM_HOME": str(tmp_path),
            "PARAM_LABEL_STUDIO_URL": server.url,
            "PARAM_LABEL_STUDIO_TOKEN": TOKEN,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        services = bootstrap.build(load(variables, directory=tmp_path))
        declared_tables().create_all(services.db.engine)
        limits = Limits(tps=1, rpm=1, daily_tokens=1)
        services.tenants.create(SYSTEM, "Acme", tenant_id="acme", limits=limits)
        services.preferences.load_demo(SYSTEM, "acme")
        yield Installation(services, server)
        services.close()


def test_the_worker_synchronises_what_was_asked_for(installed: Installation) -> None:
    services, stop = installed.services, threading.Event()
    queue = ReviewQueue(services.db, services.preferences)
    label_studio = LabelStudio(services.db, queue, services.jobs, services.settings)
    project, pairs = label_studio.push(SYSTEM, "acme", Selection(limit=4), title="Work")
    job = label_studio.ask(SYSTEM, "acme", project.id)
    lost = services.jobs.enqueue(SYSTEM, "acme", hints.LABEL_STUDIO, {"project": "not-there"})
    worker = threading.Thread(
        target=run_worker, args=(services, {hints.LABEL_STUDIO: sync.handler}, stop)
    )
    worker.start()
    try:
        for asked in (job, lost):
            wait_until(functools.partial(is_over, services, asked.id), at_most_s=60)
    finally:
        stop.set()
        worker.join()
    assert services.jobs.get(SYSTEM, job.id).status is JobStatus.SUCCEEDED
    assert len(installed.server.tasks) == pairs == 4
    missing = services.jobs.get(SYSTEM, lost.id)
    assert missing.status is JobStatus.FAILED
    assert "has no Label Studio project 'not-there'" in (missing.error or "")


def is_over(services: Services, job_id: str) -> bool:
    return services.jobs.get(SYSTEM, job_id).status.is_final
