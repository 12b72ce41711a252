"""What a person did at the desk, as the browser tells it: checked before anything believes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labeling.models import Verdict
from services.errors import InvalidInput

What = Literal[
    "vote", "skip", "undo", "edit", "save", "draft", "close", "revise", "revote", "keep",
    "markdown", "difference", "whole", "touch",
]  # fmt: skip


class Act(BaseModel):
    """One act.

    Attributes:
        n: The browser's name for it, sent back with the answer to it.
        pair: The pair that was on the screen; empty where there was none.
        left: Id of the version that was on the left; likewise right.
        ratings: By response id, by criterion.
        active_ms: Time at the card as the browser measured it, milliseconds.
        response: The version that `text` is to follow.
        drafts: Unsaved texts by response id; an empty one where nothing is left to save.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    do: What
    n: str = Field(max_length=64)
    pair: str = Field(default="", max_length=64)
    left: str = Field(default="", max_length=64)
    right: str = Field(default="", max_length=64)
    verdict: Verdict = 0
    ratings: dict[str, dict[str, int]] = {}
    flags: list[str] = []
    note: str = ""
    reason: str = ""
    active_ms: int | None = Field(default=None, ge=0)
    response: str = Field(default="", max_length=64)
    text: str = ""
    drafts: dict[str, str] = {}


def read(value: Any) -> Act:
    """An act from what came.

    Raises:
        InvalidInput: It is none.
    """
    try:
        return Act.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "act"
        raise InvalidInput(f"{where}: {first['msg'][:200]}") from error
