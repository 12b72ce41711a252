"""Files of predictions as self-instruct publishes them: one a model, all over the same prompts.

A row has `prompt`, `response` and mostly `target`, the reference answer of an expert. The answers
of all files to one prompt are its candidates; the reference is kept with the pair, and is no
candidate. The authors ask that nobody trains on their prompts: import them for evaluation.

Source: github.com/yizhongw/self-instruct, human_eval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import Any

import orjson

from services.errors import InvalidInput
from services.preferences.candidates import pairs_of
from services.preferences.drafts import (
    Draft,
    DraftAnswer,
    RowProblem,
    fields_of,
    prompt_of,
    text_of,
)
from services.preferences.models import RowError, Turn
from services.preferences.streams import MAX_LINE_BYTES, Upload

FORMAT = "self-instruct"


@dataclass
class _Task:
    line: int
    turns: tuple[Turn, ...]
    extra: Mapping[str, Any]
    answers: list[DraftAnswer] = field(default_factory=list)


def read(uploads: Mapping[str, Upload]) -> Iterator[Draft | RowError]:
    """The pairs of all files together.

    Args:
        uploads: Files by the name of the model whose answers they hold.

    Returns:
        One by one, each pair, or why a row cannot be used. Lines are those of the first file
        that has the prompt; a reason begins with the name of the file.

    Raises:
        InvalidInput: There are fewer than two files.
    """
    if len(uploads) < 2:
        raise InvalidInput(
            f"{FORMAT}: expected at least two files of predictions over the same prompts, "
            f"found {len(uploads)}; choose them together"
        ).because("two_files", count=len(uploads))
    tasks: dict[str, _Task] = {}
    for name, upload in uploads.items():
        for number, line in upload.lines():
            if line is not None and not line.strip():
                continue
            try:
                _take(tasks, name, number, line)
            except RowProblem as problem:
                yield RowError(number, f"{name}: {problem}")
    for task in tasks.values():
        try:
            yield from pairs_of(task.turns, task.answers, extra=task.extra, line=task.line)
        except RowProblem as problem:
            yield RowError(task.line, str(problem))


def models_of(names: Sequence[str]) -> list[str]:
    """What tells the names of several files apart: each holds the answers of one model."""
    start = len(commonprefix(names)) if len(names) > 1 else 0
    models = [name[start:].partition(".jsonl")[0] or name for name in names]
    # Files of one name stay two files.
    return [
        model if model not in models[:index] else f"{model} ({index + 1})"
        for index, model in enumerate(models)
    ]


def source_of(names: Sequence[str]) -> str:
    """What the names of several files have in common; the name itself of a single one."""
    if len(names) == 1:
        return names[0][:200]
    return commonprefix(names).rstrip("-_. ")[:200] or FORMAT


def digest(uploads: Mapping[str, Upload]) -> str:
    """Of the digests of all files that were read, 64 hex characters."""
    named = sorted(f"{upload.sha256} {name}\n" for name, upload in uploads.items())
    return hashlib.sha256("".join(named).encode("utf-8", "replace")).hexdigest()


def _take(tasks: dict[str, _Task], name: str, number: int, line: bytes | None) -> None:
    if line is None:
        raise RowProblem(f"expected at most {MAX_LINE_BYTES:,} bytes in a line, found more")
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RowProblem(f"expected a JSON object, found broken JSON: {error}") from error
    row = fields_of(value, ("prompt", "response"))
    prompt = text_of(row["prompt"], "prompt")
    # The models' answers go on after "Output:", mostly with a space or an empty line before them.
    answer = DraftAnswer(text_of(row["response"], "response").strip(), {"generator": name})
    target = row.get("target")
    extra = {"reference": text_of(target, "target", blank=True)} if target is not None else {}
    fresh = _Task(number, prompt_of((Turn("user", prompt),)), extra)
    tasks.setdefault(prompt, fresh).answers.append(answer)
