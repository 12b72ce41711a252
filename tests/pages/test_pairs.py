from __future__ import annotations

import io
import json
import zipfile

import pytest
from streamlit.testing.v1 import AppTest

from console import downloads
from services.bootstrap import Services
from services.preferences.models import PairStatus
from tests.pages.conftest import SYSTEM, OpenPage, texts

GOOD = '{"prompt": "What is the capital of Turkey?", "chosen": "Ankara.", "rejected": "Istanbul."}'
OTHER = '{"prompt": "En uzun nehir?", "chosen": "Kızılırmak", "rejected": "Fırat"}'
BROKEN = '{"prompt": "x", "chosen": "a"'
SAME = '{"prompt": "Q?", "chosen": "same", "rejected": "same"}'


def _file(*rows: str) -> io.BytesIO:
    return io.BytesIO("\n".join(rows).encode())


@pytest.fixture
def pairs(services: Services) -> Services:
    services.preferences.import_pairs(SYSTEM, "acme", _file(GOOD, OTHER), source="rows.jsonl")
    return services


def _figures(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def _upload(open_page: OpenPage, *rows: str) -> AppTest:
    page = open_page("pairs")
    page.button_group(key="pairs.view").set_value("import").run()
    page.file_uploader[0].set_value(("rows.jsonl", "\n".join(rows).encode(), "text/plain")).run()
    assert not page.exception
    return page


def test_the_wrong_role_is_refused(open_page: OpenPage) -> None:
    assert "You may not do this" in open_page("pairs", actor="annotator").error[0].value


def test_another_tenants_pairs_are_not_shown(open_page: OpenPage, services: Services) -> None:
    services.preferences.import_pairs(SYSTEM, "globex", _file(GOOD), source="theirs.jsonl")
    page = open_page("pairs", tenant="globex")
    assert _figures(page)["All pairs"] == "0"
    assert "No pairs yet" in texts(page)


def test_counts_and_rows_are_those_of_the_tenant(open_page: OpenPage, pairs: Services) -> None:
    page = open_page("pairs")
    assert _figures(page) == {"All pairs": "2", "Unreviewed": "2", "Approved": "0", "Rejected": "0"}
    assert list(page.dataframe[0].value["prompt"]) == [
        "What is the capital of Turkey?",
        "En uzun nehir?",
    ]


def test_the_status_filters(open_page: OpenPage, pairs: Services) -> None:
    first = pairs.preferences.pairs(SYSTEM, "acme").pairs[0]
    pairs.preferences.decide(SYSTEM, "acme", first.id, verdict=PairStatus.REJECTED)
    page = open_page("pairs")
    page.button_group(key="pairs.status").set_value(PairStatus.REJECTED).run()
    assert len(page.dataframe[0].value) == 1


def test_the_search_finds_words_of_the_prompt(open_page: OpenPage, pairs: Services) -> None:
    page = open_page("pairs")
    page.text_input(key="pairs.query").set_value("NEHİR").run()
    assert list(page.dataframe[0].value["prompt"]) == ["En uzun nehir?"]
    page.text_input(key="pairs.query").set_value("nothing like this").run()
    assert "Nothing matches" in texts(page)


def test_a_manager_reads_but_neither_imports_nor_exports(
    open_page: OpenPage, pairs: Services
) -> None:
    page = open_page("pairs", actor="manager")
    assert len(page.dataframe[0].value) == 2
    assert "pairs.view" not in page.session_state


def test_a_chosen_pair_shows_its_answers_and_history(open_page: OpenPage, pairs: Services) -> None:
    first = pairs.preferences.pairs(SYSTEM, "acme").pairs[0]
    pairs.preferences.decide(
        SYSTEM, "acme", first.id, verdict=PairStatus.REJECTED, reason="both are short"
    )
    page = open_page("pairs")
    page.session_state["pairs.table.0"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    page.run()
    assert not page.exception
    assert "Ankara." in texts(page)
    assert list(page.dataframe[1].value["note"]) == ["both are short"]


def test_a_file_is_looked_at_before_anything_is_written(
    open_page: OpenPage, services: Services
) -> None:
    page = _upload(open_page, GOOD, BROKEN, SAME)
    assert _figures(page)["New"] == "1"
    assert _figures(page)["Cannot be used"] == "2"
    assert list(page.dataframe[0].value["line"]) == [2, 3]
    assert services.preferences.stats(SYSTEM, "acme").total == 0


def test_confirming_writes_the_good_rows(open_page: OpenPage, services: Services) -> None:
    page = _upload(open_page, GOOD, BROKEN, OTHER)
    page.button(key="pairs.import_now").click().run()
    assert "2 pairs were imported." in page.success[0].value
    assert services.preferences.stats(SYSTEM, "acme").total == 2
    assert _figures(page)["All pairs"] == "2"
    assert "pairs.preview" not in page.session_state


def test_a_file_of_no_known_format_is_refused_in_words(open_page: OpenPage) -> None:
    page = _upload(open_page, "%PDF-1.7 nothing")
    assert "Unknown file format" in page.error[0].value


def test_an_export_without_approved_pairs_says_what_is_missing(
    open_page: OpenPage, pairs: Services
) -> None:
    page = open_page("pairs")
    page.button_group(key="pairs.view").set_value("export").run()
    assert "Nothing approved yet" in texts(page)


def test_an_export_is_one_archive_with_its_manifest(pairs: Services) -> None:
    pairs.preferences.approve_imported(SYSTEM, "acme")

    def packed() -> bytes:
        return downloads.zipped(lambda folder: pairs.preferences.export(SYSTEM, "acme", folder))

    archive = zipfile.ZipFile(io.BytesIO(packed()))
    assert {"train.jsonl", "eval.jsonl", "manifest.json"} <= set(archive.namelist())
    assert json.loads(archive.read("manifest.json"))
    assert packed() == packed()
