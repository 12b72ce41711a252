"""What the gates do to a whole export, on both databases."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from services.db import Database, new_id
from services.errors import Conflict
from services.preferences import queries
from services.preferences.bulk import Bulk, Kind
from services.preferences.exports import Form, Shape
from services.preferences.filters import Filters
from services.preferences.gates.models import Action, Agreement, Rules
from services.preferences.models import Manifest, Pair, PairStatus
from services.preferences.service import Preferences
from services.preferences.staging import FILES
from services.preferences.store import ReviewRow
from tests.services.preferences.rows import ENGINEER, jsonl, lines, trl

Export = Callable[..., Manifest]


@pytest.fixture
def export(preferences: Preferences, tmp_path: Path) -> Export:
    """Import rows, approve them as imported or by a person, and export."""

    def run(*rows: dict[str, Any], by_person: bool = True, **choices: Any) -> Manifest:
        preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="file")
        for pair in preferences.pairs(ENGINEER, "acme", status=PairStatus.UNREVIEWED).pairs:
            if by_person:
                approve(preferences, pair)
        if not by_person:
            preferences.approve_imported(ENGINEER, "acme")
        return preferences.export(ENGINEER, "acme", tmp_path / "out", **choices)

    return run


def approve(preferences: Preferences, pair: Pair, *, other: bool = False) -> None:
    chosen = next(
        response.id
        for response in pair.responses
        if (response.id == pair.imported_preference) is not other
    )
    preferences.decide(
        ENGINEER, "acme", pair.id, verdict=PairStatus.APPROVED, chosen_response_id=chosen
    )


def dropped(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in lines(folder / "dropped.jsonl"):
        found[row["gate"]] = found.get(row["gate"], 0) + 1
    return found


def gate(manifest: Manifest, name: str) -> dict[str, Any]:
    return next(one for one in manifest.content["gates"] if one["gate"] == name)


def row(question: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {"prompt": question, "chosen": chosen, "rejected": rejected, **more}


def test_each_dropped_pair_is_told_with_its_gate_and_counted(export: Export) -> None:
    manifest = export(
        trl(1),
        row("Say it.", "Yes.<|im_end|>", "No, never."),
        row("Which key?", "It is AKIA" + "IOSFODNN7EXAMPLE.", "I do not know of any."),
        row("What went wrong?", "Internal server error", "The disk was full."),
    )
    assert dropped(manifest.folder) == {"template_tokens": 1, "secrets": 1, "error_text": 1}
    assert manifest.content["counts"] == {"train": 1, "eval": 0, "dropped": 3}
    assert gate(manifest, "secrets")["pairs"] == 1
    assert "AKIA" not in (manifest.folder / "dropped.jsonl").read_text()


def test_a_gate_can_be_told_to_warn_or_to_be_silent(export: Export) -> None:
    rules = Rules({"template_tokens": Action.WARN, "error_text": Action.OFF})
    manifest = export(
        row("Say it.", "Yes.<|im_end|>", "No, never."),
        row("What went wrong?", "Internal server error", "The disk was full."),
        rules=rules,
    )
    assert manifest.n_dropped == 0
    (warning,) = lines(manifest.folder / "warned.jsonl")
    assert (warning["gate"], warning["reason"]) == ("template_tokens", "chosen")
    assert gate(manifest, "error_text") == {
        "gate": "error_text", "action": "off", "of_set": False, "pairs": 0, "is_checked": False,
    }  # fmt: skip


def test_opposite_decisions_on_one_prompt_drop_both(
    preferences: Preferences, export: Export, tmp_path: Path
) -> None:
    export(trl(1, chosen="Left.", rejected="Right."), trl(1, chosen="Right.", rejected="Up."))
    first, _ = preferences.pairs(ENGINEER, "acme").pairs
    manifest = export(trl(1, chosen="Up.", rejected="Left."), trl(2))
    assert dropped(tmp_path / "out") == {"contradiction": 3}
    approve(preferences, first, other=True)
    manifest = preferences.export(ENGINEER, "acme", tmp_path / "out")
    assert manifest.n_dropped == 0


def test_a_crowded_prompt_keeps_its_share(export: Export) -> None:
    many = [trl(1, rejected=f"Colour number {number}.") for number in range(6)]
    manifest = export(*many, trl(2), rules=Rules(pairs_a_prompt=4))
    assert dropped(manifest.folder) == {"crowded_prompt": 2}
    assert manifest.n_train + manifest.n_eval == 5


def test_an_edit_after_the_decision_is_not_exported(
    preferences: Preferences, database: Database, export: Export, tmp_path: Path
) -> None:
    export(trl(1), trl(2))
    pair = preferences.pairs(ENGINEER, "acme").pairs[0]
    with database.write() as session:
        current = pair.response(pair.chosen_response_id)
        assert current is not None
        queries.add_version(session, current, pair, "Two.", author_id="user-x", at=pair.created_at)
    preferences.export(ENGINEER, "acme", tmp_path / "out")
    assert [one["gate"] for one in lines(tmp_path / "out/dropped.jsonl")] == ["stale"]


def test_what_only_scores_decided_must_not_be_close(export: Export) -> None:
    rows = (
        trl(1, chosen_score=8.0, rejected_score=7.9),
        trl(2, chosen_score=8.0, rejected_score=3.0),
    )
    manifest = export(*rows, by_person=False)
    assert dropped(manifest.folder) == {"undecided": 1}


def test_a_person_may_decide_what_is_close(export: Export) -> None:
    manifest = export(trl(1, chosen_score=8.0, rejected_score=7.9), trl(2))
    assert manifest.n_dropped == 0


def test_a_person_who_decides_against_the_ai_is_followed_and_it_is_told(
    export: Export, preferences: Preferences, tmp_path: Path
) -> None:
    export(trl(1, chosen_score=9.0, rejected_score=2.0))
    (pair,) = preferences.pairs(ENGINEER, "acme").pairs
    approve(preferences, pair, other=True)
    manifest = preferences.export(ENGINEER, "acme", tmp_path / "out")
    assert manifest.n_dropped == 0
    assert [one["gate"] for one in lines(tmp_path / "out/warned.jsonl")] == ["score_conflict"]


def test_near_prompts_stay_on_one_side(export: Export) -> None:
    question = (
        "Please explain in a few words how a {} is built from wood, rope and a little patience"
    )
    things = ("boat", "bridge", "tower", "swing", "table", "wheel", "mill", "house", "cart", "bed")
    rows = [
        row(
            question.format(thing) + end + f" as {thing} builders of {thing} town do {thing} work",
            f"Yes, {thing}.", f"No {thing}.",
        )
        for thing in things
        for end in ("", "!", " ,")
    ]  # fmt: skip
    manifest = export(*rows, eval_fraction=0.4)
    sides = [
        {next(t for t in things if t in one["prompt"][0]["content"]) for one in lines(file)}
        for file in (manifest.folder / "train.jsonl", manifest.folder / "eval.jsonl")
    ]
    assert sides[0] & sides[1] == set()
    assert sides[0] | sides[1] == set(things)
    assert manifest.n_eval > 0


def test_evaluation_prompts_and_what_is_near_them_are_never_trained_on(
    preferences: Preferences, export: Export
) -> None:
    question = "Explain to a child of six years why the sea is salty and the rivers are not"
    declared = [row(question, "Because of the rocks.", "It just is."), trl(50)]
    preferences.import_pairs(
        ENGINEER, "acme", jsonl(*declared), source="benchmark", purpose="evaluation"
    )
    manifest = export(
        trl(1),
        row(question + "!", "Rivers bring salt.", "Nobody knows."),
        row("Hello", "Sure, but first " + question.lower(), "Yes?"),
        row("One more thing. " + question + " Keep it short.", "Salt stays.", "Magic."),
        trl(50, rejected="Green."),
        include_unreviewed=True,
    )
    assert dropped(manifest.folder) == {"evaluation_set": 3, "leakage": 3}
    everything = "".join(
        path.read_text(encoding="utf-8") for path in manifest.folder.glob("*.jsonl")
    )
    assert "salty" not in everything


def test_bound_prompts_stay_and_the_tear_is_told(export: Export) -> None:
    manifest = export(
        row("What is the capital of Turkey", "Ankara.", "Paris.", split="train"),
        row("What is the capital of Turkey?", "Ankara it is.", "Rome.", split="eval"),
    )
    assert (manifest.n_train, manifest.n_eval) == (1, 1)
    assert [one["gate"] for one in lines(manifest.folder / "warned.jsonl")] == ["split_overlap"]


def test_every_row_can_be_traced(export: Export, preferences: Preferences) -> None:
    manifest = export(trl(1), trl(2), trl(3))
    told = {one["pair_id"]: one for one in lines(manifest.folder / "provenance.jsonl")}
    for part in ("train", "eval"):
        for one in lines(manifest.folder / f"{part}.jsonl"):
            origin = told.pop(one["pair_id"])
            pair = preferences.pair(ENGINEER, "acme", one["pair_id"])
            chosen = pair.response(origin["chosen_response_id"])
            assert chosen is not None
            assert chosen.text == one["chosen"][0]["content"]
            assert (origin["part"], origin["source"], origin["source_line"]) == (
                part, "file", pair.source_line,
            )  # fmt: skip
            assert origin["by_person"]
            assert origin["decided_by"] in manifest.content["annotators"]
    assert told == {}
    assert ENGINEER.id not in (manifest.folder / "provenance.jsonl").read_text()


def test_all_forms_hold_the_same_pairs_and_repeat_byte_by_byte(
    export: Export, preferences: Preferences, tmp_path: Path
) -> None:
    form = Form(also=("parquet", "csv", "kto", "csv"))
    rows = [trl(number, chosen=f"=HYPERLINK({number})") for number in range(20)]
    manifest = export(*rows, eval_fraction=0.3, form=form)
    first = {path.name: path.read_bytes() for path in manifest.folder.iterdir()}
    assert set(first) == FILES | {
        "train.csv", "eval.csv", "train.parquet", "eval.parquet",
        "kto-train.jsonl", "kto-eval.jsonl",
    }  # fmt: skip
    again = preferences.export(ENGINEER, "acme", tmp_path / "again", eval_fraction=0.3, form=form)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == first
    for part in ("train", "eval"):
        wanted = lines(manifest.folder / f"{part}.jsonl")
        table = parquet.read_table(manifest.folder / f"{part}.parquet").to_pylist()
        assert [dict(sorted(one.items())) for one in table] == wanted
        with (manifest.folder / f"{part}.csv").open(encoding="utf-8-sig", newline="") as file:
            cells = list(csv.DictReader(file))
        assert [one["pair_id"] for one in cells] == [one["pair_id"] for one in wanted]
        assert all(one["chosen"].startswith("'=") for one in cells)
        unpaired = lines(manifest.folder / f"kto-{part}.jsonl")
        assert [one["label"] for one in unpaired] == [True, False] * len(wanted)
        assert {tuple(one) for one in unpaired} <= {("completion", "label", "pair_id", "prompt")}


def test_plain_text_goes_on_where_the_prompt_ends(export: Export) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Longest river?"},
    ]
    rows = row(
        turns,  # type: ignore[arg-type]
        [{"role": "assistant", "content": "Kızılırmak."}],  # type: ignore[arg-type]
        [{"role": "assistant", "content": "Fırat."}],  # type: ignore[arg-type]
    )
    manifest = export(rows, form=Form(Shape.PLAIN))
    (one,) = lines(manifest.folder / "train.jsonl")
    assert one["prompt"] == (
        "\n\nSystem: Be brief.\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Longest river?\n\nAssistant:"
    )
    assert (one["chosen"], one["rejected"]) == (" Kızılırmak.", " Fırat.")


def test_length_and_agreement_are_measured_and_doubted(export: Export) -> None:
    rows = [trl(number, chosen=f"{number}, and " + "word " * 30) for number in range(40)]
    rules = Rules(agreement=Agreement(0.31, 0.2, 0.4, 55))
    manifest = export(*rows, rules=rules)
    assert manifest.content["measures"]["length"]["p_chosen_longer"] == 1.0
    assert gate(manifest, "length_bias")["pairs"] == 1
    assert gate(manifest, "agreement")["pairs"] == 1
    assert manifest.content["agreement"] == {"alpha": 0.31, "low": 0.2, "high": 0.4, "pairs": 55}
    card = (manifest.folder / "README.md").read_text(encoding="utf-8")
    assert "in 100.0% of the pairs" in card
    assert "alpha (ordinal) 0.31 [0.2, 0.4] over 55 pairs" in card
    assert card.startswith("---\nlanguage:\n- en\n")


def test_without_a_tokenizer_the_manifest_says_what_was_not_checked(export: Export) -> None:
    manifest = export(trl(1))
    assert manifest.content["tokenizer"] is None
    assert gate(manifest, "truncated_identical")["is_checked"] is False
    assert gate(manifest, "agreement")["is_checked"] is False


def test_a_source_cannot_break_the_card(preferences: Preferences, tmp_path: Path) -> None:
    name = "<script>|a`b\nc"
    preferences.import_pairs(ENGINEER, "acme", jsonl(trl(1)), source=name)
    preferences.approve_imported(ENGINEER, "acme")
    manifest = preferences.export(ENGINEER, "acme", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| scriptab c | 1 |" in card
    assert manifest.content["sources"] == {name: 1}


def test_a_lone_readme_is_somebodys_own(preferences: Preferences, tmp_path: Path) -> None:
    preferences.import_pairs(ENGINEER, "acme", jsonl(trl(1)), source="file")
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("mine")
    with pytest.raises(Conflict, match=r"README\.md"):
        preferences.export(ENGINEER, "acme", out)
    assert (out / "README.md").read_text() == "mine"


def test_the_manifest_is_canonical_json(export: Export) -> None:
    manifest = export(trl(1), trl(2))
    data = (manifest.folder / "manifest.json").read_bytes()
    assert json.loads(data) == manifest.content
    assert (
        data
        == json.dumps(
            json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    )


def test_many_approvals_at_once_are_nobodys_judgment(
    preferences: Preferences, database: Database, tmp_path: Path
) -> None:
    close, clear = (trl(n, chosen_score=8.0, rejected_score=low) for n, low in ((1, 7.9), (2, 3.0)))
    preferences.import_pairs(ENGINEER, "acme", jsonl(close, clear), source="file")
    Bulk(database).run(ENGINEER, "acme", Kind.APPROVE, Filters())
    manifest = preferences.export(ENGINEER, "acme", tmp_path / "out")
    assert dropped(tmp_path / "out") == {"undecided": 1}
    told = lines(tmp_path / "out" / "provenance.jsonl")
    assert [one["by_person"] for one in told] == [False] * (manifest.n_train + manifest.n_eval)


def test_only_kto_learns_from_two_bad_answers(
    preferences: Preferences, database: Database, export: Export, tmp_path: Path
) -> None:
    export(trl(1))
    preferences.import_pairs(ENGINEER, "acme", jsonl(trl(2), trl(3)), source="file")
    bad, tied = preferences.pairs(ENGINEER, "acme", status=PairStatus.UNREVIEWED).pairs
    with database.write() as session:
        for number, (pair, strength) in enumerate(((bad, None), (tied, 0)), start=1):
            left, right = (response.id for response in pair.responses)
            vote = ReviewRow(
                id=new_id(), tenant_id="acme", pair_id=pair.id, annotator_id="user-x",
                number=number, kind="vote", left_response_id=left, right_response_id=right,
                preferred_response_id=None, strength=strength, note="", active_ms=None,
                response_id=None, undoes_id=None, created_at=pair.created_at,
            )  # fmt: skip
            session.add(vote)
            queries.decide(
                session, queries.locked(session, "acme", pair.id), PairStatus.REJECTED,
                chosen_id=None, rejected_id=None, actor_id="user-x", at=pair.created_at,
                review_id=vote.id,
            )  # fmt: skip
    manifest = preferences.export(
        ENGINEER, "acme", tmp_path / "out", eval_fraction=0.0, form=Form(also=("kto",))
    )
    assert (manifest.n_train, manifest.n_dropped) == (1, 2)
    labels = [
        (one["completion"][0]["content"], one["label"])
        for one in lines(tmp_path / "out" / "kto-train.jsonl")
    ]
    assert sorted(labels) == [("2.", True), ("3.", False), ("Blue.", False), ("Blue.", False)]
