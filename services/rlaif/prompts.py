"""Prompts come in: from a file, from a text field, or from what the tenant's users asked.

| ending | what is read |
| --- | --- |
| `.jsonl`, `.json` | objects with `prompt` (a text or messages), `messages`, or `instruction`; or plain texts |
| `.csv`, `.tsv` | a column `prompt` |
| anything else | one prompt a line; empty lines and lines after `#` are left out |

A file with a bad row is refused whole, with the first rows that are wrong; prompts that come twice
are taken once.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from services.errors import InvalidInput, TooLarge
from services.preferences.drafts import RowProblem, kind, prompt_of, refuse, text_of, turns_of
from services.preferences.models import Turn
from services.preferences.text import prompt_key
from services.rlaif.models import MAX_PROMPTS
from services.tenants.models import Actor

MAX_BYTES = 32 << 20
MAX_CHARS = 32_000
"""Longest dialogue, characters."""
_SHOWN = 3


@dataclass(frozen=True)
class Found:
    """What was read.

    Attributes:
        repeated: Prompts that came more than once, and were taken once.
    """

    prompts: tuple[tuple[Turn, ...], ...]
    repeated: int


class Traffic(Protocol):
    """What users asked the tenant's gateway, where the tenant keeps that.

    Whoever keeps it admits the actor and leaves an audit event of the reading.
    """

    def is_kept(self, tenant_id: str) -> bool:
        """Whether the tenant has opted in to keep what is asked."""
        ...

    def prompts(
        self, actor: Actor, tenant_id: str, *, limit: int, since: datetime | None = None
    ) -> Sequence[Sequence[Mapping[str, str]]]:
        """What was asked, the newest first: turns with `role` and `content`.

        Raises:
            NotPermitted: The actor may not read what users wrote.
        """
        ...


def read(content: bytes, name: str = "") -> Found:
    """Read a file of prompts.

    Args:
        name: The file's name, whose ending tells the format.

    Raises:
        InvalidInput: A row is no prompt, or there is none.
        TooLarge: There is more than is taken at once.
    """
    if len(content) > MAX_BYTES:
        raise TooLarge(f"prompts: expected at most {MAX_BYTES >> 20} MiB, found more").because(
            "too_many_mb", field="prompts", most=MAX_BYTES >> 20
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"prompts: expected UTF-8 text, found another byte at position {error.start + 1}"
        ).because("not_utf8", field="prompts", position=error.start + 1) from error
    ending = name.rpartition(".")[2].lower()
    if ending in {"jsonl", "json"} or (not ending and text.lstrip()[:1] in {"{", "["}):
        return checked(_json_rows(text))
    if ending in {"csv", "tsv"}:
        return checked(_csv_rows(text, "\t" if ending == "tsv" else None))
    return checked(_lines(text))


def pasted(text: str) -> Found:
    """Read what somebody typed: one prompt a line, or JSON.

    Raises:
        InvalidInput: See `read`; likewise TooLarge.
    """
    return read(text.encode("utf-8", "surrogatepass"))


def dialogues(found: Sequence[Sequence[Mapping[str, str]]]) -> Found:
    """Take dialogues that users had; those that no model could answer are left out."""
    kept: list[tuple[int, Any]] = []
    for number, turns in enumerate(found, start=1):
        try:
            kept.append((number, prompt_of(turns_of([dict(turn) for turn in turns], "prompt"))))
        except RowProblem:
            continue
    return checked(iter((number, [vars(turn) for turn in turns]) for number, turns in kept))


def checked(rows: Iterator[tuple[int, Any]]) -> Found:
    """Check rows and put each prompt once.

    Raises:
        InvalidInput: A row is no prompt, or there is none.
        TooLarge: There are too many.
    """
    prompts: dict[str, tuple[Turn, ...]] = {}
    problems: list[str] = []
    repeated = 0
    for number, row in rows:
        try:
            turns = _turns(row)
        except RowProblem as problem:
            problems.append(f"line {number}: {problem}")
            continue
        key = prompt_key(turns)
        repeated += key in prompts
        prompts.setdefault(key, turns)
        if len(prompts) > MAX_PROMPTS:
            raise TooLarge(f"prompts: expected at most {MAX_PROMPTS:,}, found more").because(
                "too_many", field="prompts", most=MAX_PROMPTS
            )
    if problems:
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise InvalidInput(f"prompts: {'; '.join(problems[:_SHOWN])}{more}; nothing was taken")
    if not prompts:
        raise InvalidInput("prompts: expected at least one, found none").because("no_prompts")
    return Found(tuple(prompts.values()), repeated)


def _turns(row: Any) -> tuple[Turn, ...]:
    if isinstance(row, Mapping):
        row = next(
            (row[name] for name in ("prompt", "messages", "instruction") if name in row), None
        )
        if row is None:
            refuse("the field prompt, messages or instruction", "none of them")
    if isinstance(row, str):
        turns: tuple[Turn, ...] = (Turn("user", text_of(row, "prompt").strip()),)
    elif isinstance(row, list):
        turns = prompt_of(_without_answer(turns_of(row, "prompt")))
    else:
        refuse("a text or a list of messages", kind(row))
    if (size := sum(len(turn.content) for turn in turns)) > MAX_CHARS:
        refuse(f"at most {MAX_CHARS:,} characters", f"{size:,}")
    return turns


def _without_answer(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """A dialogue up to its last question: data sets often hold the answer too."""
    return turns[:-1] if len(turns) > 1 and turns[-1].role == "assistant" else turns


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"prompts: expected a JSON list, found broken JSON: {error}"
            ) from error
        yield from enumerate(rows, start=1)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"prompts: line {number}: expected JSON, found broken JSON; nothing was taken"
            ).because("no_json_at", line=number) from error


def _csv_rows(text: str, delimiter: str | None) -> Iterator[tuple[int, Any]]:
    first = text.partition("\n")[0]
    mark = delimiter or max((",", ";", "\t"), key=first.count)
    csv.field_size_limit(MAX_BYTES)
    reader = csv.DictReader(io.StringIO(text), delimiter=mark, strict=True)
    columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    if "prompt" not in columns:
        raise InvalidInput(
            f"prompts: expected a CSV column 'prompt', found {', '.join(columns)[:200] or 'none'}"
        ).because("no_prompt_column")
    try:
        for row in reader:
            yield reader.line_num, row[columns["prompt"]] or ""
    except csv.Error as error:
        raise InvalidInput(
            f"prompts: line {reader.line_num}: expected CSV, found {error}"
        ) from error
