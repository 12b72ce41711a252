"""What a run learns from: read, measured, and put in order. Imports no torch."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from services.errors import InvalidInput
from services.training.models import DpoSpec

Row = dict[str, Any]

UNPAIRED = "kto-train.jsonl"
"""Where a dataset holds single answers and whether each is good, if it was frozen for KTO."""


def read_pairs(path: Path) -> list[Row]:
    """The pairs of a `train.jsonl`: prompt, chosen, rejected, each a list of messages."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    return [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]


def source(folder: Path, spec: DpoSpec) -> Path:
    """The file of a dataset that a run learns from."""
    unpaired = folder / UNPAIRED
    return unpaired if spec.loss_type == "kto" and unpaired.is_file() else folder / "train.jsonl"


def read(path: Path, spec: DpoSpec) -> list[Row]:
    """The rows of a run: pairs, or single answers with their label for KTO."""
    if spec.loss_type != "kto":
        return read_pairs(path)
    if path.name == UNPAIRED:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()]
        return [{name: row[name] for name in ("prompt", "completion", "label")} for row in rows]
    return unpaired(read_pairs(path))


def unpaired(pairs: list[Row]) -> list[Row]:
    """Each answer of each pair alone, the chosen ones good."""
    return [
        {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen"}
        for pair in pairs
        for side in ("chosen", "rejected")
    ]


def arranged(tokenizer: Any, rows: list[Row], spec: DpoSpec) -> tuple[list[Row], int]:
    """Pairs that are short enough, in batches of like length, the batches in seeded order.

    Batches of like length hold little padding. The order is part of the data set (the sampler
    is sequential), so it does not depend on any library's random generator.

    Returns:
        The rows in order, and how many were too long.

    Raises:
        InvalidInput: None was short enough.
    """
    lengths = [pair_length(tokenizer, row) for row in rows]
    short = [i for i, length in enumerate(lengths) if length <= spec.max_length]
    if not short:
        raise InvalidInput(
            f"expected a pair of at most {spec.max_length} tokens (max_length), "
            f"found {len(rows)} pairs, the shortest of {min(lengths, default=0)} tokens"
        )
    randomness = random.Random(spec.seed)
    randomness.shuffle(short)
    short.sort(key=lambda i: lengths[i])
    size = spec.batch_size
    batches = [short[i : i + size] for i in range(0, len(short), size)]
    # A batch that is not full has to stay last, or it would shift all that follow.
    rest = [batches.pop()] if len(batches[-1]) < size else []
    randomness.shuffle(batches)
    return [rows[i] for batch in batches + rest for i in batch], len(rows) - len(short)


def pair_length(tokenizer: Any, row: Row) -> int:
    """Tokens of the longest dialogue of a row, as the chat template writes it."""
    return max(
        len(tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=False))
        for side in ("chosen", "rejected", "completion")
        if side in row
    )
