"""Every text of the console, in English and Turkish, and how numbers and times are written.

One JSON file per subject in `en/` and `tr/`; a text's key is `<file>.<name>`. A text may be an
object with `one` and `other`: then `count` chooses. Services speak no language but English; what they
refuse is introduced by `errors.*` and, where the sentence has a name, said by `refusal.*`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Literal, cast
from zoneinfo import ZoneInfo

import streamlit as st

from console import state

Language = Literal["en", "tr"]
LANGUAGES: tuple[Language, ...] = ("en", "tr")
NAMES: Mapping[Language, str] = {"en": "English", "tr": "Türkçe"}

_MONTHS: Mapping[Language, tuple[str, ...]] = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "tr": ("Oca", "Şub", "Mar", "Nis", "May", "Haz", "Tem", "Ağu", "Eyl", "Eki", "Kas", "Ara"),
}


@cache
def catalogue(language: Language) -> Mapping[str, str | Mapping[str, str]]:
    """All texts of one language by key."""
    folder = Path(__file__).parent / language
    return {
        f"{path.stem}.{name}": text
        for path in sorted(folder.glob("*.json"))
        for name, text in json.loads(path.read_text(encoding="utf-8")).items()
    }


def language() -> Language:
    """The language of this session: chosen, else the browser's, else English."""
    chosen = state.get(state.LANGUAGE)
    if chosen in LANGUAGES:
        return cast(Language, chosen)
    return "tr" if (st.context.locale or "").lower().startswith("tr") else "en"


def t(key: str, **values: object) -> str:
    """The text of a key in the session's language.

    Args:
        key: `<file>.<name>`.
        values: Fill the `{placeholders}`; whole numbers are grouped as the language does, and
            `count` also chooses between singular and plural.

    Raises:
        KeyError: No such text: a bug, found by the tests.
    """
    text = catalogue(language())[key]
    if not isinstance(text, str):
        text = text["one"] if values.get("count") == 1 and "one" in text else text["other"]
    if not values:
        return text
    shown = {
        name: number(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in values.items()
    }
    return text.format(**shown)


def has(key: str) -> bool:
    """Whether a text of this key exists."""
    return key in catalogue(language())


def number(value: float, digits: int = 0) -> str:
    """A number as the language groups it: 1,234.5 or 1.234,5."""
    text = f"{value:,.{digits}f}"
    if language() == "tr":
        text = text.translate(str.maketrans(",.", ".,"))
    return text.replace("-", "\N{MINUS SIGN}") if value < 0 else text


def written(value: float) -> str:
    """A number with the digits it has and no more: 0.05 or 0,05; 2e-05 or 2e-05."""
    text = f"{value:g}"
    return text.replace(".", ",") if language() == "tr" else text


def percent(fraction: float, digits: int = 0) -> str:
    """A fraction between 0 and 1 as a percentage: 45% or %45."""
    text = number(fraction * 100, digits)
    return f"%{text}" if language() == "tr" else f"{text}%"


def percent_format() -> str:
    """How a slider writes whole percent: `45%` or `%45`."""
    return "%%%d" if language() == "tr" else "%d%%"


def money(micro: int, currency: str = "USD", digits: int = 2) -> str:
    """An amount in integer micro-units, with its currency."""
    return f"{number(micro / 1_000_000, digits)} {currency}"


def when(moment: datetime, zone: str = "Europe/Istanbul") -> str:
    """Day and time of day in a zone: `21 Nov 2026, 14:05`."""
    local = moment.astimezone(ZoneInfo(zone))
    month = _MONTHS[language()][local.month - 1]
    return f"{local.day} {month} {local.year}, {local:%H:%M}"


def clock(moment: datetime, zone: str = "Europe/Istanbul") -> str:
    """Time of day in a zone: `14:05:09`."""
    return f"{moment.astimezone(ZoneInfo(zone)):%H:%M:%S}"


def duration(seconds: float) -> str:
    """A length of time, to two places: `4 s`, `2 min 5 s`, `1 h 20 min`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return t("common.hours_minutes", hours=hours, minutes=minutes)
    if minutes:
        return t("common.minutes_seconds", minutes=minutes, seconds=rest)
    return t("common.seconds", seconds=rest)
