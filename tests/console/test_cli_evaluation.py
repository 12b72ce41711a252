"""`param eval`: questions from files, comparisons, the gate and its policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services import bootstrap
from services.errors import InvalidInput
from services.evaluation.questions import read_questions
from services.settings import load
from tests.console.test_cli import (  # noqa: F401 - fixtures
    Param,
    home,
    migrated,
    param,
)
from tests.pages import seeds
from tests.support import SHARED_DATA, require


@pytest.fixture
def judged(home: Path, param: Param) -> list[str]:  # noqa: F811
    """Two adapters with finished evaluations, and a third one without."""
    param("tenants", "create", "Acme")
    services = bootstrap.build(load())
    made = [seeds.adapter(services, seed=seed) for seed in (1, 2, 3)]
    for adapter in made[:2]:
        seeds.evaluation(services, adapter, answers=seeds.ANSWERS[:1])
    services.close()
    return [adapter.name for adapter in made]


def test_two_adapters_are_compared_with_the_base_and_each_other(
    param: Param,  # noqa: F811
    judged: list[str],
) -> None:
    both = judged[:2]
    found = param("eval", "compare", *both, "--tenant", "acme", "--json").json
    assert [row["adapter"] for row in found["rows"]] == both
    assert (found["against"], found["n_prompts"]) == ("base", 42)
    read = param("eval", "compare", *both, "--tenant", "acme", "--against", both[0]).out
    assert "42 prompts (42 pairs) in common" in " ".join(read.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--against", "nobody-000000000000"), "expected 'base' or one of"),
        (("--topic", "law"), "found none in this selection"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(
    param: Param,  # noqa: F811
    judged: list[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    ran = param("eval", "compare", *judged[:2], "--tenant", "acme", *words, status=2)
    assert said in " ".join(ran.err.split())


def test_an_adapter_without_a_finished_evaluation_cannot_be_compared(
    param: Param,  # noqa: F811
    judged: list[str],
) -> None:
    ran = param("eval", "compare", *judged, "--tenant", "acme", status=2)
    assert f"param eval run {judged[2]}" in " ".join(ran.err.split())


def test_the_gate_exits_with_1_until_it_is_passed(
    param: Param,  # noqa: F811
    judged: list[str],
) -> None:
    assert param("eval", "gate", judged[0], "--tenant", "acme").out.startswith("The gate is passed")
    param("eval", "policy", "--tenant", "acme", "--set", "min_prompts=43")
    ran = param("eval", "gate", judged[0], "--tenant", "acme", status=1)
    assert "42 held-out prompts; the policy asks for 43" in " ".join(ran.out.split())
    assert param("eval", "gate", judged[2], "--tenant", "acme", "--json", status=1).json[
        "reasons"
    ] == ["The adapter was never evaluated."]


def test_a_policy_is_shown_changed_and_refused(
    param: Param,  # noqa: F811
    judged: list[str],
) -> None:
    words = ("--set", "quality=non-inferior", "--set", "max_nll_rise=none", "--json")
    found = param("eval", "policy", "--tenant", "acme", *words).json
    assert (found["quality"], found["max_nll_rise"], found["min_prompts"]) == (
        "non-inferior", None, 20,
    )  # fmt: skip
    for wrong, said in (("quality", "NAME=VALUE"), ("quality=fine", "better or non-inferior")):
        ran = param("eval", "policy", "--tenant", "acme", "--set", wrong, status=2)
        assert said in " ".join(ran.err.split())
    assert param("eval", "policy", "--tenant", "acme", "--json").json == found


def test_a_launch_says_what_is_measured(param: Param, judged: list[str], tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "q.jsonl"
    path.write_text('{"prompt": "2 + 2?", "reference": "4"}\n\n{"prompt": "Sky?"}\n')
    words = ("--prompts", path, "--no-tasks", "--json")
    found = param("eval", "run", judged[2], "--tenant", "acme", *words).json
    assert found["checks"] == {
        "texts": True, "tasks": False, "judge": False, "text_count": 60,
        "judge_cap_micro": 1_000_000,
    }  # fmt: skip
    assert found["references"] == ["4", None]
    assert [turns[0]["content"] for turns in found["prompts"]] == ["2 + 2?", "Sky?"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least 1 question, found none"),
        ("[1]", r"q.jsonl line 1: expected `prompt`"),
        ('{"prompt": 1}', "line 1"),
        ('{"prompt": "a"}\n{"prompt": "b", "reference": 3}', "line 2"),
        ('{"instances": []}', "line 1"),
    ],
)
def test_a_file_of_questions_is_refused_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_questions(tmp_path / "q.jsonl")
    with pytest.raises(InvalidInput, match="expected a text file of questions"):
        read_questions(tmp_path / "none.jsonl")


def test_the_tasks_of_self_instruct_are_questions_with_references() -> None:
    path = SHARED_DATA / "self-instruct-user-oriented.jsonl"
    require(path.is_file(), "the self-instruct tasks")
    found = read_questions(path)
    rows: list[Any] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(found) == len(rows) == 252
    assert found[0].prompt.startswith(rows[0]["instruction"].strip())
    assert all(question.reference for question in found[:5])


def test_what_the_judge_will_cost_is_told_before(
    param: Param,  # noqa: F811
    judged: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = ("eval", "cost", judged[0], "--tenant", "acme")
    assert "PARAM_JUDGE_MODEL: expected the name" in param(*asked, status=2).err
    for name, value in (("MODEL", "judge"), ("API_KEY", "sk-0"), ("PRICE", "2/10")):
        monkeypatch.setenv(f"PARAM_JUDGE_{name}", value)
    found = param(*asked, "--json").json
    assert (found["prompts"], found["calls"], found["left_micro"]) == (10, 20, None)
    assert 0 < found["expected_micro"] < found["most_micro"]
    assert "no budget" in param(*asked).out
    ran = param(
        "eval", "run", judged[0], "--tenant", "acme", "--judge", "--judge-cap", "0.25",
        "--text-count", "120", "--json",
    ).json  # fmt: skip
    assert ran["checks"] == {
        "texts": True, "tasks": True, "judge": True, "judge_cap_micro": 250_000, "text_count": 120,
    }  # fmt: skip
