from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preferences.gates.pii import PERSONAL, SECRETS, found_in

# Numbers that are published as examples, with valid check digits.
TCKN, IBAN, CARD = "10000000146", "TR33 0006 1005 1978 6457 8413 26", "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to ayse.yilmaz@kurum.com.tr, please.", "email"),
        (f"Kimlik numaram {TCKN}.", "tckn"),
        (f"My account is {IBAN}.", "iban"),
        (f"Pay with {CARD} now", "card"),
        ("Call +90 532 123 45 67 at noon", "phone"),
        ("Beni 0532 123 45 67 numarasından arayın", "phone"),
        ("Call (212) 736-5000 today", "phone"),
    ],
)
def test_personal_data_is_told_by_kind(text: str, kind: str) -> None:
    assert found_in(text) == ({kind}, frozenset())


@pytest.mark.parametrize(
    "text",
    [
        "In 1453, 2,147,483,647 is the largest of them; 3.14159265358979.",
        "Kimlik numaram 12345678901.",
        "Pay with 4111 1111 1111 1112 now",
        "TR33 0006 1005 1978 6457 8413 27",
        "Call 000-000-0000",
        "ada@example.com and bob@localhost",
        "2026-11-21 12:30:45, ISBN 9780131103627",
        "a @ b, user@",
    ],
)
def test_what_only_looks_like_it_is_let_through(text: str) -> None:
    assert found_in(text) == (frozenset(), frozenset())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 4, "private_key"),
        ("key AKIA" + "IOSFODNN7EXAMPLE", "aws_key"),
        ("token gh" + "p_" + "a1B2" * 9, "github_token"),
        ("sk-" + "proj-" + "abcDEF123" * 4, "openai_key"),
    ],
)
def test_secrets_are_told_by_kind(text: str, kind: str) -> None:
    assert found_in(text) == (frozenset(), {kind})


def test_prose_holds_no_secret() -> None:
    text = "A task-based, ghost-like, sk-etchy idea; AKIA is a car?"
    assert found_in(text) == (frozenset(), frozenset())


@given(st.text(max_size=300))
def test_any_text_is_looked_through(text: str) -> None:
    personal, secrets = found_in(text)
    assert personal <= set(PERSONAL)
    assert secrets <= set(SECRETS)
