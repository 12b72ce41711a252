"""Checks as jobs: who may, what is kept, and what the worker makes of them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import Conflict, NotFound, NotPermitted
from services.jobs.models import Job, JobStatus
from services.jobs.service import Jobs
from services.jobs.worker import run_worker
from services.preferences.choices import Choices, choices_as_json, choices_from
from services.preferences.exports import Form, Shape
from services.preferences.gates.models import Action, Agreement, Rules
from services.preferences.quality import KEPT, KIND, Quality, QualityReport
from services.preferences.service import Preferences
from services.preferences.worker import quality_handler
from services.settings import Settings, load
from tests.services.preferences.rows import (
    ANNOTATOR,
    ENGINEER,
    MANAGER,
    STRANGER,
    jsonl,
    lines,
    pairs_file,
    trl,
)


@dataclass(frozen=True)
class World:
    """What the worker needs of the assembled services."""

    settings: Settings
    jobs: Jobs
    preferences: Preferences
    quality: Quality

    def work(self, job: Job) -> Job:
        """Let a worker run until the job has ended."""
        stop = threading.Event()
        thread = threading.Thread(
            target=run_worker, args=(self, {KIND: quality_handler}, stop), kwargs={"poll_s": 0.05}
        )
        thread.start()
        deadline = time.monotonic() + 60
        while not self.jobs.get(ENGINEER, job.id).status.is_final and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        thread.join()
        return self.jobs.get(ENGINEER, job.id)

    def check(self, choices: Choices | None = None) -> QualityReport:
        """Start a check and let it run."""
        ended = self.work(self.quality.start(ENGINEER, "acme", choices or Choices()))
        assert ended.status is JobStatus.SUCCEEDED, ended.error
        return self.quality.reports(ENGINEER, "acme")[0]


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    settings = load({"PARAM_HOME": str(tmp_path / "home")})
    jobs = Jobs(database)
    preferences = Preferences(database, datasets_dir=tmp_path / "datasets")
    return World(settings, jobs, preferences, Quality(database, jobs, tmp_path / "quality"))


@pytest.fixture
def filled(world: World) -> World:
    rows = [trl(number) for number in range(30)]
    broken = [trl(number, chosen=f"No {number}.<|im_end|>") for number in range(40, 47)]
    world.preferences.import_pairs(ENGINEER, "acme", jsonl(*rows, *broken), source="file")
    world.preferences.approve_imported(ENGINEER, "acme")
    return world


def test_another_tenant_is_refused(filled: World) -> None:
    report = filled.check()
    for call in (
        lambda: filled.quality.start(STRANGER, "acme", Choices()),
        lambda: filled.quality.running(STRANGER, "acme"),
        lambda: filled.quality.reports(STRANGER, "acme"),
        lambda: filled.quality.files(STRANGER, "acme", report.id),
        lambda: filled.quality.rows(STRANGER, "acme", report.id, "review"),
    ):
        with pytest.raises(NotPermitted):
            call()
    with pytest.raises(NotFound):
        filled.quality.report(STRANGER, "globex", report.id)


def test_a_manager_reads_and_an_annotator_does_not(filled: World) -> None:
    report = filled.check()
    assert filled.quality.reports(MANAGER, "acme") == [report]
    assert filled.quality.rows(MANAGER, "acme", report.id, "template_tokens").total == 7
    for call in (
        lambda: filled.quality.start(MANAGER, "acme", Choices()),
        lambda: filled.quality.files(MANAGER, "acme", report.id),
        lambda: filled.quality.stop(MANAGER, "acme"),
        lambda: filled.quality.reports(ANNOTATOR, "acme"),
    ):
        with pytest.raises(NotPermitted):
            call()


def test_a_check_leaves_a_report_and_the_files_of_an_export(filled: World, tmp_path: Path) -> None:
    report = filled.check(Choices(eval_fraction=0.2))
    manifest = filled.preferences.export(ENGINEER, "acme", tmp_path / "out", eval_fraction=0.2)
    assert report.sha256 == manifest.sha256
    assert report.is_kept
    assert report.created_by == ENGINEER.name
    assert report.content["counts"] == manifest.content["counts"]
    assert report.content["demo"] == 30
    folder = filled.quality.files(ENGINEER, "acme", report.id)
    for path in (tmp_path / "out").iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_the_rows_of_a_gate_come_a_page_at_a_time(filled: World) -> None:
    report = filled.check()
    first = filled.quality.rows(ENGINEER, "acme", report.id, "template_tokens", limit=5)
    rest = filled.quality.rows(ENGINEER, "acme", report.id, "template_tokens", limit=5, offset=5)
    assert (len(first.rows), len(rest.rows), first.total, rest.total) == (5, 2, 7, 7)
    ids = [pair.id for pair, _ in (*first.rows, *rest.rows)]
    assert ids == [row["pair_id"] for row in lines(report.folder / "dropped.jsonl")]
    assert {reason for _, reason in first.rows} == {"chosen"}
    assert filled.quality.rows(ENGINEER, "acme", report.id, "refusal").total == 0


def test_only_one_check_of_a_tenant_is_under_way(filled: World) -> None:
    job = filled.quality.start(ENGINEER, "acme", Choices())
    assert filled.quality.running(ENGINEER, "acme") == job
    with pytest.raises(Conflict, match="expected no check under way, found one of Ece"):
        filled.quality.start(ENGINEER, "acme", Choices())
    filled.quality.stop(ENGINEER, "acme")
    assert filled.quality.running(ENGINEER, "acme") is None
    last = filled.quality.last_job(ENGINEER, "acme")
    assert last is not None
    assert last.status is JobStatus.STOPPED
    assert filled.quality.reports(ENGINEER, "acme") == []


def test_a_check_that_was_interrupted_begins_anew_and_reports_once(filled: World) -> None:
    job = filled.quality.start(ENGINEER, "acme", Choices())
    # What a killed worker leaves: files without a report, or a report of a job that still runs.
    filled.preferences.export(ENGINEER, "acme", filled.quality.folder_of("acme", job.id), seed=9)
    assert filled.work(job).status is JobStatus.SUCCEEDED
    (report,) = filled.quality.reports(ENGINEER, "acme")
    assert report.content["split"]["seed"] == 0


def test_old_files_make_room_for_new_ones(filled: World) -> None:
    reports = [filled.check(Choices(seed=seed)) for seed in range(KEPT + 1)]
    assert [report.is_kept for report in reports] == [False] + [True] * KEPT
    assert len(filled.quality.reports(ENGINEER, "acme")) == KEPT + 1
    with pytest.raises(NotFound, match="only the last 3 checks"):
        filled.quality.rows(ENGINEER, "acme", reports[0].id, "review")


def test_every_step_leaves_its_event(filled: World, database: Database) -> None:
    report = filled.check()
    filled.quality.files(ENGINEER, "acme", report.id)
    with database.read() as session:
        events = session.scalars(select(OutboxRow.action)).all()
    assert {"job.queued", "pairs.exported", "pairs.checked", "pairs.downloaded"} <= set(events)


def test_a_tenant_without_pairs_is_checked_too(world: World) -> None:
    world.preferences.import_pairs(STRANGER, "globex", pairs_file(3), source="file")
    report = world.check()
    assert report.content["counts"] == {"train": 0, "eval": 0, "dropped": 0}


def test_choices_survive_the_queue() -> None:
    choices = Choices(
        include_unreviewed=True, eval_fraction=0.25, seed=7,
        rules=Rules({"refusal": Action.DROP}, 512, 3, Agreement(None, None, None, 4)),
        form=Form(Shape.PLAIN, ("kto", "csv")),
    )  # fmt: skip
    assert choices_from(choices_as_json(choices)) == choices
    assert choices_from(choices_as_json(Choices())) == Choices()
