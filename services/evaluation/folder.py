"""The folder of one evaluation's scoring process. Imports no torch.

    spec.json       the order, written by the worker
    run.lock        locked by the child for as long as it lives
    child.json      process id of the child
    stage.json      what the child is doing, and how far it is
    pairs.jsonl     one line for each scored pair
    answers.jsonl   one line for each prompt that both have answered
    texts.jsonl     one line for each neutral text that both have read
    tasks.jsonl     one line for each document of lm-eval's tasks
    asked.jsonl     one line for each question to the judge, with what it may cost, before it is
                    sent; a later line of the same question counts
    judged.jsonl    one line for each verdict of the judge; written by the worker
    score.log       everything that the child prints
    result.json     how it ended; written last, in one rename

A child that is started again goes on behind the lines that are there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.evaluation.models import (
    AnswerPair,
    JudgeScore,
    PairScore,
    TaskScore,
    TextScore,
)
from services.training.folder import RunFolder


class EvaluationFolder(RunFolder):
    """Reads and writes the files of one evaluation.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.log = path / "score.log"

    def scores(self) -> list[PairScore]:
        """The pairs that are scored; each once."""
        return list({row["pair_id"]: PairScore(**row) for row in self._rows("pairs")}.values())

    def answers(self) -> list[AnswerPair]:
        """The prompts that are answered, in order; each once."""
        found = {
            row["position"]: AnswerPair(**{**row, "prompt": tuple(row["prompt"])})
            for row in self._rows("answers")
        }
        return [found[position] for position in sorted(found)]

    def texts(self) -> list[TextScore]:
        """The neutral texts that are read; each once."""
        return list({row["text_id"]: TextScore(**row) for row in self._rows("texts")}.values())

    def tasks(self) -> list[TaskScore]:
        """The documents of tasks that are done; each once."""
        found = {(row["task"], row["document"]): TaskScore(**row) for row in self._rows("tasks")}
        return list(found.values())

    def judged(self) -> list[JudgeScore]:
        """The verdicts of the judge; each once."""
        found = {(row["position"], row["first"]): JudgeScore(**row) for row in self._rows("judged")}
        return list(found.values())

    def add_score(self, score: PairScore) -> None:
        """Keep the scores of one more pair."""
        self._append("pairs", [asdict(score)])

    def add_answers(self, answers: Iterable[AnswerPair]) -> None:
        """Keep the answers to some more prompts."""
        self._append("answers", [asdict(answer) for answer in answers])

    def add_texts(self, scores: Iterable[TextScore]) -> None:
        """Keep what both models think of some more texts."""
        self._append("texts", [asdict(score) for score in scores])

    def add_tasks(self, scores: Iterable[TaskScore]) -> None:
        """Keep how both models did some more documents."""
        self._append("tasks", [asdict(score) for score in scores])

    def add_judged(self, score: JudgeScore) -> None:
        """Keep one more verdict of the judge, which cost money: on the disk before the next."""
        self._append("judged", [asdict(score)], durable=True)

    def asked(self) -> dict[tuple[int, str], int]:
        """The questions that were sent to the judge, with what each may have cost, micro-USD."""
        return {(row["position"], row["first"]): row["owed"] for row in self._rows("asked")}

    def add_asked(self, question: tuple[int, str], owed: int) -> None:
        """Note a question before it is sent, or that nothing is owed for it."""
        position, first = question
        row = {"position": position, "first": first, "owed": owed}
        self._append("asked", [row], durable=True)

    def mend(self, *names: str) -> None:
        """Drop lines that a killed process did not finish; before any is added."""
        for name in names:
            path = self._file(name)
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in _whole_lines(path)]
            half = path.with_suffix(".half")
            half.write_text("".join(lines), encoding="utf-8")
            half.replace(path)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.jsonl"

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return _whole_lines(self._file(name))

    def _append(self, name: str, rows: Iterable[dict[str, Any]], *, durable: bool = False) -> None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with self._file(name).open("a", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    # What follows the last line feed is a line that was not finished.
    return [json.loads(line) for line in data.split(b"\n")[:-1]]
