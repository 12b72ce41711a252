from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import streamlit as st

from console import i18n, state
from console.components import errors
from services.errors import ConsoleError, InvalidInput, NotFound, NotSignedIn
from services.tenants.limits import checked_limits
from services.tenants.models import Limits
from services.tenants.names import checked_label, checked_username
from services.training.models import DpoSpec

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for room in ("services", "labeling") for path in (ROOT / room).rglob("*.py"))


def _named() -> Iterator[tuple[str, frozenset[str], str]]:
    """Each sentence that a service names: its name, what stands in it, where it is said."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if ".because(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "because"
            ):
                reason = node.args[0]
                assert isinstance(reason, ast.Constant), f"{path}:{node.lineno}"
                values = frozenset(str(word.arg) for word in node.keywords)
                yield str(reason.value), values, f"{path.relative_to(ROOT)}:{node.lineno}"


def _placeholders(language: i18n.Language, key: str) -> set[str]:
    text = i18n.catalogue(language)[key]
    forms = [text] if isinstance(text, str) else list(text.values())
    return {name for form in forms for name in re.findall(r"{(\w+)}", form)}


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_named_sentence_is_said_with_what_the_service_gives(language: i18n.Language) -> None:
    known = i18n.catalogue(language)
    lacking = [
        (reason, where)
        for reason, values, where in _named()
        if f"refusal.{reason}" not in known
        or not _placeholders(language, f"refusal.{reason}") <= values
    ]
    assert not lacking


def test_no_sentence_is_kept_that_no_service_says() -> None:
    said = {f"refusal.{reason}" for reason, _, _ in _named()}
    kept = {key for key in i18n.catalogue("en") if key.startswith("refusal.")}
    assert kept == said


@pytest.fixture
def turkish() -> Iterator[None]:
    st.session_state[state.LANGUAGE] = "tr"
    yield
    del st.session_state[state.LANGUAGE]


def _refusal(values: Mapping[str, object]) -> ConsoleError:
    spec = {"alias": "acme", "dataset_id": "d", "base_model": "m", **values}
    with pytest.raises(InvalidInput) as refused:
        DpoSpec.from_json(spec)
    return refused.value


@pytest.mark.usefixtures("turkish")
def test_a_turkish_page_refuses_in_turkish_with_turkish_numbers() -> None:
    assert errors.detail(_refusal({"learning_rate": 0.5})) == (
        "Öğrenme hızı: 1e-08 ile 0,01 arasında olmalı, verilen: 0,5."
    )
    assert errors.detail(_refusal({"max_steps": 2_000_000})) == (
        "Adım sayısı: 1 ile 1.000.000 arasında olmalı, verilen: 2.000.000."
    )


@pytest.mark.usefixtures("turkish")
def test_a_field_with_several_words_has_its_name() -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_label("tenant name", "")
    assert errors.detail(refused.value).startswith("Kurum adı: 1 ile 120 karakter")
    with pytest.raises(InvalidInput) as refused:
        checked_limits(Limits(tps=0, rpm=1, daily_tokens=1))
    assert errors.detail(refused.value).startswith("Saniyede istek: 1 ile")


@pytest.mark.usefixtures("turkish")
def test_what_a_stranger_wrote_is_no_markdown_in_a_refusal() -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_username("![x](http://evil.test/x.png) <b>")
    assert "![x](" not in errors.detail(refused.value)
    assert "<b>" not in errors.detail(refused.value)


@pytest.mark.usefixtures("turkish")
def test_a_sentence_without_a_name_is_shown_as_the_service_says_it() -> None:
    assert errors.detail(NotFound("nothing *there*")) == "nothing \\*there\\*"
    assert errors.detail(NotSignedIn("x")).startswith("Kullanıcı adı ile parola")


def test_the_message_of_an_error_stays_english_for_programs() -> None:
    assert "learning_rate: expected a number from" in _refusal({"learning_rate": 0.5}).message
