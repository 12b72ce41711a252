"""One row of a file, checked and put into turns and answers, whatever format it came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from services.preferences.models import CRITERIA, Turn
from services.preferences.text import defect, normalised

MAX_NUMBER = 2**53
"""Largest number that JSON readers agree on (RFC 8259, section 6)."""
MAX_DEPTH = 32
ROLES = ("system", "user", "assistant")


class RowProblem(Exception):
    """A row that cannot be taken; the message says what was expected and found."""


@dataclass(frozen=True)
class DraftAnswer:
    """One answer as a file gives it.

    Attributes:
        extra: `score` and `generator`, where the file has them.
    """

    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DraftJudgment:
    """What a judge said of a row's answers, as a file gives it.

    Attributes:
        first: Index of the answer that it saw first.
        preferred: Index of the answer that it preferred; None for a tie.
        scores: Of either answer, by criterion, 0 to 10.
    """

    first: int
    preferred: int | None
    scores: tuple[Mapping[str, float], Mapping[str, float]]
    reason: str
    judge: str
    revision: str


@dataclass(frozen=True)
class Draft:
    """One row that can become a pair.

    Attributes:
        preferred: Index of the answer that the file prefers; None for a tie or nothing said.
        split: `train` or `eval` where the file assigns its prompts itself.
        judgments: What AI judges said of it.
        line: Where the row begins; set by the reader of the file.
    """

    turns: tuple[Turn, ...]
    answers: tuple[DraftAnswer, DraftAnswer]
    preferred: int | None
    extra: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    judgments: tuple[DraftJudgment, ...] = ()
    line: int = 0


def refuse(expected: str, found: str) -> NoReturn:
    """Refuse a row."""
    raise RowProblem(f"expected {expected}, found {found}")


def kind(value: Any) -> str:
    """A value's JSON type, in words."""
    names: dict[type, str] = {
        str: "a text", bool: "true or false", int: "a number", float: "a number",
        list: "a list", dict: "an object", type(None): "null",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)


def fields_of(row: Any, required: Sequence[str]) -> Mapping[str, Any]:
    """The row, if it is an object with these fields."""
    if not isinstance(row, dict):
        refuse(f"an object with the fields {', '.join(required)}", kind(row))
    if missing := [name for name in required if name not in row]:
        refuse(f"the fields {', '.join(required)}", f"no field {missing[0]!r}")
    return row


def text_of(value: Any, name: str, *, blank: bool = False) -> str:
    """A text that can be stored and is not empty.

    Args:
        name: The field, for the message.
        blank: Whether white space alone, or nothing, is taken too.
    """
    if not isinstance(value, str):
        refuse(f"a text in {name!r}", kind(value))
    if not blank and not value.strip():
        refuse(f"a text in {name!r}", "an empty one")
    if found := defect(value):
        refuse(f"text that can be stored in {name!r}", found)
    return value


def turns_of(value: Any, name: str) -> tuple[Turn, ...]:
    """A list of messages."""
    if not isinstance(value, list):
        refuse(f"a list of messages in {name!r}", kind(value))
    return tuple(_turn(item, f"{name}[{index}]") for index, item in enumerate(value))


def _turn(item: Any, name: str) -> Turn:
    row = fields_of(item, ("role", "content"))
    role = text_of(row["role"], f"{name}.role")
    if role not in ROLES:
        refuse(f"the role {', '.join(ROLES[:-1])} or {ROLES[-1]} in '{name}'", repr(role[:40]))
    return Turn(role, text_of(row["content"], f"{name}.content"))


def prompt_of(turns: Sequence[Turn], name: str = "prompt") -> tuple[Turn, ...]:
    """Turns that a model can answer: user and assistant in turn, the user last.

    A system message may come first. Chat templates of several models fail on anything else.
    """
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    if not spoken:
        refuse(f"a user turn in {name!r}", "none")
    if spoken[-1].role != "user":
        refuse(f"{name!r} to end with a user turn", f"a turn of the {spoken[-1].role}")
    for index, turn in enumerate(reversed(spoken)):
        wanted = ("user", "assistant")[index % 2]
        if turn.role != wanted:
            place = len(turns) - index
            refuse(f"user and assistant in turn in {name!r}", f"{turn.role!r} as turn {place}")
    if spoken[0].role != "user":
        refuse(f"{name!r} to begin with a user turn", f"a turn of the {spoken[0].role}")
    return tuple(turns)


def score_of(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The score in a field, as an answer's extra; empty where there is none."""
    value = row.get(name)
    if value is None:
        return {}
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(f"a number in {name!r}", kind(value))
    if not abs(value) <= MAX_NUMBER:  # Also true of NaN.
        refuse(f"a number up to {MAX_NUMBER} in {name!r}", str(value)[:40])
    return {"score": value}


def extra_of(value: Any, name: str) -> Mapping[str, Any]:
    """An object that both databases can store."""
    if not isinstance(value, dict):
        refuse(f"an object in {name!r}", kind(value))
    _storable(value, name)
    return value


def _storable(value: Any, name: str) -> None:
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            refuse(f"at most {MAX_DEPTH} levels in {name!r}", "more")
        if isinstance(item, str):
            text_of(item, name, blank=True)
        elif isinstance(item, int | float) and not abs(item) <= MAX_NUMBER:
            refuse(f"numbers up to {MAX_NUMBER} in {name!r}", str(item)[:40])
        elif isinstance(item, dict):
            waiting += [(inner, depth + 1) for inner in (*item.keys(), *item.values())]
        elif isinstance(item, list):
            waiting += [(inner, depth + 1) for inner in item]


def split_of(row: Mapping[str, Any]) -> str | None:
    """The part of the data set to which a row's prompt is bound, if the row says so."""
    value = row.get("split")
    if value not in {None, "", "train", "eval"}:
        refuse("'train' or 'eval' in 'split'", repr(value)[:40])
    return value or None


def two_answers(first: DraftAnswer, second: DraftAnswer) -> tuple[DraftAnswer, DraftAnswer]:
    """Both answers, if they differ."""
    if normalised(first.text) == normalised(second.text):
        refuse("two different responses", "the same text twice (an identical pair)")
    return first, second


MAX_JUDGMENTS = 50
_SIDES = ("chosen", "rejected")


def judgments_of(row: Mapping[str, Any]) -> tuple[DraftJudgment, ...]:
    """The judgments in a row's field `judgments`, which may be absent.

    Each is an object with `first` (`chosen` or `rejected`: which one the judge saw first),
    `preferred` (`chosen`, `rejected` or `tie`) and `judge` (the model's name); it may have
    `revision` (of the instructions), `reason` and `scores`, an object with `chosen` and
    `rejected`, each an object with numbers from 0 to 10 by criterion.
    """
    value = row.get("judgments")
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_JUDGMENTS:
        found = kind(value) if not isinstance(value, list) else str(len(value))
        refuse(f"a list of at most {MAX_JUDGMENTS} in 'judgments'", found)
    return tuple(_judgment(item, f"judgments[{index}]") for index, item in enumerate(value))


def _judgment(item: Any, name: str) -> DraftJudgment:
    row = fields_of(item, ("first", "preferred", "judge"))
    if row["first"] not in _SIDES:
        refuse(f"'chosen' or 'rejected' in '{name}.first'", repr(row["first"])[:40])
    if row["preferred"] not in (*_SIDES, "tie"):
        refuse(f"'chosen', 'rejected' or 'tie' in '{name}.preferred'", repr(row["preferred"])[:40])
    scores = row.get("scores") or {}
    if not isinstance(scores, dict):
        refuse(f"an object in '{name}.scores'", kind(scores))
    return DraftJudgment(
        first=_SIDES.index(row["first"]),
        preferred=None if row["preferred"] == "tie" else _SIDES.index(row["preferred"]),
        scores=(
            _criteria(scores.get("chosen"), f"{name}.scores.chosen"),
            _criteria(scores.get("rejected"), f"{name}.scores.rejected"),
        ),
        reason=text_of(row.get("reason") or "", f"{name}.reason", blank=True),
        judge=text_of(row["judge"], f"{name}.judge"),
        revision=text_of(row.get("revision") or "", f"{name}.revision", blank=True),
    )


def _criteria(value: Any, name: str) -> Mapping[str, float]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        refuse(f"an object in '{name}'", kind(value))
    for criterion, score in value.items():
        if criterion not in CRITERIA:
            refuse(f"{', '.join(CRITERIA)} in '{name}'", repr(criterion)[:40])
        is_number = isinstance(score, int | float) and not isinstance(score, bool)
        if not is_number or not 0 <= score <= 10:
            refuse(f"a number from 0 to 10 in '{name}.{criterion}'", repr(score)[:40])
    return {criterion: float(score) for criterion, score in value.items()}
