from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import streamlit as st

from console import i18n, state

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for room in ("console", "pages")
    for path in (ROOT / room).rglob("*.py")
    if not {"playground", "cli", "processes"} & set(path.relative_to(ROOT).parts)
)
SUBJECTS = {path.stem for path in (ROOT / "console" / "i18n" / "en").glob("*.json")}
KEY = re.compile(rf"^({'|'.join(sorted(SUBJECTS))})\.[a-z0-9_]+$")


def _pairs(text: str | Mapping[str, str]) -> Mapping[str, str]:
    return {"": text} if isinstance(text, str) else text


def _literals() -> Iterator[tuple[str, bool]]:
    """Each string in the sources; True where it is only the beginning of a key (an f-string)."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr) and node.values:
                first = node.values[0]
                if isinstance(first, ast.Constant) and len(node.values) > 1:
                    yield str(first.value), True
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value, False


def _called() -> Iterator[tuple[str, str]]:
    """Each literal key that `t(…)` is called with, and where."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "t"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_both_languages_have_the_same_keys() -> None:
    assert set(i18n.catalogue("en")) == set(i18n.catalogue("tr"))


def test_both_languages_fill_the_same_placeholders() -> None:
    def names(language: i18n.Language, key: str) -> set[str]:
        texts = _pairs(i18n.catalogue(language)[key]).values()
        return {name for text in texts for name in re.findall(r"{(\w+)}", text)}

    different = [key for key in i18n.catalogue("en") if names("en", key) != names("tr", key)]
    assert not different


def test_every_plural_has_an_other() -> None:
    lacking = [
        (language, key)
        for language in i18n.LANGUAGES
        for key, text in i18n.catalogue(language).items()
        if not isinstance(text, str) and "other" not in text
    ]
    assert not lacking


def test_every_text_that_is_asked_for_exists() -> None:
    missing = [(key, where) for key, where in _called() if key not in i18n.catalogue("en")]
    assert not missing


def test_no_text_is_unused() -> None:
    whole = {text for text, begins in _literals() if not begins}
    beginnings = tuple(
        text for text, begins in _literals() if begins and text.partition(".")[0] in SUBJECTS
    )
    unused = [
        key for key in i18n.catalogue("en") if key not in whole and not key.startswith(beginnings)
    ]
    assert not unused


def test_no_text_is_left_in_english() -> None:
    alike = {
        key
        for key, text in i18n.catalogue("en").items()
        if isinstance(text, str)
        and text == i18n.catalogue("tr")[key]
        and " " in re.sub(r"{\w+}|[^\w ]", "", text).strip()
    }
    assert not alike


@pytest.fixture
def turkish() -> Iterator[None]:
    st.session_state[state.LANGUAGE] = "tr"
    yield
    del st.session_state[state.LANGUAGE]


@pytest.fixture
def english() -> Iterator[None]:
    st.session_state[state.LANGUAGE] = "en"
    yield
    del st.session_state[state.LANGUAGE]


@pytest.mark.usefixtures("turkish")
def test_turkish_writes_numbers_its_own_way() -> None:
    assert i18n.number(1234567) == "1.234.567"
    assert i18n.number(1234.5, 2) == "1.234,50"
    assert i18n.percent(0.4567, 1) == "%45,7"
    assert i18n.when(datetime(2026, 8, 21, 21, 30, tzinfo=UTC)) == "22 Ağu 2026, 00:30"
    assert i18n.duration(65) == "1 dk 5 sn"


@pytest.mark.usefixtures("english")
def test_english_writes_numbers_its_own_way() -> None:
    assert i18n.number(-1234.5, 1) == "\N{MINUS SIGN}1,234.5"
    assert i18n.percent(0.4567, 1) == "45.7%"
    assert i18n.money(12_500_000) == "12.50 USD"
    assert i18n.duration(3600) == "1 h 0 min"
    assert i18n.t("text.cut", count=1) == "… and 1 more character"
    assert i18n.t("text.cut", count=2000) == "… and 2,000 more characters"
