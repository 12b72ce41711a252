r"""The formats in which preference pairs travel, each read into `Draft`s.

| format | rows | where it comes from |
| --- | --- | --- |
| `trl` | `prompt`, `chosen`, `rejected`: plain or conversational; also `chosen_score`, `rejected_score`, `metadata`, `judgments` | TRL `dataset_formats`, explicit prompt |
| `hh` | `chosen`, `rejected` as whole dialogues "\n\nHuman: … \n\nAssistant: …" | Anthropic HH-RLHF |
| `csv` | a header with `prompt`, `chosen`, `rejected`; comma, semicolon or tab | spreadsheets |
| `alpaca-eval` | `instruction`, `output_1`, `output_2`, `preference` from 1 to 2 | AlpacaEval `annotations.json` |
| `label-studio` | tasks with `data` and `annotations` | Label Studio's JSON export |
| `candidates` | `prompt`, `responses` with `text`, `generator`, `score`: a pair of each two | `candidates` |
| `self-instruct` | `prompt`, `response`, `target`; a file a model, several together | `self_instruct` |

`judgments` of a `trl` row say what AI judges made of it: see `drafts.judgments_of`.

JSON rows may come one a line or as one list; any file may be packed with gzip.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson

from services.errors import InvalidInput, UnknownFormat
from services.preferences import self_instruct
from services.preferences.candidates import candidates_row
from services.preferences.drafts import (
    Draft,
    DraftAnswer,
    RowProblem,
    extra_of,
    fields_of,
    judgments_of,
    kind,
    prompt_of,
    refuse,
    score_of,
    split_of,
    text_of,
    turns_of,
    two_answers,
)
from services.preferences.label_studio import label_studio_row
from services.preferences.models import RowError, Turn
from services.preferences.streams import MAX_LINE_BYTES, Upload

FORMATS = ("trl", "hh", "csv", "alpaca-eval", "label-studio", "candidates", "self-instruct")
MAX_ERRORS = 10_000
_MARKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_ROLE = {"Human": "user", "Assistant": "assistant"}
_DELIMITERS = (",", ";", "\t")
_CSV_COLUMNS = ("prompt", "chosen", "rejected")


def read(upload: Upload, format: str) -> tuple[str, Iterator[Draft | RowError]]:
    """The rows of a file.

    Args:
        format: One of `FORMATS`, or `auto`.

    Returns:
        The format and, one by one, each row: good or bad.

    Raises:
        UnknownFormat: The format is none of those, or cannot be told.
        InvalidInput: (while reading) The file as a whole is broken.
        TooLarge: (while reading) There is more of it than allowed.
    """
    if format != "auto" and format not in FORMATS:
        raise UnknownFormat(
            f"expected the format auto, {', '.join(FORMATS)}, found {format!r}"
        ).because("format_unknown", allowed=list(FORMATS), found=format)
    name = detect(upload.head) if format == "auto" else format
    if name == self_instruct.FORMAT:
        return name, self_instruct.read({"file": upload})
    if name == "csv":
        return name, _checked(_csv_rows(upload), _csv_row)
    rows = upload.elements() if upload.head.lstrip()[:1] == b"[" else _json_lines(upload)
    return name, _checked(rows, _ROWS[name])


def detect(head: bytes) -> str:
    """The format of a file, from its first bytes.

    Raises:
        UnknownFormat: It is none of `FORMATS`.
    """
    text = head.decode("utf-8", "replace").lstrip()
    row = _first_object(text)
    if row is not None:
        if found := _format_of(row):
            return found
        names = ", ".join(sorted(row)[:8]) or "none"
        raise UnknownFormat(
            f"expected {_KNOWN}; found JSON objects with the fields {names[:200]}"
        ).because("no_known_format")
    columns = _csv_header(text)[1]
    if "prompt" in columns and ("chosen" in columns or "rejected" in columns):
        return "csv"
    raise UnknownFormat(f"expected {_KNOWN}; found {_describe(head)}").because("no_known_format")


_KNOWN = (
    "JSON with prompt, chosen and rejected (trl), with dialogues in chosen and rejected (hh), with "
    "instruction, output_1 and output_2 (alpaca-eval), with data and annotations (label-studio), with "
    "prompt and responses (candidates) or with prompt and response (self-instruct), "
    "or CSV with the columns prompt, chosen and rejected"
)


def _describe(head: bytes) -> str:
    if not head.strip():
        return "an empty file"
    if head.startswith((b"PK\x03\x04", b"PAR1", b"\xff\xfe", b"\xfe\xff")):
        kinds = {b"PK": "a ZIP or Excel file", b"PA": "a Parquet file"}
        return kinds.get(head[:2], "UTF-16 text")
    if head.lstrip()[:1] in {b"{", b"["}:
        return "JSON in which no object could be read"
    return f"a file that begins with {head[:24].decode('utf-8', 'backslashreplace')!r}"


def _first_object(text: str) -> dict[str, Any] | None:
    """The first JSON object in a list, or on a line of its own."""
    if text.startswith("["):
        try:
            value, _ = json.JSONDecoder().raw_decode(text[1:].lstrip())
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None
    for line in text.splitlines()[:1000] if text.startswith("{") else ():
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict):
            return value
    return None


def _format_of(row: dict[str, Any]) -> str | None:
    if "data" in row and isinstance(row["data"], dict):
        return "label-studio"
    if "instruction" in row and ("output_1" in row or "output_2" in row):
        return "alpaca-eval"
    if "prompt" in row and isinstance(row.get("responses"), list):
        return "candidates"
    if "prompt" in row and "response" in row:
        return self_instruct.FORMAT
    dialogues = [row.get(name) for name in ("chosen", "rejected")]
    if "prompt" not in row and any(
        isinstance(text, str) and _MARKER.match(text) for text in dialogues
    ):
        return "hh"
    return "trl" if row.keys() & {"prompt", "chosen", "rejected"} else None


def _checked(
    rows: Iterator[tuple[int, Any]], parse: Callable[[Any], Draft | list[Draft]]
) -> Iterator[Draft | RowError]:
    for line, row in rows:
        if isinstance(row, RowError):
            yield row
            continue
        try:
            parsed = parse(row)
            for draft in parsed if isinstance(parsed, list) else (parsed,):
                yield replace(draft, line=line)
        except RowProblem as problem:
            yield RowError(line, str(problem))


def _json_lines(upload: Upload) -> Iterator[tuple[int, Any]]:
    for number, line in upload.lines():
        if line is None:
            yield number, _too_long(number)
            continue
        if not line.strip():
            continue
        try:
            yield number, orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, RowError(number, f"expected a JSON object, found broken JSON: {error}")


def _too_long(number: int) -> RowError:
    return RowError(number, f"expected at most {MAX_LINE_BYTES:,} bytes in a line, found more")


def _trl_row(row: Any) -> Draft:
    row = fields_of(row, ("chosen", "rejected"))
    if "prompt" in row:
        value = row["prompt"]
        turns = (
            (Turn("user", text_of(value, "prompt")),)
            if isinstance(value, str)
            else turns_of(value, "prompt")
            if isinstance(value, list)
            else refuse("a text or a list of messages in 'prompt'", kind(value))
        )
        prompt = prompt_of(turns)
        chosen, rejected = (_completion(row[name], name, prompt) for name in ("chosen", "rejected"))
    elif isinstance(row["chosen"], list) and isinstance(row["rejected"], list):
        both = [turns_of(row[name], name) for name in ("chosen", "rejected")]
        prompt, (chosen, rejected) = _part(both[0], both[1])
    else:
        refuse("the fields prompt, chosen, rejected", "no field 'prompt'")
    scores = [score_of(row, f"{name}_score") for name in ("chosen", "rejected")]
    if all(scores) and scores[0]["score"] < scores[1]["score"]:
        refuse(
            "'chosen_score' to be at least 'rejected_score'",
            f"{scores[0]['score']} below {scores[1]['score']}",
        )
    answers = two_answers(DraftAnswer(chosen, scores[0]), DraftAnswer(rejected, scores[1]))
    extra = extra_of(row["metadata"], "metadata") if row.get("metadata") is not None else {}
    if isinstance(row.get("topic"), str):
        extra = {**extra, "topic": text_of(row["topic"], "topic", blank=True)}
    return Draft(
        prompt, answers, preferred=0, extra=extra, split=split_of(row), judgments=judgments_of(row)
    )


def _completion(value: Any, name: str, prompt: tuple[Turn, ...]) -> str:
    if isinstance(value, str):
        return text_of(value, name)
    if not isinstance(value, list):
        refuse(f"a text or a list of messages in {name!r}", kind(value))
    turns = turns_of(value, name)
    # Some data sets repeat the prompt in front of the answer.
    if turns[: len(prompt)] == prompt:
        turns = turns[len(prompt) :]
    return _only_answer(turns, name)


def _only_answer(turns: tuple[Turn, ...], name: str) -> str:
    roles = [turn.role for turn in turns]
    if roles != ["assistant"]:
        found = ", ".join(roles[:6]) or "none"
        refuse(f"one assistant turn after the prompt in {name!r}", f"the turns {found}")
    return turns[0].content


def _hh_row(row: Any) -> Draft:
    row = fields_of(row, ("chosen", "rejected"))
    both = [_dialogue(row[name], name) for name in ("chosen", "rejected")]
    prompt, (chosen, rejected) = _part(both[0], both[1])
    answers = two_answers(DraftAnswer(chosen), DraftAnswer(rejected))
    return Draft(prompt, answers, preferred=0)


def _dialogue(value: Any, name: str) -> tuple[Turn, ...]:
    """The turns of an HH-RLHF dialogue.

    White space around a turn belongs to the format and goes. Turns of the same role in a row, of
    which the data set has a few, are one turn. The last turn may be blank: in a few dialogues one
    of the answers is, and people did prefer it.
    """
    text = text_of(value, name)
    pieces = _MARKER.split(text)
    if pieces[0].strip() or len(pieces) < 3:
        refuse(f"a dialogue that begins with 'Human:' in {name!r}", "none")
    turns: list[Turn] = []
    for role, content in zip(pieces[1::2], pieces[2::2], strict=True):
        turn = Turn(_ROLE[role], content.strip())
        if turns and turns[-1].role == turn.role:
            joined = f"{turns[-1].content}\n\n{turn.content}".strip()
            turns[-1] = Turn(turn.role, joined)
        else:
            turns.append(turn)
    for place, turn in enumerate(turns[:-1], start=1):
        if not turn.content:
            refuse(f"a text in every turn but the last of {name!r}", f"turn {place} empty")
    return tuple(turns)


def _part(
    chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]
) -> tuple[tuple[Turn, ...], tuple[str, str]]:
    """Split two dialogues into the prompt that they share and their last answers."""
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    if same == len(chosen) == len(rejected):
        refuse("two different responses", "the same dialogue twice (an identical pair)")
    for turns, name in ((chosen, "chosen"), (rejected, "rejected")):
        if len(turns) != same + 1 or turns[-1].role != "assistant":
            refuse(
                "dialogues that differ in their last assistant turn only",
                f"{len(turns)} turns in {name!r}, of which the first {same} are in both",
            )
    return prompt_of(chosen[:same], "chosen"), (chosen[-1].content, rejected[-1].content)


def _alpaca_row(row: Any) -> Draft:
    row = fields_of(row, ("instruction", "output_1", "output_2", "preference"))
    answers = two_answers(
        *(
            DraftAnswer(
                text_of(row[f"output_{side}"], f"output_{side}"),
                {"generator": text_of(row[f"generator_{side}"], f"generator_{side}")}
                if row.get(f"generator_{side}") is not None
                else {},
            )
            for side in (1, 2)
        )
    )
    preference = score_of(row, "preference").get("score")
    if preference is not None and not 1 <= preference <= 2:
        refuse("a number from 1 to 2, or null, in 'preference'", str(preference))
    preferred = None if preference is None or preference == 1.5 else int(preference > 1.5)
    extra = {name: row[name] for name in ("annotator", "preference") if row.get(name) is not None}
    turns = (Turn("user", text_of(row["instruction"], "instruction")),)
    return Draft(turns, answers, preferred, extra_of(extra, "annotator"))


def _csv_header(text: str) -> tuple[str, list[str]]:
    """The delimiter and the columns of a first line, lower case."""
    first = text.partition("\n")[0]
    parsed = [(mark, next(csv.reader([first], delimiter=mark), [])) for mark in _DELIMITERS]
    mark, columns = max(parsed, key=lambda found: len(found[1]))
    return mark, [column.strip().lower() for column in columns]


def _csv_rows(upload: Upload) -> Iterator[tuple[int, Any]]:
    delimiter, columns = _csv_header(upload.head.decode("utf-8", "replace").lstrip())
    if missing := [name for name in _CSV_COLUMNS if name not in columns]:
        raise InvalidInput(
            f"line 1: expected a CSV header with {', '.join(_CSV_COLUMNS)}, "
            f"found no column {missing[0]!r}; nothing was imported"
        ).because("no_csv_column", name=missing[0], allowed=list(_CSV_COLUMNS))
    # The limit is the whole module's; lines are limited before they come here.
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(_csv_lines(upload), delimiter=delimiter, strict=True)
    begins, is_header = 1, True
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield begins, RowError(begins, f"expected a CSV row, found a broken one: {error}")
            begins = reader.line_num + 1
            continue
        if cells and not is_header:
            yield begins, _csv_cells(cells, columns, begins)
        is_header = is_header and not cells
        begins = reader.line_num + 1


def _csv_cells(cells: list[str], columns: list[str], line: int) -> dict[str, str] | RowError:
    if len(cells) != len(columns):
        return RowError(line, f"expected {len(columns)} columns, found {len(cells)}")
    return dict(zip(columns, cells, strict=True))


def _csv_lines(upload: Upload) -> Iterator[str]:
    for number, line in upload.lines():
        if line is None:
            raise InvalidInput(f"line {number}: {_too_long(number).reason}; nothing was imported")
        yield line.decode("utf-8", "surrogateescape") + "\n"


def _csv_row(row: dict[str, str]) -> Draft:
    scores: dict[str, float] = {}
    for name in ("chosen_score", "rejected_score"):
        if cell := row.get(name, "").strip():
            try:
                scores[name] = float(cell)
            except ValueError:
                refuse(f"a number in {name!r}", repr(cell[:40]))
    plain = {name: row[name] for name in ("prompt", "chosen", "rejected")}
    return _trl_row({**plain, **scores, "split": row.get("split", "").strip()})


_ROWS: dict[str, Callable[[Any], Draft | list[Draft]]] = {
    "trl": _trl_row,
    "hh": _hh_row,
    "alpaca-eval": _alpaca_row,
    "label-studio": label_studio_row,
    "candidates": candidates_row,
}
