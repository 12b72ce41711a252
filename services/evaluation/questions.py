"""Questions from a file: a line each, with or without what a good answer says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import InvalidInput


@dataclass(frozen=True)
class Question:
    """One question, and a good answer where somebody wrote one."""

    prompt: str
    reference: str | None


def read_questions(path: Path) -> list[Question]:
    """The questions of a file.

    Args:
        path: JSON Lines with `prompt` and optionally `reference`, or the tasks of self-instruct
            (`instruction` and `instances` of `input` and `output`).

    Raises:
        InvalidInput: The file cannot be read, or a line is no question.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path}: expected a text file of questions, found {type(error).__name__}"
        ) from error
    found = [
        _question(line, path, number)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]
    if not found:
        raise InvalidInput(f"{path}: expected at least 1 question, found none")
    return found


def _question(line: str, path: Path, number: int) -> Question:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise TypeError("an object expected")
        return _self_instruct(row) if "instances" in row else _plain(row)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidInput(
            f"{path.name} line {number}: expected `prompt` and perhaps `reference`, or a task of "
            f"self-instruct, found {type(error).__name__}"
        ) from error


def _plain(row: dict[str, Any]) -> Question:
    reference = row.get("reference")
    if not isinstance(row["prompt"], str) or not isinstance(reference, str | None):
        raise TypeError("texts expected")
    return Question(row["prompt"], reference)


def _self_instruct(row: dict[str, Any]) -> Question:
    instance = row["instances"][0]
    given = instance["input"].strip()
    prompt = row["instruction"].strip()
    return Question(f"{prompt}\n\n{given}" if given else prompt, instance["output"].strip() or None)
