"""The held-out pairs of a dataset, without those that the adapter has learned from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import InvalidInput
from services.evaluation.models import Messages


@dataclass(frozen=True)
class HeldOutPair:
    """One pair to score.

    Attributes:
        prompt_key: Equal for pairs of the same prompt.
        chosen: The turns of the preferred answer; likewise the other.
    """

    pair_id: str
    prompt_key: str
    prompt: Messages
    chosen: Messages
    rejected: Messages


def read_held_out(
    eval_file: Path, learned_files: Iterable[Path]
) -> tuple[list[HeldOutPair], list[str]]:
    """Read the pairs that may be scored.

    Args:
        eval_file: An `eval.jsonl`: `pair_id`, `prompt`, `chosen`, `rejected` as messages.
        learned_files: The `train.jsonl` of every dataset that the adapter learned from.

    Returns:
        The pairs in the file's order, and the ids of those left out because their prompt was
        learned from: they would tell what was memorised.

    Raises:
        InvalidInput: A line is not such a pair.
    """
    learned = {prompt_key(row["prompt"]) for file in learned_files for row in _rows(file)}
    pairs, seen = [], []
    for row in _rows(eval_file):
        pair = HeldOutPair(
            pair_id=str(row["pair_id"]),
            prompt_key=prompt_key(row["prompt"]),
            prompt=tuple(row["prompt"]),
            chosen=tuple(row["chosen"]),
            rejected=tuple(row["rejected"]),
        )
        if pair.prompt_key in learned:
            seen.append(pair.pair_id)
        else:
            pairs.append(pair)
    return pairs, seen


def prompt_key(prompt: Iterable[Any]) -> str:
    """Names a prompt by its turns; white space and letter case at the ends don't tell two apart."""
    turns = [[turn["role"], " ".join(turn["content"].split()).casefold()] for turn in prompt]
    text = json.dumps(turns, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def distinct_prompts(pairs: Iterable[HeldOutPair], limit: int) -> list[Messages]:
    """The first prompts, each once."""
    found: dict[str, Messages] = {}
    for pair in pairs:
        found.setdefault(pair.prompt_key, pair.prompt)
    return list(found.values())[:limit]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield _row(line, path, number)
    except FileNotFoundError as error:
        raise InvalidInput(f"{path.name}: expected a file of pairs, found none") from error


def _row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
        for part in ("prompt", "chosen", "rejected"):
            if not row[part] or not all(
                isinstance(turn["role"], str) and isinstance(turn["content"], str)
                for turn in row[part]
            ):
                raise ValueError(f"no messages in {part}")
        if not isinstance(row["pair_id"], str):
            raise ValueError("no pair_id")
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{path.name} line {number}: expected pair_id, prompt, chosen and rejected with "
            f"messages, found {type(error).__name__}"
        ) from error
    return row
