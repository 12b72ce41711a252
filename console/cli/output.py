"""How results look: a table for people, one JSON document for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

JSON_ASKED = "console.cli.json"
PIPE_COLUMNS = 400


def _remember(context: typer.Context, value: bool) -> bool:
    context.meta[JSON_ASKED] = value
    return value


AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document.", callback=_remember, is_eager=True),
]
"""The `--json` of every command; errors look there too."""


def plain(value: Any) -> Any:
    """What JSON can hold of a result: dataclasses as objects, times as ISO 8601 in UTC."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    if isinstance(value, date):  # datetime is one too
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    return value


def print_json(value: Any) -> None:
    """One document on standard output, in UTF-8 whatever the terminal's language."""
    text = json.dumps(plain(value), ensure_ascii=False, indent=2)
    try:
        print(text)
    except UnicodeEncodeError:
        print(json.dumps(plain(value), indent=2))


def print_json_line(value: Any) -> None:
    """One object on one line, at once: for commands that go on for long."""
    print(json.dumps(plain(value)), flush=True)


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "Nothing there."
) -> None:
    """A table that folds long cells instead of cutting them.

    Args:
        empty: The sentence shown where there are no rows.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # Numbers line up on the right; ids and names fold rather than lose their end.
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left",
                         overflow="fold")  # fmt: skip
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    if table.row_count:
        terminal().print(table)
    else:
        say(empty)


def show_facts(facts: Mapping[str, Any]) -> None:
    """One thing, a line for each of its facts."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(cell(value)))
    terminal().print(table)


def say(sentence: str) -> None:
    """One line, not interpreted."""
    terminal().print(cell(sentence), markup=False, highlight=False, soft_wrap=True)


def complain(sentence: str) -> None:
    """One line on standard error."""
    print(cell(sentence), file=sys.stderr, flush=True)


def cell(value: Any) -> str:
    """A value as people read it. Control characters go: text of models may steer a terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    text = str(value)
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}"
                   for char in text)  # fmt: skip


def dollars(micro: int) -> str:
    """An amount of micro-units as people read it, exact to the last unit."""
    whole, part = divmod(abs(micro), 1_000_000)
    return f"{'-' if micro < 0 else ''}{whole:,}.{part:06d}"


def terminal() -> Console:
    """Standard output as it is now; a pipe is as wide as its lines."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    return Console(file=sys.stdout, highlight=False, width=width)
