"""The questions of the bundled demo set; its pairs are `Preferences.load_demo`'s."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

QUESTIONS = Path(__file__).with_name("questions.json")


@dataclass(frozen=True)
class Question:
    """One question that is asked before and after training.

    Attributes:
        must_contain: Stands in a right answer, whatever the case.
        wrong: Stands in the base model's wrong answer.
        trained: Whether the question itself is among the training pairs.
    """

    question: str
    language: str
    must_contain: str
    wrong: str
    trained: bool

    def is_right(self, answer: str) -> bool:
        """Whether the answer says what is true and not what the base model wrongly says."""
        said = answer.casefold()
        return self.must_contain.casefold() in said and self.wrong.casefold() not in said


def questions() -> list[Question]:
    """The demo questions, the first one first."""
    return [Question(**row) for row in json.loads(QUESTIONS.read_text(encoding="utf-8"))]
