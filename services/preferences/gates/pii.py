"""Personal data and secrets in a text: which kinds there are, never what they say.

A number is only called a card, an account or an identity number if its check digits are right.
Every pattern runs in RE2, in time linear in the text, and most texts are through after one scan
for long runs of digits and a few plain searches.
"""

from __future__ import annotations

from collections.abc import Iterator

import phonenumbers
import re2
from stdnum import iban, luhn
from stdnum.tr import tckimlik

PERSONAL = ("email", "phone", "card", "iban", "national_id")
SECRETS = ("private_key", "access_key", "token")
MAX_LOOKED_AT = 200_000
"""Characters of a text that are searched."""

_EMAIL = re2.compile(
    r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,8}[A-Za-z]{2,24}"
)
_DIGITS = re2.compile(r"[+(]?\d(?:[ .\-()/]{0,2}\d){8,22}")
# With a trunk prefix or an area code in brackets; of North America; a Turkish mobile without its 0.
_DIALLED = re2.compile(
    r"[(]?0[\d .\-()/]+|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[ .-]\d{3}[ .-]\d{4}"
    r"|5\d{2} \d{3} \d{2} ?\d{2}"
)
_IBAN = re2.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
_SECRETS = (
    ("private_key", "PRIVATE KEY-----", re2.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----")),
    ("access_key", "AKIA", re2.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("access_key", "AIza", re2.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("token", "gh", re2.compile(r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{60,})\b")),
    ("token", "sk-", re2.compile(r"\bsk-(?:ant-|proj-|live-)?[0-9A-Za-z_-]{24,}\b")),
    ("token", "sk_live_", re2.compile(r"\b[sr]k_live_[0-9A-Za-z]{20,}\b")),
    ("token", "xox", re2.compile(r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}\b")),
    ("token", "hf_", re2.compile(r"\bhf_[0-9A-Za-z]{34}\b")),
    ("token", "glpat-", re2.compile(r"\bglpat-[0-9A-Za-z_-]{20,}\b")),
    (
        "token",
        "eyJ",
        re2.compile(r"\beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}"),
    ),
)
_REGIONS = ("TR", "US", "GB")
# Names that RFC 2606 keeps for examples belong to nobody.
_EXAMPLES = ("@example.", ".example", ".test", ".invalid", "@localhost")


def personal(text: str) -> frozenset[str]:
    """Which kinds of personal data a text holds, out of `PERSONAL`."""
    text = text[:MAX_LOOKED_AT]
    found = set()
    if "@" in text and any(not _is_example(hit) for hit in _all(_EMAIL, text)):
        found.add("email")
    if runs := list(_all(_DIGITS, text)):
        for run in runs:
            found.update(_kinds_of_number(run))
        # Every country's account numbers hold a run of digits that is long enough.
        found.update("iban" for hit in _all(_IBAN, text) if iban.is_valid(hit))
    return frozenset(found)


def secrets(text: str) -> frozenset[str]:
    """Which kinds of secrets a text holds, out of `SECRETS`."""
    text = text[:MAX_LOOKED_AT]
    return frozenset(
        kind for kind, mark, pattern in _SECRETS if mark in text and pattern.search(text)
    )


def _all(pattern: re2._Regexp[str], text: str) -> Iterator[str]:
    return (hit.group() for hit in pattern.finditer(text))


def _is_example(address: str) -> bool:
    domain = "@" + address.rpartition("@")[2].lower()
    return any(domain.startswith(mark) or domain.endswith(mark) for mark in _EXAMPLES)


def _kinds_of_number(run: str) -> Iterator[str]:
    digits = "".join(filter(str.isdigit, run))
    if len(set(digits)) < 2:
        return  # 000-000-0000 and its like are placeholders.
    if len(digits) == 11 and run.isdigit() and tckimlik.is_valid(digits):
        yield "national_id"
    elif 13 <= len(digits) <= 19 and digits[0] in "3456" and luhn.is_valid(digits):
        yield "card"
    elif _is_phone(run.strip(" .-/"), digits):
        yield "phone"


def _is_phone(run: str, digits: str) -> bool:
    if not 9 <= len(digits) <= 15:
        return False
    if run.startswith("+"):
        return _is_assigned(run, None)
    # Other runs of digits are dates, orders, parts and sums far more often than telephones.
    if not _DIALLED.fullmatch(run):
        return False
    return any(_is_assigned(run, region) for region in _REGIONS)


def _is_assigned(run: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(run, region))
    except phonenumbers.NumberParseException:
        return False
