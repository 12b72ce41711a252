"""The essentials of each check, and that no text makes one slow."""

from __future__ import annotations

import pytest

from services.guardrails.guard import Guard, masked
from services.guardrails.models import Action, Finding, Place, Span
from services.guardrails.regression import case_policy

INPUT = Guard(case_policy(), Place.INPUT)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("a@b.co.uk, b@c.org", "[EMAIL], [EMAIL]"),
        ("12.05.2026 0532 416 27 93", "12.05.2026 [PHONE]"),
        ("42 4111 1111 1111 1111", "42 [CARD]"),
        ("ES91 2100 0418 4502 0005 1332 this", "[IBAN] this"),
        ("wait...ali@example.com...ok", "wait...[EMAIL]...ok"),
        ("x https://me:p4ss0000@mail.example.org y", "x [URL_PASSWORD] y"),
        ("\u200bali\u200b@example.com!", "\u200b[EMAIL]!"),
        ("x\ud800 ali@example.com", "x\ud800 [EMAIL]"),
        ("", ""),
    ],
)
def test_what_is_masked(text: str, becomes: str) -> None:
    assert INPUT.check(text).text == becomes


def test_findings_that_overlap_leave_nothing_of_either() -> None:
    found = [
        Finding("a", "one", Action.MASK, Span("one", 1, 4)),
        Finding("b", "two", Action.MASK, Span("two", 3, 6)),
    ]
    assert masked("0123456789", found) == "0[ONE]6789"


def test_a_megabyte_of_prose_is_read() -> None:
    assert INPUT.findings("çok uzun bir metin and more " * 40_000)
