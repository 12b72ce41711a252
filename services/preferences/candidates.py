"""Several answers to one prompt, which become a pair each with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from services.preferences.drafts import (
    Draft,
    DraftAnswer,
    extra_of,
    fields_of,
    kind,
    prompt_of,
    refuse,
    score_of,
    split_of,
    text_of,
    turns_of,
)
from services.preferences.models import Turn
from services.preferences.text import normalised

MAX_CANDIDATES = 8
"""Answers of a row; eight make 28 pairs."""


def candidates_row(row: Any) -> list[Draft]:
    """The pairs of one row: `prompt`, and `responses` with `text`, `generator` and `score`.

    Where both answers of a pair have a score, the higher one is preferred. Equal answers are one
    candidate, which then has the names of all its generators.

    Raises:
        RowProblem: No prompt, or fewer than two different answers.
    """
    row = fields_of(row, ("prompt", "responses"))
    value = row["prompt"]
    turns = (
        turns_of(value, "prompt")
        if isinstance(value, list)
        else (Turn("user", text_of(value, "prompt")),)
    )
    listed = row["responses"]
    if not isinstance(listed, list):
        refuse("a list of objects in 'responses'", kind(listed))
    answers = [_answer(item, f"responses[{index}]") for index, item in enumerate(listed)]
    extra = extra_of(row["metadata"], "metadata") if row.get("metadata") is not None else {}
    return pairs_of(prompt_of(turns), answers, extra=extra, split=split_of(row))


def _answer(item: Any, name: str) -> DraftAnswer:
    row = fields_of(item, ("text",))
    extra = score_of(row, "score")
    if row.get("generator") is not None:
        extra["generator"] = text_of(row["generator"], f"{name}.generator")
    return DraftAnswer(text_of(row["text"], f"{name}.text"), extra)


def pairs_of(
    turns: tuple[Turn, ...],
    answers: Sequence[DraftAnswer],
    *,
    extra: Mapping[str, Any],
    split: str | None = None,
    line: int = 0,
) -> list[Draft]:
    """Each answer with each other one.

    Raises:
        RowProblem: There are fewer than two different answers, or too many.
    """
    different: dict[str, DraftAnswer] = {}
    for answer in answers:
        key = normalised(answer.text)
        different[key] = _merged(different[key], answer) if key in different else answer
    if len(different) < 2:
        refuse("at least two different responses", f"{len(different)} of {len(answers)}")
    if len(different) > MAX_CANDIDATES:
        refuse(f"at most {MAX_CANDIDATES} different responses", str(len(different)))
    return [
        Draft(turns, (one, other), _preferred(one, other), extra, split, line=line)
        for one, other in combinations(different.values(), 2)
    ]


def _merged(one: DraftAnswer, same: DraftAnswer) -> DraftAnswer:
    names = [each.extra["generator"] for each in (one, same) if "generator" in each.extra]
    together = {"generator": ", ".join(dict.fromkeys(names))} if names else {}
    # Two scores of one text contradict each other: then neither is kept.
    scores = {each.extra["score"] for each in (one, same) if "score" in each.extra}
    score = {"score": scores.pop()} if len(scores) == 1 else {}
    return DraftAnswer(one.text, {**together, **score})


def _preferred(one: DraftAnswer, other: DraftAnswer) -> int | None:
    scores = [answer.extra.get("score") for answer in (one, other)]
    if scores[0] is None or scores[1] is None or scores[0] == scores[1]:
        return None
    return int(scores[1] > scores[0])
