from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.spreadsheet import csv_of, jsonl_of


def _read(raw: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1"])
def test_text_that_begins_like_a_formula_is_defused(cell: str) -> None:
    assert _read(csv_of(["a"], [[cell]]))[1] == [f"'{cell}"]


def test_numbers_stay_numbers_and_nothing_stays_empty() -> None:
    assert _read(csv_of(["a", "b", "c"], [[-5, None, "İstanbul; \"x\", y"]]))[1] == [
        "-5", "", "İstanbul; \"x\", y",
    ]  # fmt: skip


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), min_size=1))
def test_no_cell_of_text_begins_a_formula(cells: list[str]) -> None:
    row = _read(csv_of(["x"] * len(cells), [cells]))[1:]
    for found in row:
        assert not [cell for cell in found if cell.lstrip(" ").startswith(("=", "+", "-", "@"))]


def test_rows_for_programs_stay_as_they_are() -> None:
    lines = jsonl_of(("line", "reason"), [(2, "=1+1"), (3, "half \ud800")])
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"line": 2, "reason": "=1+1"},
        {"line": 3, "reason": "half \ud800"},
    ]
