"""The folder of one evaluation's scoring process. Imports no torch.

    spec.json       the order, written by the worker
    run.lock        locked by the child for as long as it lives
    child.json      process id of the child
    stage.json      what the child is doing, and how far it is
    pairs.jsonl     one line for each scored pair
    answers.jsonl   one line for each prompt that both have answered
    score.log       everything that the child prints
    result.json     how it ended; written last, in one rename

A child that is started again goes on behind the lines that are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.evaluation.models import AnswerPair, PairScore
from services.training.folder import RunFolder


class EvaluationFolder(RunFolder):
    """Reads and writes the files of one evaluation.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.log = path / "score.log"
        self._pairs = path / "pairs.jsonl"
        self._answers = path / "answers.jsonl"

    def scores(self) -> list[PairScore]:
        """The pairs that are scored; each once."""
        found = {row["pair_id"]: PairScore(**row) for row in _whole_lines(self._pairs)}
        return list(found.values())

    def answers(self) -> list[AnswerPair]:
        """The prompts that are answered, in order; each once."""
        found = {
            row["position"]: AnswerPair(**{**row, "prompt": tuple(row["prompt"])})
            for row in _whole_lines(self._answers)
        }
        return [found[position] for position in sorted(found)]

    def add_score(self, score: PairScore) -> None:
        """Keep the scores of one more pair."""
        _append(self._pairs, [asdict(score)])

    def add_answers(self, answers: Iterable[AnswerPair]) -> None:
        """Keep the answers to some more prompts."""
        _append(self._answers, [asdict(answer) for answer in answers])

    def mend(self) -> None:
        """Drop lines that a killed process did not finish; before any is added."""
        for path in (self._pairs, self._answers):
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in _whole_lines(path)]
            half = path.with_suffix(".half")
            half.write_text("".join(lines), encoding="utf-8")
            half.replace(path)


def _append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    # What follows the last line feed is a line that was not finished.
    return [json.loads(line) for line in data.split(b"\n")[:-1]]
