from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from console import downloads
from services.bootstrap import Services
from services.jobs.models import JobStatus
from services.jobs.worker import run_worker
from services.preferences.choices import Choices, choices_from
from services.preferences.quality import KIND, QualityReport
from services.preferences.worker import quality_handler
from tests.pages.conftest import SYSTEM, OpenPage, texts
from tests.pages.seeds import job_is


def rows() -> list[dict[str, Any]]:
    sound = [
        {"prompt": f"How much is {n} and one?", "chosen": f"It is {n + 1}.", "rejected": f"{n}."}
        for n in range(60)
    ]
    broken = [
        {"prompt": f"<b>Say</b> {n}!", "chosen": f"{n}<|im_end|>", "rejected": "No."}
        for n in range(30)
    ]
    return sound + broken


@pytest.fixture
def pairs(services: Services) -> Services:
    text = "".join(json.dumps(row) + "\n" for row in rows())
    services.preferences.import_pairs(SYSTEM, "acme", io.BytesIO(text.encode()), source="made")
    services.preferences.approve_imported(SYSTEM, "acme", mark="bulk")
    return services


def work(services: Services, tenant_id: str = "acme") -> None:
    """Let a worker run until no check is under way."""
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker, args=(services, {KIND: quality_handler}, stop), kwargs={"poll_s": 0.05}
    )
    thread.start()
    deadline = time.monotonic() + 60
    while services.quality.running(SYSTEM, tenant_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join()


@pytest.fixture
def checked(pairs: Services) -> QualityReport:
    pairs.quality.start(SYSTEM, "acme", Choices())
    work(pairs)
    (report,) = pairs.quality.reports(SYSTEM, "acme")
    return report


def figures(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def test_the_wrong_role_is_refused(open_page: OpenPage) -> None:
    assert "You may not do this" in open_page("quality", actor="annotator").error[0].value


def test_another_tenants_checks_are_not_shown(open_page: OpenPage, services: Services) -> None:
    made = io.BytesIO(json.dumps(rows()[0]).encode())
    services.preferences.import_pairs(SYSTEM, "globex", made, source="theirs")
    services.preferences.approve_imported(SYSTEM, "globex")
    services.quality.start(SYSTEM, "globex", Choices())
    work(services, "globex")
    assert services.quality.reports(SYSTEM, "globex")
    page = open_page("quality", tenant="globex")
    assert "No pairs yet" in texts(page)
    assert not page.dataframe


def test_before_the_first_check_the_form_is_open(open_page: OpenPage, pairs: Services) -> None:
    page = open_page("quality")
    assert "Nothing was checked yet" in texts(page)
    assert page.button(key="quality.start")
    assert "An engineer prepares exports" in texts(open_page("quality", actor="manager"))


def test_the_form_queues_what_it_says(open_page: OpenPage, pairs: Services) -> None:
    page = open_page("quality")
    page.toggle(key="quality.all").set_value(True)
    page.slider(key="quality.held_out").set_value(20)
    page.number_input(key="quality.seed").set_value(3)
    page.multiselect(key="quality.also").set_value(["kto", "csv"])
    page.selectbox(key="quality.gate.refusal").select("Leave out")
    page.button(key="quality.start").click().run()
    assert not page.exception
    assert "The check is queued" in page.success[0].value
    job = pairs.quality.running(SYSTEM, "acme")
    assert job is not None
    choices = choices_from(dict(job.payload))
    assert (choices.include_unreviewed, choices.eval_fraction, choices.seed) == (True, 0.2, 3)
    assert choices.form.also == ("csv", "kto")
    assert {name: action.value for name, action in choices.rules.actions.items()} == {
        "refusal": "drop"
    }
    assert choices.rules.agreement is not None
    assert choices.rules.agreement.alpha is None
    assert page.button(key="quality.start").disabled
    page.button(key="quality.stop").click().run()
    assert pairs.quality.running(SYSTEM, "acme") is None


def test_a_failed_check_says_why(open_page: OpenPage, pairs: Services) -> None:
    job = pairs.quality.start(SYSTEM, "acme", Choices())
    job_is(pairs, job.id, JobStatus.FAILED, error="the disk is full; no data set was written")
    page = open_page("quality")
    assert "the disk is full" in texts(page)


def test_a_report_shows_counts_gates_and_rows(open_page: OpenPage, checked: QualityReport) -> None:
    page = open_page("quality")
    shown = figures(page)
    assert (shown["To train on"], shown["Held out"], shown["Left out"]) == (
        str(checked.content["counts"]["train"]), str(checked.content["counts"]["eval"]), "30",
    )  # fmt: skip
    gates, found = page.dataframe
    first = gates.value.iloc[0]
    assert (first["gate"], first["found"], first["does"]) == ("Template marks", "30", "Leave out")
    assert list(found.value["reason"]) == ["chosen"] * 25
    assert found.value["prompt"].iloc[0] == "<b>Say</b> 0!"
    assert "1 to 25 of 30" in texts(page)


def test_a_chosen_row_shows_the_pair(open_page: OpenPage, checked: QualityReport) -> None:
    page = open_page("quality")
    page.session_state["quality.rows.template_tokens.1"] = {
        "selection": {"rows": [0], "columns": [], "cells": []}
    }
    page.run()
    assert not page.exception
    assert "0<|im_end|>" in texts(page) or "&lt;|im_end|&gt;" in texts(page)


def test_the_files_are_those_of_the_check(checked: QualityReport, services: Services) -> None:
    import shutil

    packed = downloads.zipped(
        lambda folder: shutil.copytree(services.quality.files(SYSTEM, "acme", checked.id), folder)
    )
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        for path in checked.folder.iterdir():
            assert archive.read(path.name) == path.read_bytes()


def test_only_those_who_export_get_the_files(open_page: OpenPage, checked: QualityReport) -> None:
    assert open_page("quality").get("download_button")
    page = open_page("quality", actor="manager")
    assert not page.get("download_button")
    assert figures(page)["Left out"] == "30"


def test_a_set_that_teaches_length_is_doubted_in_words(
    open_page: OpenPage, services: Services
) -> None:
    made = [
        {"prompt": f"What is {n}?", "chosen": f"{n} is " + "very " * 20, "rejected": f"{n}."}
        for n in range(40)
    ]
    text = "".join(json.dumps(row) + "\n" for row in made)
    services.preferences.import_pairs(SYSTEM, "acme", io.BytesIO(text.encode()), source="made")
    services.preferences.approve_imported(SYSTEM, "acme", mark="bulk")
    services.quality.start(SYSTEM, "acme", Choices())
    work(services)
    page = open_page("quality", language="tr")
    assert "%100 kadarında uzun yanıt seçilmiş" in page.warning[0].value
    assert "Kalite ve dışa aktarma" in texts(page)
