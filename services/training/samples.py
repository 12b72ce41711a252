"""How long the texts of pairs are, in characters: what an estimate is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from services.preferences.models import Pair

Lengths = tuple[int, int, int]
"""Characters of the prompt and of both answers."""


def lengths_in(folder: Path, limit: int) -> list[Lengths]:
    """Of the first pairs of a frozen dataset."""
    with (folder / "train.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, limit)]
    return [tuple(_chars(row[part]) for part in ("prompt", "chosen", "rejected")) for row in rows]  # type: ignore[misc]  # three of them


def lengths_of(pair: Pair) -> Lengths:
    """Of a pair that is not frozen."""
    first, second = (len(response.text) for response in pair.responses)
    return sum(len(turn.content) for turn in pair.prompt.turns), first, second


def _chars(found: str | Sequence[Mapping[str, Any]]) -> int:
    if isinstance(found, str):
        return len(found)
    return sum(len(str(turn["content"])) for turn in found)
