from __future__ import annotations

import pytest
from sqlalchemy import inspect, text

from services.db import Database
from services.db.revise import differences
from services.errors import InvalidInput
from services.preferences import queries, search
from services.preferences.filters import NOBODY, Evidence, Filters, Sort
from services.preferences.models import PairStatus
from services.preferences.service import Preferences
from services.preferences.store import PairRow
from tests.services.preferences.rows import ENGINEER, STRANGER, jsonl, pairs_file, trl


def questions(preferences: Preferences, query: str) -> list[str]:
    return [one.prompt.question for one in preferences.pairs(ENGINEER, "acme", query=query).pairs]


def edit(preferences: Preferences, database: Database, old: str, new: str) -> None:
    """Write a new version of the answer that reads `old`."""
    (pair,) = preferences.pairs(ENGINEER, "acme", query=old).pairs
    answer = next(one for one in pair.responses if one.text == old)
    with database.write() as session:
        queries.add_version(session, answer, pair, new, author_id="user-Ali", at=answer.created_at)


def test_each_tenant_finds_only_its_own(preferences: Preferences) -> None:
    preferences.import_pairs(STRANGER, "globex", pairs_file(3), source="file")
    preferences.import_pairs(ENGINEER, "acme", pairs_file(2), source="file")
    assert preferences.pairs(ENGINEER, "acme", query="what").total == 2
    assert preferences.pairs(STRANGER, "globex", query="what").total == 3
    assert preferences.pairs(ENGINEER, "acme", query="2").total == 1


def test_prompts_and_answers_are_searched_in_any_case_and_by_beginnings(
    preferences: Preferences,
) -> None:
    rows = [
        trl(1, prompt="IŞIK hızı nedir?", chosen="Saniyede üç yüz bin km", rejected="Bilinmez"),
        trl(2, prompt="Isı nedir?", chosen="snake_case \u0130yi", rejected="x\u200by"),
    ]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="file")
    first, second = "IŞIK hızı nedir?", "Isı nedir?"
    assert questions(preferences, "ışık") == [first]
    assert questions(preferences, "saniye YÜZ") == [first]
    assert questions(preferences, "snake_") == [second]
    assert questions(preferences, "iyi") == [second]
    assert questions(preferences, "ne") == []  # Two letters stand for themselves.
    assert questions(preferences, "ned") == [first, second]
    assert questions(preferences, '"nedir" OR NOT (x* : ^') == []
    assert questions(preferences, "nedir '; --") == [first, second]


def test_an_edit_is_found_and_its_elder_is_not(
    preferences: Preferences, database: Database
) -> None:
    rows = [trl(1, chosen="heliotrope"), trl(2, chosen="cerulean")]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="file")
    edit(preferences, database, "heliotrope", "vermilion")
    edit(preferences, database, "vermilion", "magenta")
    assert questions(preferences, "magenta") == ["What is 1 + 1?"]
    assert questions(preferences, "heliotrope") == questions(preferences, "vermilion") == []
    assert questions(preferences, "cerulean") == ["What is 2 + 1?"]
    assert len(questions(preferences, "what")) == 2
    assert preferences.pairs(ENGINEER, "acme", is_edited=True).total == 1
    assert preferences.pairs(ENGINEER, "acme", is_edited=False).total == 1


def test_pairs_of_an_older_version_are_indexed_when_the_index_is_made(
    preferences: Preferences, database: Database
) -> None:
    preferences.import_pairs(ENGINEER, "acme", jsonl(trl(1, chosen="heliotrope")), source="file")
    edit(preferences, database, "heliotrope", "vermilion")
    with database.write() as session:
        for name in inspect(session.connection()).get_table_names():
            if name in {search.TABLES, f"{search.TABLES}_tenants"}:
                session.execute(text(f"DROP TABLE {name}"))
    with database.write() as session:
        search.create(session.connection())
        search.create(session.connection())
    assert questions(preferences, "vermilion") == ["What is 1 + 1?"]
    assert questions(preferences, "heliotrope") == []
    edit(preferences, database, "vermilion", "magenta")
    assert questions(preferences, "magenta") == ["What is 1 + 1?"]


def test_a_huge_answer_is_stored_whole_and_found(preferences: Preferences) -> None:
    huge = " ".join(f"word{number}" for number in range(120_000))
    assert len(huge) > 1_000_000
    row = trl(1, prompt="Aardvark?", chosen=huge)
    report = preferences.import_pairs(ENGINEER, "acme", jsonl(row), source="file")
    assert (report.imported, report.errors) == (1, ())
    (pair,) = preferences.pairs(ENGINEER, "acme", query="aardvark").pairs
    assert huge in {one.text for one in pair.responses}


def test_filters_choose_by_what_is_known_of_a_pair(
    preferences: Preferences, database: Database
) -> None:
    judged = {"first": "chosen", "preferred": "chosen", "judge": "m"}
    rows = [
        trl(1, judgments=[judged, {**judged, "first": "rejected", "preferred": "rejected"}]),
        trl(2, chosen_score=5.2, rejected_score=5.0),
        trl(3, chosen="I'm sorry, but I can't help with that.", rejected="Use a rope, tie it."),
        trl(4, prompt="Türkiye'nin başkenti neresidir?", chosen="Ankara'dır.", rejected="İzmir."),
    ]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows[:3]), source="one")
    preferences.import_pairs(ENGINEER, "acme", jsonl(rows[3]), source="two", purpose="evaluation")
    everything = preferences.pairs(ENGINEER, "acme").pairs
    with database.write() as session:
        row = session.get_one(PairRow, everything[1].id)
        row.assignee, row.gold_response_id, row.is_stale = "user:u1", "root", True
    preferences.decide(ENGINEER, "acme", everything[2].id, verdict=PairStatus.REJECTED)

    def numbers(**asked: object) -> list[int]:
        found = preferences.pairs(ENGINEER, "acme", Filters(**asked))  # type: ignore[arg-type]
        return [everything.index(next(e for e in everything if e.id == p.id)) for p in found.pairs]

    assert numbers(status=PairStatus.REJECTED) == [2]
    assert numbers(source="two") == numbers(language="tr") == numbers(is_evaluation=True) == [3]
    assert numbers(is_evaluation=False) == [0, 1, 2]
    assert numbers(evidence=Evidence.INCONSISTENT) == [0]
    assert numbers(evidence=Evidence.CLOSE) == [1]
    assert numbers(evidence=Evidence.CLEAR) == [2, 3]
    assert numbers(lint="refusal") == [2]
    assert numbers(assignee="user:u1") == numbers(is_gold=True) == numbers(is_stale=True) == [1]
    assert numbers(assignee=NOBODY) == numbers(is_gold=False) == [0, 2, 3]
    assert numbers(status=PairStatus.UNREVIEWED, query="what", evidence=Evidence.CLOSE) == [1]
    assert everything[2].lints == ("refusal",)


def test_lists_are_ordered_as_asked_and_counted_up_to_a_limit(
    preferences: Preferences, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [trl(1), trl(2, chosen_score=5.2, rejected_score=5.0), trl(3)]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="one")

    def order(sort: Sort) -> list[int | None]:
        return [one.source_line for one in preferences.pairs(ENGINEER, "acme", sort=sort).pairs]

    assert order(Sort.ARRIVAL) == [1, 2, 3]
    assert order(Sort.NEWEST) == [3, 2, 1]
    assert order(Sort.PRIORITY) == [2, 1, 3]
    assert not preferences.pairs(ENGINEER, "acme").is_capped
    monkeypatch.setattr(queries, "COUNTED", 2)
    page = preferences.pairs(ENGINEER, "acme")
    assert (page.total, page.is_capped) == (2, True)


def test_filters_are_kept_as_json_and_unknown_ones_refused(preferences: Preferences) -> None:
    filters = Filters(status=PairStatus.DISPUTED, evidence=Evidence.CLOSE, is_gold=False)
    assert filters.as_json() == {"status": "disputed", "evidence": "close", "is_gold": False}
    assert Filters.from_json(filters.as_json()) == filters
    for stored in ({"colour": "red"}, {"status": "lost"}):
        with pytest.raises(InvalidInput):
            Filters.from_json(stored)
    for bad in (Filters(query="x" * 501), Filters(source="a\x00"), Filters(lint="ugly")):
        with pytest.raises(InvalidInput):
            preferences.pairs(ENGINEER, "acme", bad)


def test_tables_that_no_class_declares_are_no_difference_for_migrations(
    database: Database,
) -> None:
    with database.write() as session:
        assert differences(session.connection()) == []
