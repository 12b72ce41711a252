"""Tables as CSV files that a spreadsheet program opens safely."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_of(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A CSV file in UTF-8 with a byte order mark, which spreadsheet programs ask for.

    Text that a spreadsheet would take for a formula gets an apostrophe before it: the text may
    come from a stranger. Numbers stay numbers.

    Source: OWASP, CSV Injection.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([safe(cell) for cell in row] for row in rows)
    return out.getvalue().encode("utf-8-sig")


def safe(cell: object) -> object:
    """The cell as it may stand in a CSV file."""
    if isinstance(cell, str) and cell.lstrip(" ").startswith(_BEGINS_A_FORMULA):
        return f"'{cell}"
    return "" if cell is None else cell


def jsonl_of(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """The same rows as JSON Lines, for programs: nothing in them is escaped for spreadsheets."""
    named = (dict(zip(header, row, strict=True)) for row in rows)
    return "".join(json.dumps(one) + "\n" for one in named).encode()
