"""`param rlaif`: what it estimates, queues, shows and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.console.test_cli import Param, home, legal, migrated, param

__all__ = ["home", "legal", "migrated", "param"]  # fixtures


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of prompts, and a judge that is never reached."""
    monkeypatch.setenv("PARAM_JUDGE_MODEL", "judge")
    monkeypatch.setenv("PARAM_JUDGE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PARAM_JUDGE_PRICE", "2/10")
    file = tmp_path / "prompts.txt"
    file.write_text("One?\nTwo?\n", encoding="utf-8")
    return file


def test_an_estimate_is_printed_and_queues_nothing(param: Param, legal: str, prompts: Path) -> None:
    found = param("rlaif", "estimate", prompts, "--tenant", legal, "--json").json
    assert (found["candidates"], found["pairs"], found["calls"]) == (8, 4, 8)
    assert 0 < found["expected_micro"] < found["most_micro"]
    assert "a pair" in param("rlaif", "estimate", prompts, "--tenant", legal).out
    assert param("rlaif", "status", "--tenant", legal, "--json").json == []


def test_a_run_is_queued_shown_stopped_and_resumed(param: Param, legal: str, prompts: Path) -> None:
    words = ("--tenant", legal, "--cap", "0.25", "--pairs", 1, "--mode", "batch", "--json")
    made = param("rlaif", "run", prompts, *words).json
    assert (made["status"], made["cap_micro"], made["spec"]["mode"]) == ("queued", 250_000, "batch")
    assert made["spec"]["source"] == "prompts.txt"
    assert made["id"] in param("rlaif", "status", "--tenant", legal).out
    assert "0.250000 USD" in param("rlaif", "status", made["id"]).out
    assert param("rlaif", "stop", made["id"], "--json").json["status"] == "stopped"
    again = param("rlaif", "resume", made["id"], "--cap", "0.5", "--json").json
    assert (again["status"], again["cap_micro"]) == ("queued", 500_000)


def test_wrong_use_is_told_in_one_sentence(
    param: Param, legal: str, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = ("--tenant", legal)
    ran = param("rlaif", "run", prompts, *of, "--cap", "much", status=2)
    assert "cap: expected US dollars, such as 2.50, found 'much'" in ran.err
    assert "cap_micro" in param("rlaif", "run", prompts, *of, "--cap", "0", status=2).err
    assert "found none at" in param("rlaif", "estimate", "nowhere.txt", *of, status=2).err
    assert "expected one of a file" in param("rlaif", "estimate", *of, status=2).err
    ran = param("rlaif", "run", *of, "--judge", "stale", "--cap", "1", status=2)
    assert "at least one pair to judge" in ran.err
    ran = param("rlaif", "estimate", prompts, *of, "--temperatures", "warm", status=2)
    assert "temperatures: expected numbers" in ran.err
    assert "expected a run, or --tenant" in param("rlaif", "status", status=2).err
    monkeypatch.setenv("PARAM_JUDGE_MODEL", "")
    assert "PARAM_JUDGE_MODEL" in param("rlaif", "estimate", prompts, *of, status=2).err
