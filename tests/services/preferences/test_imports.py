from __future__ import annotations

import gzip
import io
import json

import pytest
from sqlalchemy import event, func, select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import InvalidInput, StorageFull, TooLarge, UnknownFormat
from services.preferences.models import PairStatus
from services.preferences.service import Preferences
from services.preferences.store import ImportRow, PairRow, PromptRow, ResponseRow
from tests.conftest import SHARED_DATA, require
from tests.services.preferences.rows import ENGINEER, jsonl, pairs_file, trl

HH = SHARED_DATA / "hh-rlhf-harmless-test.jsonl.gz"


def everything(database: Database) -> int:
    """Rows in all tables that an import writes."""
    with database.read() as session:
        tables = (PairRow, PromptRow, ResponseRow, ImportRow, OutboxRow)
        return sum(session.scalar(select(func.count()).select_from(one)) or 0 for one in tables)


def test_good_rows_are_taken_and_bad_ones_named(
    preferences: Preferences, database: Database
) -> None:
    file = jsonl(trl(1), trl(2, chosen=""), trl(3), {"prompt": "x"}, trl(1))
    report = preferences.import_pairs(ENGINEER, "acme", file, source="file.jsonl")
    assert report.as_json() == {
        "read": 5,
        "imported": 2,
        "duplicates": 1,
        "rejected": 2,
        "errors": [
            {"line": 2, "reason": "expected a text in 'chosen', found an empty one"},
            {"line": 4, "reason": "expected the fields chosen, rejected, found no field 'chosen'"},
        ],
        "contradictions": [],
    }
    page = preferences.pairs(ENGINEER, "acme")
    assert [pair.prompt.question for pair in page.pairs] == ["What is 1 + 1?", "What is 3 + 1?"]
    assert [pair.source_line for pair in page.pairs] == [1, 3]
    with database.read() as session:
        (outbox,) = session.scalars(select(OutboxRow)).all()
        entry = session.scalars(select(ImportRow)).one()
    assert outbox.action == "pairs.imported"
    assert outbox.subject == f"import:{entry.id}"
    assert (entry.read, entry.imported, entry.duplicates, entry.rejected) == (5, 2, 1, 2)


def test_a_pair_comes_back_exactly_as_it_was(preferences: Preferences) -> None:
    row = {
        "prompt": [{"role": "user", "content": " Cafe\u0301? \n"}],
        "chosen": [{"role": "assistant", "content": "  Yes — \U0001f600\n"}],
        "rejected": "No.\t",
        "chosen_score": 8.5,
        "metadata": {"run": {"n": 4}},
    }
    preferences.import_pairs(ENGINEER, "acme", jsonl(row), source="file")
    (pair,) = preferences.pairs(ENGINEER, "acme").pairs
    assert pair.prompt.turns[0].content == " Cafe\u0301? \n"
    assert {one.text for one in pair.responses} == {"  Yes — \U0001f600\n", "No.\t"}
    preferred = pair.response(pair.imported_preference)
    assert preferred is not None
    assert preferred.text == "  Yes — \U0001f600\n"
    assert preferred.extra == {"score": 8.5}
    assert pair.extra == {"run": {"n": 4}}
    assert pair.status is PairStatus.UNREVIEWED


def test_importing_twice_doubles_nothing(preferences: Preferences) -> None:
    for expected in ((4, 0), (0, 4)):
        report = preferences.import_pairs(ENGINEER, "acme", pairs_file(4), source="file")
        assert (report.imported, report.duplicates) == expected
    assert preferences.stats(ENGINEER, "acme").total == 4


def test_swapped_sides_are_a_duplicate_that_contradicts(preferences: Preferences) -> None:
    row = trl(1)
    swapped = {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
    first = preferences.import_pairs(ENGINEER, "acme", jsonl(row, swapped), source="file")
    assert (first.imported, first.duplicates) == (1, 1)
    assert [error.line for error in first.contradictions] == [2]
    assert "that line 1 has, found the opposite" in first.contradictions[0].reason
    second = preferences.import_pairs(ENGINEER, "acme", jsonl(swapped), source="file")
    assert "that the stored pair has" in second.contradictions[0].reason
    composed = trl(2, prompt="Caf\u00e9?")
    decomposed = trl(2, prompt=" Cafe\u0301?\n")
    third = preferences.import_pairs(ENGINEER, "acme", jsonl(composed, decomposed), source="f")
    assert (third.imported, third.duplicates, third.contradictions) == (1, 1, ())


def test_the_same_prompt_is_one_prompt(preferences: Preferences) -> None:
    rows = [trl(1), trl(1, rejected="Green."), trl(1, rejected="Red.")]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows[:2]), source="file")
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="file")
    pairs = preferences.pairs(ENGINEER, "acme").pairs
    assert len(pairs) == 3
    assert len({pair.prompt.id for pair in pairs}) == 1


def test_strict_takes_all_or_nothing(preferences: Preferences, database: Database) -> None:
    before = everything(database)
    file = jsonl(trl(1), trl(2, chosen=""))
    report = preferences.import_pairs(ENGINEER, "acme", file, source="file", strict=True)
    assert (report.read, report.imported, report.rejected) == (2, 0, 1)
    assert everything(database) == before
    good = preferences.import_pairs(ENGINEER, "acme", jsonl(trl(1)), source="file", strict=True)
    assert good.imported == 1


def test_a_dry_run_counts_and_writes_nothing(preferences: Preferences, database: Database) -> None:
    preferences.import_pairs(ENGINEER, "acme", jsonl(trl(1)), source="file")
    before = everything(database)
    file = jsonl(trl(1), trl(2), trl(3, chosen=""))
    report = preferences.import_pairs(ENGINEER, "acme", file, source="file", dry_run=True)
    assert (report.read, report.imported, report.duplicates, report.rejected) == (3, 1, 1, 1)
    assert everything(database) == before


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"what is this", UnknownFormat),
        (
            b'[{"instruction": "a", "output_1": "b", "output_2": "c", "preference": 1}, {',
            InvalidInput,
        ),
        (b"\x1f\x8b\x08\x00broken", InvalidInput),
        (b"x" * 2_000, TooLarge),
    ],
)
def test_a_refused_file_leaves_nothing(
    database: Database, preferences: Preferences, data: bytes, error: type[Exception]
) -> None:
    small = Preferences(database, datasets_dir=preferences._datasets._root, max_bytes=1_000)
    with pytest.raises(error):
        small.import_pairs(ENGINEER, "acme", io.BytesIO(data), source="file")
    assert everything(database) == 0


def test_a_full_disk_in_the_middle_leaves_nothing(
    preferences: Preferences, database: Database
) -> None:
    if not database.is_sqlite:
        assert everything(database) == 0
        return
    preferences.import_pairs(ENGINEER, "acme", jsonl(trl(10**6)), source="file")
    before = everything(database)

    def shrink(connection: object, *_: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
        connection.execute(f"PRAGMA max_page_count={pages + 20}").close()  # type: ignore[attr-defined]

    event.listen(database.engine, "connect", shrink)
    database.close()
    with pytest.raises(StorageFull):
        preferences.import_pairs(ENGINEER, "acme", pairs_file(2_000), source="file")
    assert everything(database) == before


def test_languages_are_told_and_filtered(preferences: Preferences) -> None:
    rows = [trl(1), trl(2, prompt="Türkiye'nin başkenti neresidir?"), trl(3, prompt="1+1=")]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="file")
    stats = preferences.stats(ENGINEER, "acme")
    assert stats.by_language == {"en": 1, "tr": 1, "other": 1}
    assert preferences.pairs(ENGINEER, "acme", language="tr").total == 1


def test_search_takes_all_words_and_any_case(preferences: Preferences) -> None:
    rows = [trl(1, prompt="İstanbul 100% nerede?"), trl(2, prompt="Ankara nerede?")]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="file")
    found = preferences.pairs(ENGINEER, "acme", query="NEREDE istanbul")
    assert [pair.prompt.question for pair in found.pairs] == ["İstanbul 100% nerede?"]
    assert preferences.pairs(ENGINEER, "acme", query="100%").total == 1
    assert preferences.pairs(ENGINEER, "acme", query="%").total == 1
    assert preferences.pairs(ENGINEER, "acme", query="nerede", limit=1, offset=1).total == 2


def test_the_ids_of_answers_say_nothing_of_the_preference(preferences: Preferences) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(400), source="file")
    pairs = preferences.pairs(ENGINEER, "acme", limit=1_000).pairs
    first = sum(pair.imported_preference == pair.responses[0].id for pair in pairs)
    # 400 fair throws fall outside of this once in ten thousand runs; the texts are fixed.
    assert 160 < first < 240


def test_a_decision_names_ids_and_keeps_its_past(preferences: Preferences) -> None:
    preferences.import_pairs(ENGINEER, "acme", jsonl(trl(1)), source="file")
    (pair,) = preferences.pairs(ENGINEER, "acme").pairs
    one, other = pair.responses
    preferences.decide(
        ENGINEER, "acme", pair.id, verdict=PairStatus.APPROVED, chosen_response_id=one.id
    )
    preferences.decide(ENGINEER, "acme", pair.id, verdict=PairStatus.REJECTED, reason="off topic")
    preferences.decide(
        ENGINEER, "acme", pair.id, verdict=PairStatus.APPROVED, chosen_response_id=other.id
    )
    found = preferences.pair(ENGINEER, "acme", pair.id)
    assert found.chosen_response_id == other.id
    assert found.history is not None
    assert [
        (entry.number, entry.verdict.value, entry.chosen_response_id, entry.rejected_response_id)
        for entry in found.history.decisions
    ] == [
        (1, "approved", one.id, other.id),
        (2, "rejected", None, None),
        (3, "approved", other.id, one.id),
    ]
    with pytest.raises(InvalidInput, match="one of its two current responses, found None"):
        preferences.decide(ENGINEER, "acme", pair.id, verdict=PairStatus.APPROVED)
    with pytest.raises(InvalidInput, match="no chosen response"):
        preferences.decide(
            ENGINEER, "acme", pair.id, verdict=PairStatus.REJECTED, chosen_response_id=one.id
        )


def test_approving_as_imported_marks_every_decision(preferences: Preferences) -> None:
    tie = {"instruction": "Sky?", "output_1": "a", "output_2": "b", "preference": None}
    preferences.import_pairs(ENGINEER, "acme", jsonl(tie), source="ties", format="alpaca-eval")
    preferences.import_pairs(ENGINEER, "acme", pairs_file(3), source="file")
    first = preferences.pairs(ENGINEER, "acme", source="file").pairs[0]
    preferences.decide(ENGINEER, "acme", first.id, verdict=PairStatus.REJECTED)
    assert preferences.approve_imported(ENGINEER, "acme", mark="demo") == 2
    assert preferences.approve_imported(ENGINEER, "acme", mark="demo") == 0
    stats = preferences.stats(ENGINEER, "acme")
    assert (stats.demo, stats.by_status[PairStatus.APPROVED]) == (2, 2)
    assert stats.by_status[PairStatus.UNREVIEWED] == 1
    for pair in preferences.pairs(ENGINEER, "acme", status=PairStatus.APPROVED).pairs:
        assert pair.chosen_response_id == pair.imported_preference


def test_hh_rlhf_is_imported_completely(preferences: Preferences) -> None:
    require(HH.exists(), "shared HH-RLHF data")
    with HH.open("rb") as file:
        report = preferences.import_pairs(ENGINEER, "acme", file, source=HH.name)
    assert report.format == "hh"
    assert report.as_json() == {
        "read": 2312, "imported": 2312, "duplicates": 0, "rejected": 0, "errors": [],
        "contradictions": [],
    }  # fmt: skip
    with gzip.open(HH, "rt", encoding="utf-8") as lines:
        wanted = [json.loads(line) for line in lines]
    page = preferences.pairs(ENGINEER, "acme", limit=1_000)
    assert page.total == 2312
    assert sum(len(pair.prompt.turns) > 1 for pair in page.pairs) > 600
    for pair, row in zip(page.pairs, wanted, strict=False):
        roles = [turn.role for turn in pair.prompt.turns]
        assert roles == (["user", "assistant"] * len(roles))[: len(roles)]
        assert roles[-1] == "user"
        chosen = pair.response(pair.imported_preference)
        assert chosen is not None
        assert row["chosen"].rstrip().endswith(chosen.text)
