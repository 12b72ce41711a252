from __future__ import annotations

import io
import json
from contextlib import ExitStack

import pytest
from sqlalchemy import select

from services.db import Database
from services.errors import InvalidInput
from services.preferences.evidence import INCONSISTENT, PLAIN, REMARKABLE, UNDECIDED, lottery
from services.preferences.models import Pair
from services.preferences.self_instruct import models_of, source_of
from services.preferences.service import Preferences
from services.preferences.store import PairRow
from tests.conftest import SHARED_DATA, require
from tests.services.preferences.rows import ENGINEER, jsonl, trl

PREDICTIONS = sorted(SHARED_DATA.glob("self-instruct-predictions-*.jsonl"))


def pairs(preferences: Preferences) -> list[Pair]:
    return list(preferences.pairs(ENGINEER, "acme", limit=1_000).pairs)


def generators(pair: Pair) -> set[str]:
    return {one.extra["generator"] for one in pair.responses}


def row(*responses: object, **more: object) -> dict[str, object]:
    return {"prompt": "Sky?", "responses": list(responses), **more}


def test_each_two_candidates_are_a_pair_and_the_higher_score_is_preferred(
    preferences: Preferences,
) -> None:
    answers = [
        {"text": "Blue.", "generator": "a", "score": 9},
        {"text": "Green.", "generator": "b", "score": 4},
        {"text": " Blue.\n", "generator": "c"},
        {"text": "Red.", "generator": "d"},
    ]
    report = preferences.import_pairs(
        ENGINEER, "acme", jsonl(row(*answers, metadata={"set": 1})), source="file"
    )
    assert (report.format, report.read, report.imported) == ("candidates", 3, 3)
    found = pairs(preferences)
    assert [generators(one) for one in found] == [{"a, c", "b"}, {"a, c", "d"}, {"b", "d"}]
    preferred = found[0].response(found[0].imported_preference)
    assert preferred is not None
    assert preferred.text == "Blue."
    assert [one.imported_preference for one in found[1:]] == [None, None]
    assert {one.extra["set"] for one in found} == {1}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row({"text": "a"}), "at least two different responses, found 1 of 1"),
        (row({"text": "a"}, {"text": "a "}), "at least two different responses, found 1 of 2"),
        (row(*({"text": str(n)} for n in range(9))), "at most 8 different responses, found 9"),
        (row({"text": "a"}, {"texts": "b"}), "the fields text, found no field 'text'"),
        (row({"text": "a"}, {"text": "b", "score": "9"}), "a number in 'score', found a text"),
    ],
)
def test_candidates_that_make_no_pair_are_named(
    preferences: Preferences, bad: object, reason: str
) -> None:
    good = row({"text": "a"}, {"text": "b"})
    report = preferences.import_pairs(ENGINEER, "acme", jsonl(good, bad), source="file")
    assert (report.imported, report.rejected) == (1, 1)
    (error,) = report.errors
    assert error.line == 2
    assert reason in error.reason


def test_predictions_of_several_models_pair_up_by_prompt(preferences: Preferences) -> None:
    files = {
        "ada": [{"prompt": "Q1", "response": " A1", "target": "T"}, {"prompt": "Q2", "response": "A2"}],
        "bob": [{"prompt": "Q1", "response": "B1"}, {"prompt": "Q2", "response": ""}, "broken"],
    }  # fmt: skip
    report = preferences.import_pairs(
        ENGINEER, "acme", {name: jsonl(*rows) for name, rows in files.items()},
        source="set", purpose="evaluation",
    )  # fmt: skip
    assert (report.format, report.imported, report.rejected) == ("self-instruct", 1, 3)
    reasons = {error.line: error.reason for error in report.errors}
    assert "bob: expected an object" in reasons[3]
    (one,) = pairs(preferences)
    assert {answer.text for answer in one.responses} == {"A1", "B1"}
    assert generators(one) == {"ada", "bob"}
    assert (one.is_evaluation, one.extra, one.imported_preference) == (
        True,
        {"reference": "T"},
        None,
    )


def test_one_file_of_predictions_alone_makes_no_pairs(preferences: Preferences) -> None:
    file = jsonl({"prompt": "Q1", "response": "A1"})
    with pytest.raises(InvalidInput, match="at least two files"):
        preferences.import_pairs(ENGINEER, "acme", file, source="file")
    several = {"a": jsonl(trl(1)), "b": jsonl(trl(2))}
    with pytest.raises(InvalidInput, match="expected the format self-instruct, found trl"):
        preferences.import_pairs(ENGINEER, "acme", several, source="file", format="trl")


def test_files_are_named_after_their_models() -> None:
    names = ["set-predictions-ada.jsonl", "set-predictions-bob.jsonl.gz"]
    assert models_of(names) == ["ada", "bob"]
    assert source_of(names) == "set-predictions"
    assert models_of(["x.jsonl", "x.jsonl"]) == ["x.jsonl", "x.jsonl (2)"]
    assert source_of(["one.jsonl"]) == "one.jsonl"


def test_self_instruct_becomes_an_evaluation_set(preferences: Preferences) -> None:
    require(len(PREDICTIONS) == 4, "shared self-instruct data")
    with ExitStack() as opened:
        files = [opened.enter_context(path.open("rb")) for path in PREDICTIONS]
        models = models_of([path.name for path in PREDICTIONS])
        report = preferences.import_pairs(
            ENGINEER, "acme", dict(zip(models, files, strict=True)), source="self-instruct",
            purpose="evaluation",
        )  # fmt: skip
    assert set(models) == {
        "davinci-self-instruct", "davinci-t0-ft", "text-davinci-001", "text-davinci-003",
    }  # fmt: skip
    assert report.imported > 1_200
    assert all(
        "empty" in error.reason or "two different" in error.reason for error in report.errors
    )
    assert preferences.pairs(ENGINEER, "acme", is_evaluation=True).total == report.imported


def test_an_evaluation_set_claims_prompts_that_are_here_already(preferences: Preferences) -> None:
    preferences.import_pairs(ENGINEER, "acme", jsonl(trl(1), trl(2)), source="train")
    report = preferences.import_pairs(
        ENGINEER, "acme", jsonl(trl(1)), source="eval", purpose="evaluation"
    )
    assert (report.imported, report.duplicates) == (0, 1)
    assert [one.is_evaluation for one in pairs(preferences)] == [True, False]
    with pytest.raises(InvalidInput, match="purpose"):
        preferences.import_pairs(ENGINEER, "acme", jsonl(trl(3)), source="x", purpose="fun")  # type: ignore[arg-type]


def judged(first: str, preferred: str, **more: object) -> dict[str, object]:
    return {"first": first, "preferred": preferred, "judge": "m1", **more}


def test_judgments_name_the_responses_and_set_the_priority(
    preferences: Preferences, database: Database
) -> None:
    scores = {"chosen": {"accuracy": 9, "clarity": 7.5}, "rejected": {"accuracy": 2}}
    rows = [
        trl(1, judgments=[judged("chosen", "chosen"), judged("rejected", "rejected")]),
        trl(2, judgments=[judged("rejected", "chosen", scores=scores, reason="r", revision="v2")]),
        trl(3, chosen_score=5.1, rejected_score=5),
        trl(4, chosen="I'm sorry, but I can't help with that.", rejected="Use a rope and tie it."),
        trl(5),
    ]
    report = preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="file")
    assert report.errors == ()
    with database.read() as session:
        stored = session.scalars(select(PairRow).order_by(PairRow.position)).all()
    priorities = [INCONSISTENT, PLAIN, UNDECIDED, REMARKABLE, PLAIN]
    assert [one.priority for one in stored] == priorities
    assert [one.lottery for one in stored] == [lottery(one.id) for one in stored]
    second = preferences.pair(ENGINEER, "acme", stored[1].id)
    assert second.history is not None
    (judgment,) = second.history.judgments
    chosen = second.response(second.imported_preference)
    assert chosen is not None
    (rejected,) = (one for one in second.responses if one.id != chosen.id)
    assert judgment.preferred_response_id == chosen.id
    assert (judgment.first_response_id, judgment.second_response_id) == (rejected.id, chosen.id)
    assert judgment.scores == {
        chosen.id: {"accuracy": 9, "clarity": 7.5}, rejected.id: {"accuracy": 2},
    }  # fmt: skip
    assert (judgment.judge, judgment.revision, judgment.reason) == ("m1", "v2", "r")


@pytest.mark.parametrize(
    ("judgment", "reason"),
    [
        ({}, "no field 'first'"),
        (judged("left", "chosen"), "'chosen' or 'rejected' in 'judgments[0].first'"),
        (judged("chosen", "A"), "'chosen', 'rejected' or 'tie' in 'judgments[0].preferred'"),
        (judged("chosen", "tie", scores={"chosen": {"beauty": 1}}), "found 'beauty'"),
        (judged("chosen", "tie", scores={"chosen": {"clarity": 11}}), "from 0 to 10"),
        (judged("chosen", "tie", scores={"chosen": {"clarity": True}}), "from 0 to 10"),
        ("no", "expected an object"),
    ],
)
def test_judgments_that_cannot_be_read_are_named(
    preferences: Preferences, judgment: object, reason: str
) -> None:
    file = io.BytesIO(json.dumps(trl(1, judgments=[judgment])).encode())
    report = preferences.import_pairs(ENGINEER, "acme", file, source="file")
    assert (report.imported, report.rejected) == (0, 1)
    assert reason in report.errors[0].reason
