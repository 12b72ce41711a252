from __future__ import annotations

import io

import pytest
from streamlit.testing.v1 import AppTest

from services.bootstrap import Services
from services.preferences.bulk import Kind
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
    assert _figures(page) == {
        "All pairs": "2", "Unreviewed": "2", "Disputed": "0", "Approved": "0", "Rejected": "0",
    }  # fmt: skip
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


def test_a_manager_reads_but_neither_imports_nor_changes(
    open_page: OpenPage, pairs: Services
) -> None:
    page = open_page("pairs", actor="manager")
    assert len(page.dataframe[0].value) == 2
    assert "pairs.view" not in page.session_state
    assert "pairs.bulk" not in page.session_state


def test_a_chosen_pair_shows_its_answers_and_history(open_page: OpenPage, pairs: Services) -> None:
    first = pairs.preferences.pairs(SYSTEM, "acme").pairs[0]
    pairs.preferences.decide(
        SYSTEM, "acme", first.id, verdict=PairStatus.REJECTED, reason="both are short"
    )
    page = open_page("pairs")
    table = f"pairs.table.0.{first.id}.2"
    page.session_state[table] = {"selection": {"rows": [0], "columns": [], "cells": []}}
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
    assert page.button(key="pairs.import_now").disabled
    page.checkbox(key="pairs.leave_out").check().run()
    page.button(key="pairs.import_now").click().run()
    assert "2 pairs were imported." in page.success[0].value
    assert services.preferences.stats(SYSTEM, "acme").total == 2
    assert _figures(page)["All pairs"] == "2"
    assert "pairs.preview" not in page.session_state


def test_a_file_of_no_known_format_is_refused_in_words(open_page: OpenPage) -> None:
    page = _upload(open_page, "%PDF-1.7 nothing")
    assert "Unknown file format" in page.error[0].value


def test_the_first_rows_are_shown_as_they_will_stand(open_page: OpenPage) -> None:
    nasty = '{"prompt": "<script>alert(1)</script>", "chosen": "\\u001b[31mred", "rejected": "b"}'
    shown = texts(_upload(open_page, nasty, GOOD))
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "U+001B" in shown
    assert "Preferred by the import" in shown


def test_files_of_predictions_are_taken_together_for_evaluation(
    open_page: OpenPage, services: Services
) -> None:
    page = open_page("pairs")
    page.button_group(key="pairs.view").set_value("import").run()
    rows = [
        (f"predictions-{model}.jsonl", f'{{"prompt": "Q?", "response": "{model}!"}}'.encode(), "")
        for model in ("ada", "bob", "cem")
    ]
    page.file_uploader[0].set_value(rows).run()
    page.selectbox(key="pairs.purpose").set_value("evaluation").run()
    page.button(key="pairs.import_now").click().run()
    assert not page.exception
    found = services.preferences.pairs(SYSTEM, "acme", is_evaluation=True).pairs
    assert len(found) == 3
    assert {one.source for one in found} == {"predictions"}
    names = {answer.extra["generator"] for one in found for answer in one.responses}
    assert names == {"ada", "bob", "cem"}


def test_filters_and_order_are_kept_under_a_name(open_page: OpenPage, pairs: Services) -> None:
    page = open_page("pairs")
    page.selectbox(key="pairs.language").set_value("tr").run()
    assert list(page.dataframe[0].value["prompt"]) == ["En uzun nehir?"]
    page.text_input(key="pairs.view_name").set_value("Turkish *ones*").run()
    page.checkbox(key="pairs.view_shared").check().run()
    page.button(key="pairs.save_view").click().run()
    assert "was saved" in page.success[0].value
    page.button(key="pairs.clear").click().run()
    assert len(page.dataframe[0].value) == 2
    other = open_page("pairs", actor="manager")
    (view,) = [one for one in other.button if (one.key or "").startswith("pairs.view.")]
    view.click().run()
    assert list(other.dataframe[0].value["prompt"]) == ["En uzun nehir?"]
    assert not [one for one in other.button if (one.key or "").startswith("pairs.forget.")]


def test_a_change_of_many_is_counted_asked_done_and_taken_back(
    open_page: OpenPage, pairs: Services
) -> None:
    page = open_page("pairs")
    page.toggle(key="pairs.bulk").set_value(True).run()
    page.selectbox(key="pairs.bulk_kind").set_value(Kind.REJECT).run()
    assert "2 pairs of 2 would change" in texts(page)
    page.text_input(key="pairs.bulk_reason").set_value("off topic").run()
    page.button(key="pairs.bulk_ask").click().run()
    assert pairs.preferences.counts(SYSTEM, "acme")[PairStatus.REJECTED] == 0
    page.button(key="pairs.bulk_run").click().run()
    assert "2 pairs were changed." in page.success[0].value
    assert pairs.preferences.counts(SYSTEM, "acme")[PairStatus.REJECTED] == 2
    (undo,) = [one for one in page.button if (one.key or "").startswith("pairs.bulk_undo.")]
    undo.click().run()
    assert "Taken back on 2 pairs." in page.success[0].value
    assert pairs.preferences.counts(SYSTEM, "acme")[PairStatus.UNREVIEWED] == 2


def test_a_change_that_was_counted_otherwise_is_asked_again(
    open_page: OpenPage, pairs: Services
) -> None:
    page = open_page("pairs")
    page.toggle(key="pairs.bulk").set_value(True).run()
    page.selectbox(key="pairs.bulk_kind").set_value(Kind.REJECT).run()
    page.button(key="pairs.bulk_ask").click().run()
    first = pairs.preferences.pairs(SYSTEM, "acme").pairs[0]
    pairs.preferences.decide(SYSTEM, "acme", first.id, verdict=PairStatus.REJECTED)
    page.button(key="pairs.bulk_run").click().run()
    assert "look again" in page.error[0].value
    assert pairs.preferences.counts(SYSTEM, "acme")[PairStatus.REJECTED] == 1
