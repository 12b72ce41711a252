"""What every check is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from services.guardrails.models import Span

Form = Literal["plain", "folded", "whole", "folded whole", "raw"]
"""What a check reads: the plain text, the folded one or the one that came (`raw`); `whole` and
`raw` where it reads it whether or not a pattern was found in it."""


class Check(Protocol):
    """Finds one sort of thing.

    Attributes:
        patterns: RE2 patterns over the text in the check's form; where none of them is found,
            there is nothing to find. Empty for a check that reads the whole text.
        reach: Longest text that can be a finding, characters; 0 where only a whole text can be.
    """

    name: str
    form: Form
    patterns: tuple[str, ...]
    reach: int

    def find(self, text: str) -> Iterable[Span]:
        """Where it is found, in the order of the text; they may overlap."""
        ...


class Claimed:
    """Which characters of a text are found already; asking and taking cost what the piece is long.

    Args:
        size: Of the text, characters.
    """

    def __init__(self, size: int) -> None:
        self._taken = bytearray(size)
        self._spans: list[Span] = []

    def is_free(self, start: int, end: int) -> bool:
        """Whether nobody has any of it."""
        return self._taken.find(1, start, end) < 0

    def is_known(self, start: int, end: int) -> bool:
        """Whether all of it is found already."""
        return self._taken.find(0, start, end) < 0

    def take(self, kind: str, start: int, end: int) -> None:
        """Make a piece a finding."""
        self._taken[start:end] = b"\1" * (end - start)
        self._spans.append(Span(kind, start, end))

    def spans(self) -> list[Span]:
        """All findings, in the order of the text."""
        return sorted(self._spans, key=lambda span: span.start)
