"""The forms in which rows leave: what TRL reads, and tables."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import orjson

from services.errors import InvalidInput
from services.preferences.staging import digest_of
from services.spreadsheet import safe

if TYPE_CHECKING:
    import pyarrow

EXTRAS = ("csv", "parquet", "kto")
ROW_GROUP = 5_000
"""Rows that are in memory for a Parquet file."""

Row = dict[str, Any]
Messages = Sequence[Mapping[str, str]]

_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}


class Shape(StrEnum):
    r"""How prompt and answers are written, in all rows of a set alike.

    `conversational`: lists of messages, the recommended form (the trainer applies the template).
    `plain`: texts, in HH-RLHF's way: turns begin with `\n\nHuman:` and `\n\nAssistant:`, and an
    answer goes on where the prompt ends.
    """

    CONVERSATIONAL = "conversational"
    PLAIN = "plain"


@dataclass(frozen=True)
class Form:
    """What files are written.

    Attributes:
        also: Out of `EXTRAS`, sorted.
    """

    shape: Shape = Shape.CONVERSATIONAL
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an unknown form.

        Raises:
            InvalidInput: Something else than one of `EXTRAS`.
        """
        if unknown := sorted(set(self.also) - set(EXTRAS)):
            raise InvalidInput(f"form: expected {', '.join(EXTRAS)}, found {unknown[0]!r}")
        object.__setattr__(self, "also", tuple(sorted(set(self.also))))


def shaped(row: Row, shape: Shape) -> Row:
    """A conversational row in another shape."""
    if shape is Shape.CONVERSATIONAL:
        return row
    return {
        "pair_id": row["pair_id"],
        "prompt": dialogue(row["prompt"]),
        "chosen": f" {row['chosen'][0]['content']}",
        "rejected": f" {row['rejected'][0]['content']}",
    }


def dialogue(messages: Messages) -> str:
    """Turns as one text that ends where the answer begins."""
    turns = [f"\n\n{_SPEAKERS[turn['role']]}: {turn['content']}" for turn in messages]
    return "".join(turns) + "\n\nAssistant:"


class Files:
    """The files of a data set while they are written; closed by the end of the `with` block."""

    def __init__(self, folder: Path, form: Form) -> None:
        self._folder, self._form = folder, form
        self._stack = ExitStack()
        self._rows = Counter[str]()
        self._lines: dict[str, BinaryIO] = {}
        self._tables: list[tuple[str, _Table]] = []

    def __enter__(self) -> Files:
        names = ["train", "eval", "dropped", "warned", "provenance"]
        if "kto" in self._form.also:
            names += ["kto-train", "kto-eval"]
        for name in names:
            self._rows[f"{name}.jsonl"] = 0
            path = self._folder / f"{name}.jsonl"
            self._lines[name] = self._stack.enter_context(path.open("wb"))
        for part in ("train", "eval"):
            self._tables += [(part, self._opened(part, kind)) for kind in self._form.also
                             if kind in _TABLES]  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        for _part, table in self._tables:
            table.close()
        self._stack.close()

    def line(self, name: str, row: Row) -> None:
        """Add a row to one of the JSON Lines files."""
        data = orjson.dumps(row, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
        self._lines[name].write(data)
        self._rows[f"{name}.jsonl"] += 1

    def pair(self, part: str, row: Row) -> None:
        """Add a pair to its part, in every form that was asked for.

        Args:
            row: Conversational.
        """
        self.line(part, shaped(row, self._form.shape))
        for table_part, table in self._tables:
            if table_part == part:
                table.add(shaped(row, self._form.shape))
                self._rows[table.name] += 1
        if "kto" in self._form.also:
            self._unpaired(part, row, chosen=True)

    def both_bad(self, part: str, row: Row) -> None:
        """Add a pair of which people said that both answers are bad; only KTO can learn from it."""
        self._unpaired(part, row, chosen=False)

    def digests(self) -> dict[str, Any]:
        """Digest, size and rows of each closed file, which are on the disk from then on."""
        return {
            name: {
                "sha256": digest_of(self._folder / name, synced=True),
                "bytes": (self._folder / name).stat().st_size,
                "rows": rows,
            }
            for name, rows in sorted(self._rows.items())
        }

    def _unpaired(self, part: str, row: Row, *, chosen: bool) -> None:
        shaped_row = shaped(row, self._form.shape)
        for side, label in (("chosen", chosen), ("rejected", False)):
            completion = {"completion": shaped_row[side], "label": label}
            named = {"pair_id": row["pair_id"], "prompt": shaped_row["prompt"]}
            self.line(f"kto-{part}", {**named, **completion})

    def _opened(self, part: str, kind: str) -> _Table:
        table = _TABLES[kind](self._folder / f"{part}.{kind}", self._form.shape)
        self._rows[table.name] = 0
        return table


class _Table(Protocol):
    name: str

    def add(self, row: Row) -> None: ...
    def close(self) -> None: ...


class _Csv:
    """Texts that a spreadsheet opens safely.

    What it would take for a formula gets an apostrophe before it, so that a table is for reading;
    training reads the other files. Source: OWASP, CSV Injection.
    """

    def __init__(self, path: Path, shape: Shape) -> None:
        self.name = path.name
        # The byte order mark is what spreadsheets know UTF-8 by.
        self._file = path.open("w", encoding="utf-8-sig", newline="")
        self._writer = csv.writer(self._file, lineterminator="\r\n")
        self._writer.writerow(("pair_id", "prompt", "chosen", "rejected"))

    def add(self, row: Row) -> None:
        self._writer.writerow([safe(_text(row[name])) for name in _COLUMNS])

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """The rows as they are in the JSON Lines file; the writer's settings are fixed."""

    def __init__(self, path: Path, shape: Shape) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.name = path.name
        self._pa = pa
        self._schema = _schema(pa, shape)
        self._writer = parquet.ParquetWriter(
            path, self._schema, compression="zstd", version="2.6", use_dictionary=False
        )
        self._waiting: list[Row] = []

    def add(self, row: Row) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._pa.Table.from_pylist(self._waiting, self._schema))
            self._waiting = []


_COLUMNS = ("pair_id", "prompt", "chosen", "rejected")
_TABLES: Mapping[str, type[_Csv] | type[_Parquet]] = {"csv": _Csv, "parquet": _Parquet}


def _schema(pa: Any, shape: Shape) -> pyarrow.Schema:
    text = pa.string()
    messages = pa.list_(pa.struct([("role", text), ("content", text)]))
    kind = messages if shape is Shape.CONVERSATIONAL else text
    return pa.schema([("pair_id", text), *((name, kind) for name in _COLUMNS[1:])])


def _text(value: str | Messages) -> str:
    if isinstance(value, str):
        return value
    if len(value) == 1:
        return value[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in value)
