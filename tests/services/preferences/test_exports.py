from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound
from services.preferences.models import Pair, PairStatus
from services.preferences.service import Preferences
from services.preferences.splits import share
from services.preferences.staging import FILES
from tests.services.preferences.rows import (
    ENGINEER,
    STRANGER,
    jsonl,
    lines,
    pairs_file,
    trl,
    unpacked,
)


def approve(preferences: Preferences, pair: Pair) -> None:
    preferences.decide(
        ENGINEER, "acme", pair.id, verdict=PairStatus.APPROVED,
        chosen_response_id=pair.imported_preference,
    )  # fmt: skip


@pytest.fixture
def filled(preferences: Preferences) -> Preferences:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(40), source="file")
    for pair in preferences.pairs(ENGINEER, "acme", limit=30).pairs:
        approve(preferences, pair)
    last = preferences.pairs(ENGINEER, "acme", offset=39).pairs[0]
    preferences.decide(ENGINEER, "acme", last.id, verdict=PairStatus.REJECTED, reason="tie")
    return preferences


def test_an_export_holds_approved_pairs_in_trl_form(filled: Preferences, tmp_path: Path) -> None:
    manifest = filled.export(ENGINEER, "acme", tmp_path / "out", eval_fraction=0.2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    train, held = lines(tmp_path / "out/train.jsonl"), lines(tmp_path / "out/eval.jsonl")
    dropped = lines(tmp_path / "out/dropped.jsonl")
    assert len(train) + len(held) == 30
    assert (manifest.n_train, manifest.n_eval, manifest.n_dropped) == (len(train), len(held), 10)
    assert sorted(row["reason"] for row in dropped) == ["rejected in review"] + ["unreviewed"] * 9
    for row in train + held:
        ((role, question),) = unpacked(row["prompt"])
        number = int(question.split()[2])
        assert role == "user"
        assert unpacked(row["chosen"]) == [("assistant", f"{number + 1}.")]
        assert unpacked(row["rejected"]) == [("assistant", "Blue.")]


def test_the_manifest_names_every_file_by_its_digest(filled: Preferences, tmp_path: Path) -> None:
    manifest = filled.export(ENGINEER, "acme", tmp_path / "out", include_unreviewed=True, seed=5)
    data = (tmp_path / "out/manifest.json").read_bytes()
    content = json.loads(data)
    assert hashlib.sha256(data).hexdigest() == manifest.sha256
    for name, facts in content["files"].items():
        file = (tmp_path / "out" / name).read_bytes()
        assert facts["sha256"] == hashlib.sha256(file).hexdigest()
        assert (facts["bytes"], facts["rows"]) == (len(file), file.count(b"\n"))
    assert len(content["unreviewed"]) == 9
    assert content["split"] == {
        "by": "prompt cluster", "near": "0.8", "eval_fraction": "0.1", "seed": 5,
    }  # fmt: skip
    assert content["query"] == {"status": ["approved", "unreviewed"], "pairs_a_prompt": 8}
    assert content["dropped"] == {"rejected in review": 1}
    (annotator,) = content["annotators"]
    assert ENGINEER.id not in data.decode()
    assert len(annotator) == 12


def test_repeating_an_export_gives_the_same_bytes(filled: Preferences, tmp_path: Path) -> None:
    filled.export(ENGINEER, "acme", tmp_path / "one")
    before = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    filled.export(ENGINEER, "acme", tmp_path / "one")
    filled.export(ENGINEER, "acme", tmp_path / "two")
    for folder in ("one", "two"):
        assert {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} == before
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} >= {"one", "two"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_no_prompt_is_on_both_sides(preferences: Preferences, tmp_path: Path) -> None:
    rows = [trl(number, rejected=f"{colour}.") for number in range(30) for colour in "abc"]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="file")
    preferences.approve_imported(ENGINEER, "acme")
    preferences.export(ENGINEER, "acme", tmp_path / "out", eval_fraction=0.3)
    sides = [
        {row["prompt"][0]["content"] for row in lines(tmp_path / "out" / f"{part}.jsonl")}
        for part in ("train", "eval")
    ]
    assert sides[0] & sides[1] == set()
    assert len(sides[0] | sides[1]) == 30
    assert len(sides[1]) > 2


def test_a_file_may_bind_its_prompts_to_a_side(preferences: Preferences, tmp_path: Path) -> None:
    rows = [trl(number, split="eval" if number % 2 else "train") for number in range(10)]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*rows), source="file")
    preferences.approve_imported(ENGINEER, "acme")
    manifest = preferences.export(ENGINEER, "acme", tmp_path / "out", eval_fraction=0.0)
    assert (manifest.n_train, manifest.n_eval) == (5, 5)
    assert len(manifest.content["demo"]) == 10


@pytest.mark.parametrize(("fraction", "held"), [(0.0, 0), (0.0001, 1), (0.9999, 2)])
def test_neither_side_stays_empty_if_it_need_not(
    preferences: Preferences, tmp_path: Path, fraction: float, held: int
) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(3), source="file")
    preferences.approve_imported(ENGINEER, "acme")
    manifest = preferences.export(ENGINEER, "acme", tmp_path / "out", eval_fraction=fraction)
    assert (manifest.n_train, manifest.n_eval) == (3 - held, held)


@given(st.integers(), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_a_prompt_keeps_its_place(seed: int, key: str) -> None:
    assert 0 <= share(seed, key) < 1
    assert share(seed, key) == share(seed, key)


def test_a_blank_answer_is_kept_but_not_trained_on(
    preferences: Preferences, tmp_path: Path
) -> None:
    row = {"chosen": "\n\nHuman: Hi\n\nAssistant: ", "rejected": "\n\nHuman: Hi\n\nAssistant: Yo."}
    preferences.import_pairs(ENGINEER, "acme", jsonl(row, row), source="hh")
    preferences.approve_imported(ENGINEER, "acme")
    preferences.export(ENGINEER, "acme", tmp_path / "out")
    assert [one["reason"] for one in lines(tmp_path / "out/dropped.jsonl")] == ["empty response"]


def test_a_foreign_folder_is_left_alone(filled: Preferences, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"found 'thesis.txt'; nothing was written"):
        filled.export(ENGINEER, "acme", out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Conflict, match="found a file"):
        filled.export(ENGINEER, "acme", tmp_path / "file")
    with pytest.raises(InvalidInput, match="expected one that can be written"):
        filled.export(ENGINEER, "acme", tmp_path / "file" / "below")


def test_a_snapshot_is_frozen_and_found_again(filled: Preferences) -> None:
    first = filled.snapshot(ENGINEER, "acme", seed=1)
    again = filled.snapshot(ENGINEER, "acme", seed=1)
    assert again == first
    assert {path.name for path in first.folder.iterdir()} == FILES
    approve(filled, filled.pairs(ENGINEER, "acme", offset=35, limit=1).pairs[0])
    later = filled.snapshot(ENGINEER, "acme", seed=1)
    assert later.sha256 != first.sha256
    assert first.n_train + first.n_eval + 1 == later.n_train + later.n_eval
    assert {one.id for one in filled.datasets(ENGINEER, "acme")} == {first.id, later.id}
    assert filled.dataset(ENGINEER, "acme", first.id) == first
    with pytest.raises(NotFound):
        filled.dataset(STRANGER, "globex", first.id)
    assert [path.name for path in first.folder.parent.iterdir() if path.name[0] == "."] == []


def test_a_damaged_snapshot_is_written_again(filled: Preferences) -> None:
    first = filled.snapshot(ENGINEER, "acme")
    wanted = (first.folder / "train.jsonl").read_bytes()
    (first.folder / "train.jsonl").write_bytes(b"")
    assert filled.snapshot(ENGINEER, "acme").id == first.id
    assert (first.folder / "train.jsonl").read_bytes() == wanted


def test_nothing_approved_is_no_data_set(preferences: Preferences, tmp_path: Path) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(2), source="file")
    with pytest.raises(Conflict, match="at least one pair to train on, found none; 2 pairs"):
        preferences.snapshot(ENGINEER, "acme")
    assert preferences.datasets(ENGINEER, "acme") == []
    assert list((tmp_path / "datasets" / "acme").iterdir()) == []
    everything = preferences.snapshot(ENGINEER, "acme", include_unreviewed=True)
    assert everything.n_train + everything.n_eval == 2


def test_a_fraction_out_of_range_is_refused(filled: Preferences, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="found 1"):
        filled.export(ENGINEER, "acme", tmp_path / "out", eval_fraction=1)


def test_an_export_survives_what_is_imported_meanwhile(
    filled: Preferences, database: Database, tmp_path: Path
) -> None:
    one = filled.export(ENGINEER, "acme", tmp_path / "one")
    filled.import_pairs(STRANGER, "globex", pairs_file(3), source="file")
    assert filled.export(ENGINEER, "acme", tmp_path / "two").sha256 == one.sha256
