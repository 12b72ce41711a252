"""`param cost prices`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.console.test_cli import Param, home, migrated, param

__all__ = ["home", "migrated", "param"]  # fixtures

PRICES = {
    "*": {"prompt_micro_per_mtok": 150_000, "completion_micro_per_mtok": 600_000},
    "fallback/*": {"prompt_micro_per_mtok": 3_000_000, "completion_micro_per_mtok": 15_000_000},
}


def test_the_first_table_is_the_one_that_comes_along(param: Param) -> None:
    shown = param("cost", "prices", "--json").json
    assert shown["version"] == "1"
    assert shown["prices"]["*"]["completion_micro_per_mtok"] == 400_000
    assert "0.400000" in param("cost", "prices").out


def test_prices_that_are_set_make_a_new_version_and_an_event(param: Param, tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(PRICES))
    made = param("cost", "prices", "--set", file, "--json").json
    assert (made["version"], made["prices"]) == ("2", PRICES)
    read = param("cost", "prices").out
    assert read.index("fallback/*") < read.index("0.600000"), "what is looked up first is on top"
    assert "15.000000" in read
    file.write_text(json.dumps(made))  # As it was printed.
    assert param("cost", "prices", "--set", file, "--json").json["version"] == "3"
    # The log's writer takes the event from where the change left it.
    param("audit", "verify")
    assert "prices.set" in param("audit", "tail", "--json").out


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "expected JSON"),
        ("[]", "expected an object, found list"),
        ("{}", "expected one for '*'"),
        ('{"*": 5}', "price of '*': expected an object, found int"),
        ('{"*": {"prompt_micro_per_mtok": 1}}', "completion_micro_per_mtok"),
        ('{"*": {"prompt_micro_per_mtok": 1, "completion_micro_per_mtok": 0.5}}', "whole number"),
        ('{"*": {"prompt_micro_per_mtok": 1, "completion_micro_per_mtok": -1}}', "whole number"),
        ('{"*": {}, "*": {}}', "each name once"),
        ('{"prices": {"a": {}}}', "expected prompt_micro_per_mtok"),
    ],
)
def test_a_wrong_file_changes_nothing(
    param: Param, tmp_path: Path, content: str, complaint: str
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(content)
    assert complaint in param("cost", "prices", "--set", file, status=2).err
    assert param("cost", "prices", "--json").json["version"] == "1"
