"""The questions that evidence is asked, each with its answer in the words of all verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.attestation.words import Refused, sentence


@dataclass(frozen=True)
class Check:
    """One question to the evidence and its answer.

    Attributes:
        detail: The answer in English.
        reason: Its name in `words`, in which it can be told in other languages; likewise the
            `values` that stand in its places, and `where` in the evidence it was found.
    """

    name: str
    ok: bool
    detail: str
    reason: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    def told(self, language: str) -> str:
        """The answer in another language, as far as it has a name."""
        if not self.reason:
            return self.detail
        return sentence(self.reason, self.values, self.where, language)


def well(name: str, reason: str, **values: Any) -> Check:
    """A check that came out well."""
    return Check(name, True, sentence(reason, values), reason, values)


def bad(name: str, reason: str, **values: Any) -> Check:
    """A check that failed."""
    return Check(name, False, sentence(reason, values), reason, values)


def failed(name: str, error: Refused) -> Check:
    """A check that failed because something in it was turned down."""
    return Check(name, False, error.message, error.reason, error.values, error.where)
