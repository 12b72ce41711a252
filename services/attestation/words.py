"""The words of the verifiers: each reason has one name everywhere, and one sentence a language.

`static/words.json` holds them. The command line, the console and the static page read the same
file, so that evidence is judged in the same words wherever somebody brings it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from services.errors import VerificationFailed

WORDS = Path(__file__).with_name("static") / "words.json"
Section = Literal["reasons", "limits", "checks", "facts", "page"]


@cache
def words() -> dict[str, dict[str, dict[str, str]]]:
    """All words, by language, section and name."""
    found: dict[str, dict[str, dict[str, str]]] = json.loads(WORDS.read_text(encoding="utf-8"))
    return found


def word(section: Section, name: str, language: str = "en") -> str:
    """One of them as it stands."""
    return words()[language][section][name]


def sentence(reason: str, values: Mapping[str, Any], where: str = "", language: str = "en") -> str:
    """A reason in words.

    Args:
        values: What stands in its places.
        where: The part of the evidence that it is about; goes first.
    """
    said = word("reasons", reason, language).format_map(values)
    return f"{where}: {said}" if where else said


def limit(name: str) -> str:
    """What no check can show, in English: as verdicts carry it."""
    return word("limits", name)


def translated_limit(text: str, language: str) -> str:
    """The same in another language, as a sentence of its own."""
    names = {english: name for name, english in words()["en"]["limits"].items()}
    said = word("limits", names[text], language) if text in names else text
    return f"{said[:1].upper()}{said[1:]}."


def shown(value: object, most: int = 60) -> str:
    """Foreign text as errors may repeat it: short, and nothing in it that a terminal obeys."""
    return re.sub("[^ -~]", "?", value if isinstance(value, str) else "")[:most]


class Refused(VerificationFailed):
    """Evidence that is turned down, for a reason that all verifiers name alike.

    Args:
        reason: Its name in `static/words.json`.
        where: The part of the evidence that it is about.
        values: What stands in the sentence's places.
    """

    def __init__(self, reason: str, where: str = "", **values: object) -> None:
        super().__init__(sentence(reason, values, where))
        self.reason = reason
        self.where = where
        self.values = values

    def within(self, where: str) -> Refused:
        """The same, told of a part of something larger."""
        inner = f"{where}: {self.where}" if self.where else where
        return type(self)(self.reason, inner, **self.values)
