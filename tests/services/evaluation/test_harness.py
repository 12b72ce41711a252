"""Neutral text and lm-eval's tasks: the bundled files, and both on a tiny real model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from services.errors import InvalidInput
from services.evaluation import harness, neutral
from services.evaluation.neutral import NeutralText
from services.inference.models import BaseModel
from tests.models import make_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def test_the_bundled_texts_are_many_in_both_languages_and_each_once() -> None:
    found = neutral.read_texts()
    assert len(found) == len({text.id for text in found}) == len({text.text for text in found})
    by_language = {one: sum(text.language == one for text in found) for one in ("en", "tr")}
    assert min(by_language.values()) >= 50
    assert sum(by_language.values()) == len(found) >= 100


@pytest.mark.parametrize("count", [2, 7, neutral.USUAL_COUNT, 112])
def test_some_texts_are_as_many_of_each_language_and_the_same_each_time(count: int) -> None:
    texts = neutral.read_texts()
    found = neutral.chosen(texts, count)
    assert len(found) == count
    shares = [sum(text.language == one for text in found) for one in ("en", "tr")]
    assert abs(shares[0] - shares[1]) <= 1
    assert found == neutral.chosen(texts, count)


def test_texts_of_like_length_are_read_together_and_each_once() -> None:
    texts = neutral.read_texts()
    read = [text for some in neutral.batches(texts) for text in some]
    assert sorted(text.id for text in read) == sorted(text.id for text in texts)
    lengths = [len(text.text.encode()) for text in read]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("name", harness.task_names())
def test_the_bundled_tasks_have_one_right_answer_each(name: str) -> None:
    lines = (harness.TASKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert harness.count_documents(name) == len(rows) >= 40
    assert len({row["query"] for row in rows}) == len(rows)
    for row in rows:
        assert len(set(row["choices"])) == len(row["choices"]) >= 2
        assert 0 <= row["answer"] < len(row["choices"])
    places = [row["answer"] for row in rows]
    assert max(places.count(place) for place in set(places)) < 0.75 * len(places)


def test_a_broken_text_file_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": "a", "language": "en", "text": "x"}\n{"id": 1}\n')
    with pytest.raises(InvalidInput, match=r"t.jsonl line 2: expected id, language and text"):
        neutral.read_texts(tmp_path / "t.jsonl")


def test_texts_are_scored_alike_alone_and_together(tiny_model: BaseModel, tmp_path: Path) -> None:
    from services.evaluation import scoring

    adapter = make_adapter(tiny_model.path, tmp_path / "adapter")
    subject = scoring.load(tiny_model.path, adapter, threads=1)
    texts = [
        NeutralText("a", "en", "The capital of Turkey."),
        NeutralText("b", "tr", "Çalışkan öğrenciler şarkı söyler, güneşli günlerde."),
    ]
    together = neutral.read_by_both(subject, texts)
    alone = [neutral.read_by_both(subject, [text])[0] for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert one.tokens == other.tokens > 0
        assert one.base_nll == pytest.approx(other.base_nll, rel=1e-4)
        assert one.adapter_nll == pytest.approx(other.adapter_nll, rel=1e-4)
        assert 0 < one.base_nll < 100 * one.tokens
        assert not math.isclose(one.base_nll, one.adapter_nll)
    # The same numbers as the model's own loss.
    import torch

    ids = subject.tokenizer(texts[0].text, add_special_tokens=False, return_tensors="pt").input_ids
    with subject.as_base(), torch.inference_mode():
        loss = float(subject.model(ids, labels=ids).loss)
    assert together[0].base_nll / together[0].tokens == pytest.approx(loss, rel=1e-4)


def test_lm_eval_does_a_bundled_task_offline(tiny_model: BaseModel, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    from services.evaluation import scoring

    adapter = make_adapter(tiny_model.path, tmp_path / "adapter")
    subject = scoring.load(tiny_model.path, adapter, threads=1)
    found = harness.done_by_both(subject, "param_grammar_tr")
    assert [one.document for one in found] == list(range(40))
    assert any(one.base_right for one in found)
    assert any(one.base_right is not one.adapter_right for one in found)
    assert found == harness.done_by_both(subject, "param_grammar_tr")
