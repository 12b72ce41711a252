"""Published data through import, gates and export, up to the trainer that reads it."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import logging
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from services.db import Database
from services.db.revise import declared_tables
from services.inference.models import BaseModel
from services.preferences.exports import Form, Shape
from services.preferences.gates.truncation import TrainingTokenizer
from services.preferences.models import Manifest, PairStatus
from services.preferences.service import Preferences
from tests.conftest import SHARED_DATA, require
from tests.services.preferences.rows import ENGINEER, jsonl, lines, trl

HH = SHARED_DATA / "hh-rlhf-harmless-test.jsonl.gz"
PREDICTIONS = sorted(SHARED_DATA.glob("self-instruct-predictions-*.jsonl"))


def hh(count: int) -> io.BytesIO:
    require(HH.exists(), "HH-RLHF in the shared data")
    with gzip.open(HH) as file:
        return io.BytesIO(b"".join(itertools.islice(file, count)))


def test_hh_rlhf_goes_from_import_to_export(database: Database, tmp_path: Path) -> None:
    preferences = Preferences(database, datasets_dir=tmp_path / "datasets")
    report = preferences.import_pairs(ENGINEER, "acme", hh(400), source="hh", format="hh")
    preferences.approve_imported(ENGINEER, "acme", mark="imported")
    manifest = preferences.export(ENGINEER, "acme", tmp_path / "out")
    assert manifest.n_train + manifest.n_eval + manifest.n_dropped == report.imported
    assert manifest.n_train > 300
    assert manifest.n_eval > 10
    sides = [
        {json.dumps(row["prompt"]) for row in lines(tmp_path / "out" / f"{part}.jsonl")}
        for part in ("train", "eval")
    ]
    assert sides[0] & sides[1] == set()
    told = {row["pair_id"] for row in lines(tmp_path / "out" / "provenance.jsonl")}
    left_out = {row["pair_id"] for row in lines(tmp_path / "out" / "dropped.jsonl")}
    assert (len(told), told & left_out) == (manifest.n_train + manifest.n_eval, set())


def test_self_instruct_measures_and_is_never_trained_on(database: Database, tmp_path: Path) -> None:
    require(bool(PREDICTIONS), "self-instruct in the shared data")
    preferences = Preferences(database, datasets_dir=tmp_path / "datasets")
    predictions = {path.stem: io.BytesIO(path.read_bytes()) for path in PREDICTIONS}
    report = preferences.import_pairs(
        ENGINEER, "acme", predictions, source="self-instruct", format="self-instruct",
        purpose="evaluation",
    )  # fmt: skip
    assert report.imported > 200
    rows = [json.loads(line) for line in PREDICTIONS[0].read_text(encoding="utf-8").splitlines()]
    # What leaks in practice: the prompt as it is, in other words around it, and in an answer.
    leaks = [
        trl(0, prompt=rows[0]["prompt"]),
        trl(1, prompt=f"Please help. {rows[1]['prompt']}\nThank you!"),
        trl(2, prompt="Say something", chosen=f"Well: {rows[2]['prompt']}"),
    ]
    clean = [trl(number) for number in range(3, 40)]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*leaks, *clean), source="ours")
    # Even a person who approves them does not get them into a training set.
    for pair in preferences.pairs(ENGINEER, "acme", limit=40).pairs:
        first, _ = pair.responses
        preferences.decide(
            ENGINEER, "acme", pair.id, verdict=PairStatus.APPROVED, chosen_response_id=first.id
        )
    for form in (Form(also=("csv", "kto")), Form(Shape.PLAIN)):
        manifest = preferences.export(
            ENGINEER, "acme", tmp_path / "out", include_unreviewed=True, form=form
        )
        assert (manifest.n_train + manifest.n_eval) == len(clean)
        gates = {one["gate"]: one["pairs"] for one in manifest.content["gates"]}
        assert gates["evaluation_set"] == 40 + 1
        assert gates["leakage"] == 2
        trained = _words("".join(
            path.read_text(encoding="utf-8")
            for path in (tmp_path / "out").iterdir()
            if path.name not in {"dropped.jsonl", "manifest.json", "README.md"}
        ))  # fmt: skip
        for row in rows:
            question = _words(row["prompt"])
            assert len(question) < 24 or question not in trained


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


@pytest.mark.model
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("shape", Shape)
def test_trl_takes_the_files_as_they_are_without_a_warning(
    tiny_model: BaseModel, tmp_path: Path, shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'param.db'}")
    declared_tables().create_all(database.engine)
    preferences = Preferences(
        database, datasets_dir=tmp_path / "datasets",
        tokenizer=lambda: TrainingTokenizer(tiny_model.path),
    )  # fmt: skip
    preferences.import_pairs(ENGINEER, "acme", hh(60), source="hh", format="hh")
    preferences.approve_imported(ENGINEER, "acme", mark="imported")
    form = Form(shape, ("kto", "parquet"))
    manifest = preferences.export(ENGINEER, "acme", tmp_path / "out", form=form)
    assert manifest.content["tokenizer"]["max_length"] == 1_024
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        steps = _train(tiny_model, manifest, tmp_path, caplog)
    database.close()
    assert steps == 2
    assert [record.getMessage() for record in caplog.records] == []


def _train(
    model: BaseModel, manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> int:
    import datasets
    import transformers
    import trl as library

    cache = tmp_path / "cache"
    files: dict[str, Any] = {"train": "train.jsonl", "test": "eval.jsonl"}
    found = datasets.load_dataset(
        "json", cache_dir=str(cache),
        data_files={name: str(manifest.folder / file) for name, file in files.items()},
    )  # fmt: skip
    transformers.utils.logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            trainer = library.DPOTrainer(
                model=transformers.AutoModelForCausalLM.from_pretrained(model.path),
                args=library.DPOConfig(
                    output_dir=str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=2,
                    use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no",
                    max_length=256, bf16=False, activation_checkpointing=False,
                    dataloader_pin_memory=False,
                ),
                train_dataset=found["train"],
                eval_dataset=found["test"],
                processing_class=transformers.AutoTokenizer.from_pretrained(model.path),
            )  # fmt: skip
            trainer.train()
    finally:
        transformers.utils.logging.disable_propagation()
        shutil.rmtree(cache, ignore_errors=True)
    return int(trainer.state.global_step)
