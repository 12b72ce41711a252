"""Personal data with a form that can be checked: a number that fails its checksum is no finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import phonenumbers
import re2
from stdnum import iban, luhn
from stdnum.tr import tckimlik
from stdnum.us import ssn

from services.guardrails.checks.check import Claimed, Form
from services.guardrails.models import Span

REACH = 320
"""Longest e-mail address, the longest of all kinds, characters (RFC 3696, erratum 1690: 254)."""

# What ends an address, told by what it is not: a class of all letters of the world is large.
_NOT_LOCAL = r"\s@<>(),;:\"\\\[\]{}|/=!?“”‘’«»"
_NOT_DOMAIN = _NOT_LOCAL + r"'%+_#&*$~"

_REGIONS = ("TR", "US", "GB", "DE")
_DIALLED = re2.compile(
    r"\(?0[\d ().-]+"  # with a trunk prefix or an international one
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4}"  # North America
    r"|5\d{2}[ -]\d{3}[ -]\d{2}[ -]?\d{2}"  # a Turkish mobile without its 0
)


@dataclass(frozen=True)
class _Kind:
    """One sort of personal data.

    Attributes:
        pattern: What may be one; group 0 is it.
        size: How much of such a text, from its start, is one; 0 for none of it.
        run: What has such texts in it one after the other, so that each group of it may begin one;
            None where what the pattern finds is all that there can be.
        skipped: How many characters at the start of such a text do not belong to it.
    """

    name: str
    pattern: str
    size: Callable[[str], int]
    run: str | None = None
    skipped: Callable[[str], int] = lambda _text: 0


def _all(holds: Callable[[str], bool]) -> Callable[[str], int]:
    return lambda text: len(text) if holds(text) else 0


def _before_email(text: str) -> int:
    """What stands without a gap before the 64 characters that can be a local part."""
    local = text.rpartition("@")[0]
    return len(local) - len(local[-64:].lstrip("."))


def _is_email(text: str) -> bool:
    local, _, domain = text.rpartition("@")
    labels = domain.split(".")
    return (
        bool(local)
        and len(text) <= 254
        and all(label and not label.startswith("-") for label in labels)
    )


def _is_phone(text: str) -> bool:
    digits = sum(character.isdigit() for character in text)
    if not 8 <= digits <= 15 or text.count("(") != text.count(")"):
        return False
    if text.startswith("+"):
        return _is_assigned(text, None)
    # Other runs of digits are dates, addresses, orders and parts far more often than telephones.
    if not _DIALLED.fullmatch(text):
        return False
    return any(_is_assigned(text, region) for region in _REGIONS)


def _is_assigned(text: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def _is_card(text: str) -> bool:
    digits = "".join(character for character in text if character.isdigit())
    is_issued = digits[0] in "3456" or 2221 <= int(digits[:4]) <= 2720
    return (
        13 <= len(digits) <= 19
        and is_issued
        and len(set(digits)) > 1
        and bool(luhn.is_valid(digits))
    )


def _iban(text: str) -> int:
    """The words behind an IBAN look like groups of it: they are dropped one by one."""
    while len(text) >= _SHORTEST_IBAN:
        if iban.is_valid(text):
            return len(text)
        text = text.rpartition(" ")[0]
    return 0


_SHORTEST_IBAN = 15
_CARD = r"\b\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b|\b\d{4}[ -]?\d{6}[ -]?\d{5}\b|\b\d{13,19}\b"
_PHONE = r"(?:\+|\b00|\(|\b)\d(?:[ ().-]{0,2}\d){7,14}\b"
_APART = re2.compile(r"[.)/-]|^\d{1,2} $|^\d{6,} $")
_WIDEST = 48
"""Longest card or telephone number with what stands between its digits, characters."""

# Where two kinds claim the same characters, the earlier kind has them.
_KINDS = (
    _Kind(
        "email",
        # No label is empty: behind an ellipsis an address begins, and before one it ends.
        rf"[^{_NOT_LOCAL}.]+(?:\.[^{_NOT_LOCAL}.]+)*@(?:[^{_NOT_DOMAIN}.]+\.)+[^{_NOT_DOMAIN}0-9.-]{{2,24}}",
        _all(_is_email),
        skipped=_before_email,
    ),
    _Kind("iban", r"(?i)\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", _iban),
    _Kind("card", _CARD, _all(_is_card), r"\b\d[\d -]*\d\b"),
    _Kind("tckn", r"\b[1-9]\d{10}\b", _all(tckimlik.is_valid)),
    _Kind("ssn", r"\b\d{3}-\d{2}-\d{4}\b", _all(ssn.is_valid)),
    _Kind("phone", _PHONE, _all(_is_phone), r"(?:[+(]|\b)\d[\d ().+-]*\d\b"),
)
KINDS = tuple(kind.name for kind in _KINDS)

GROWING = (
    # One character more than an address may have, lest too long a one look shorter.
    (rf"[^{_NOT_LOCAL}]+$", 65),
    # What follows one address may be read as the beginning of the next.
    (rf"(?:[^{_NOT_LOCAL}]+@)+[^{_NOT_DOMAIN}]*$", REACH),
    (r"(?:[+(]|\b)\d[\d ().+-]*$|[+(]+$", REACH),
    (r"(?i)\b[A-Z]{2}\d{2}(?: ?[A-Z0-9])* ?$", 64),
)
"""The ends of a text that may still grow into personal data, and how long each can be."""


class PersonalData:
    """E-mail addresses, phone numbers, TCKN, SSN, IBAN and payment cards.

    Args:
        kinds: Which of `KINDS`; all by default.
    """

    name = "pii"
    form: Form = "plain"
    reach = REACH

    def __init__(self, kinds: Iterable[str] = KINDS) -> None:
        wanted = set(kinds)
        self._kinds = [
            (kind, re2.compile(kind.pattern), re2.compile(kind.run) if kind.run else None)
            for kind in _KINDS
            if kind.name in wanted
        ]
        self.patterns = tuple(kind.pattern for kind, _, _ in self._kinds)

    def find(self, text: str) -> Iterator[Span]:
        """See `Check.find`."""
        claimed = Claimed(len(text))
        for kind, pattern, run in self._kinds:
            for begins, row in _candidates(text, claimed, pattern, run):
                skipped = kind.skipped(row)
                start, candidate = begins + skipped, row[skipped:]
                # What is claimed is not looked at again: that is the dear part.
                if claimed.is_free(start, start + len(candidate)) and (
                    size := kind.size(candidate)
                ):
                    claimed.take(kind.name, start, start + size)
        return iter(claimed.spans())


def _candidates(text: str, claimed: Claimed, pattern: Any, run: Any) -> Iterator[tuple[int, str]]:
    """Where one may stand, and what stands there.

    Digits are found in long rows: a date before a telephone number must not hide it, so that one
    is tried again behind what is no mere group of a longer number.
    """
    if run is None:
        for found in pattern.finditer(text):
            yield found.start(), found.group()
        return
    for row in run.finditer(text):
        start, digits = row.start(), row.group()
        before, at = 0, 0
        while len(digits) - at >= 8:
            is_apart = at == 0 or _APART.search(digits[before:at])
            is_apart = is_apart or not claimed.is_free(start + at - 2, start + at)
            if is_apart and (found := pattern.match(digits[at : at + _WIDEST])):
                yield start + at, found.group()
            before, at = at, digits.find(" ", at) + 1
            if at == 0:
                break
