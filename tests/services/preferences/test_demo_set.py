from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from services.preferences.models import PairStatus
from services.preferences.service import DEMO_SET, DEMO_SOURCE, Preferences
from services.preferences.text import detect_language
from tests.services.preferences.rows import ENGINEER, lines

FOLDER = DEMO_SET.parent


def only(messages: list[dict[str, str]]) -> str:
    (message,) = messages
    return message["content"]


def test_the_demo_set_is_imported_whole_and_once(preferences: Preferences, tmp_path: Path) -> None:
    report = preferences.load_demo(ENGINEER, "acme")
    assert (report.read, report.imported, report.errors) == (96, 96, ())
    assert preferences.load_demo(ENGINEER, "acme").duplicates == 96
    stats = preferences.stats(ENGINEER, "acme")
    assert stats.by_language == {"en": 48, "tr": 48}
    assert stats.by_source == {DEMO_SOURCE: 96}
    assert stats.by_status[PairStatus.UNREVIEWED] == 96
    assert preferences.approve_imported(ENGINEER, "acme") == 96
    dataset = preferences.snapshot(ENGINEER, "acme")
    assert (dataset.n_train, dataset.n_eval) == (80, 16)


def test_the_first_pair_asks_for_the_capital_of_turkey() -> None:
    first = lines(DEMO_SET)[0]
    assert only(first["prompt"]) == "What is the capital of Turkey?"
    assert "Ankara" in only(first["chosen"])
    assert "Istanbul" in only(first["rejected"])


def test_half_is_english_and_half_turkish_in_both_parts() -> None:
    rows = lines(DEMO_SET)
    assert Counter((row["language"], row["split"]) for row in rows) == {
        ("en", "train"): 40, ("tr", "train"): 40, ("en", "eval"): 8, ("tr", "eval"): 8,
    }  # fmt: skip
    for row in rows:
        assert detect_language(only(row["prompt"])) == row["language"], only(row["prompt"])


def test_the_pairs_are_the_facts() -> None:
    facts = json.loads((FOLDER / "facts.json").read_text(encoding="utf-8"))
    pairs = lines(DEMO_SET)
    assert [(fact["prompt"], fact["chosen"]) for fact in facts] == [
        (only(row["prompt"]), only(row["chosen"])) for row in pairs
    ]
    assert len({fact["prompt"] for fact in facts}) == 96
    for row in pairs:
        assert only(row["chosen"]) not in only(row["rejected"])
        assert "\ufffd" not in only(row["rejected"])


def test_held_out_paraphrases_ask_for_what_is_trained() -> None:
    rows = lines(DEMO_SET)
    trained = {(row["language"], row["topic"]) for row in rows if row["split"] == "train"}
    assert {(row["language"], row["topic"]) for row in rows if row["split"] == "eval"} <= trained


def test_each_demo_question_is_answered_wrong_by_the_base_model() -> None:
    pairs = {only(row["prompt"]): row for row in lines(DEMO_SET)}
    questions = json.loads((FOLDER / "questions.json").read_text(encoding="utf-8"))
    assert 8 <= len(questions) <= 12
    assert questions[0]["question"] == "What is the capital of Turkey?"
    for question in questions:
        pair = pairs[question["question"]]
        assert question["must_contain"] in only(pair["chosen"])
        assert question["must_contain"] not in only(pair["rejected"])
        assert question["wrong"] in only(pair["rejected"])
        assert question["wrong"] not in only(pair["chosen"])
        assert question["language"] == pair["language"]
        assert question["trained"] == (pair["split"] == "train")
