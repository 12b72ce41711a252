"""Gives lm-eval the documents that lie beside the task files: nothing is fetched or cached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets


def load(*, name: str, **_told: Any) -> dict[str, datasets.Dataset]:
    """The documents of one task, as its one split `test`.

    Args:
        name: The task's name, which is also the file's.
    """
    # lm-eval also hands on what its caller tells every task, such as the model's name.
    lines = (Path(__file__).parent / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}
