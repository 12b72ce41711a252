"""Checks of a whole text: its length, its language, and whether it repeats a protected work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import re2

from services.guardrails.checks.check import Form
from services.guardrails.models import Span
from services.guardrails.text import folded, plain


class Length:
    """Texts that are too long as they came: what is invisible costs tokens, too.

    Args:
        max_characters: The longest that is not, > 0.
    """

    name = "length"
    form: Form = "raw"
    patterns: tuple[str, ...] = ()
    reach = 0

    def __init__(self, max_characters: int) -> None:
        self.most = max_characters

    def find(self, text: str) -> Iterator[Span]:
        """See `Check.find`."""
        if len(text) > self.most:
            yield Span("too_long", self.most, len(text))


_FREQUENT_WORDS = {
    "tr": (
        "ve bir bu için ile de da ne çok daha olarak olan gibi ama mı mi mu mü değil var yok ben sen biz siz "
        "nasıl neden hangi kadar sonra önce her şey lütfen olur olduğu göre ancak bana sana onun"
    ),
    "en": (
        "the and of to in is that it for you with on as are this be at have from or an not what can your how "
        "please which would i do we they was will there about if has my"
    ),
    "de": (
        "der die das und ist nicht ein eine zu den mit von auf für sich dem ich sie auch es wie im was kann wir "
        "des werden bitte oder haben einen war aber nach bei"
    ),
    "fr": (
        "le la les et est des une un du que pour dans ce il je vous nous pas sur avec qui au en plus par sont "
        "comment quelle quel cette mais ou être votre à"
    ),
    "es": (
        "el la los las y es que de un una en por con para no se su lo como más pero sus al del está qué cómo "
        "cuál este son ha muy también o mi"
    ),
}
_DIGITS = 16
"""Bits that each language has in a packed count; a sample has far fewer words."""

_PLACES = {code: number * _DIGITS for number, code in enumerate(_FREQUENT_WORDS)}
_FREQUENT: dict[bytes, int] = {}
"""By word: a one in the place of each language that says it often, so that one pass counts all."""

for _code, _listed in _FREQUENT_WORDS.items():
    for _one in set(_listed.split()):
        _FREQUENT[_one.encode()] = _FREQUENT.get(_one.encode(), 0) + (1 << _PLACES[_code])
LANGUAGES = ("tr", "en", "de", "fr", "es", "ar", "ru", "zh", "ja", "ko", "el", "he")
_SCRIPTS = {
    "ar": re2.compile(r"\p{Arabic}"),
    "ru": re2.compile(r"\p{Cyrillic}"),
    "ja": re2.compile(r"[\p{Hiragana}\p{Katakana}]"),
    "zh": re2.compile(r"\p{Han}"),
    "ko": re2.compile(r"\p{Hangul}"),
    "el": re2.compile(r"\p{Greek}"),
    "he": re2.compile(r"\p{Hebrew}"),
}
_OTHER_SCRIPT = re2.compile("[\u0370-\u1fff\u2e80-\uffdc]")
_TURKISH_ONLY = "ğışİĞŞ"
_ENOUGH = 3
"""Points below which a text is too short, or too technical, to be said to be in a language."""

_SAMPLE = 500
"""Characters that are looked at; more would tell no more."""


def language(text: str) -> str | None:
    """The language of a text, out of `LANGUAGES`; None where that cannot be said.

    A script of its own decides at once, where it has a third of the letters; among the languages
    of the Latin script the frequent words of each are counted. Only the beginning is read.
    """
    sample = text[:_SAMPLE]
    if not sample.isascii() and _OTHER_SCRIPT.search(sample):
        letters = sum(character.isalpha() for character in sample)
        for code, script in _SCRIPTS.items():
            if 3 * len(script.findall(sample)) > max(letters, 1):
                return code
    words = _words(sample.replace("İ", "i").lower())
    packed = sum(filter(None, map(_FREQUENT.get, words)))
    points = {code: packed >> place & (1 << _DIGITS) - 1 for code, place in _PLACES.items()}
    if not sample.isascii():
        points["tr"] += sum(map(sample.count, _TURKISH_ONLY))
    best, second = sorted(points, key=points.__getitem__, reverse=True)[:2]
    if points[best] < _ENOUGH or points[best] == points[second]:
        return None
    return best


class OtherLanguage:
    """Texts that are surely in a language that was not asked for.

    Args:
        allowed: Out of `LANGUAGES`.
    """

    name = "language"
    form: Form = "whole"
    patterns: tuple[str, ...] = ()
    reach = 0

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)

    def find(self, text: str) -> Iterator[Span]:
        """See `Check.find`."""
        found = language(text)
        if found is not None and found not in self._allowed:
            yield Span(found, 0, len(text))


_MARKS = b"\"'`.,;:!?()[]{}<>-*_/|"
_BLANK_MARKS = bytes.maketrans(_MARKS, b" " * len(_MARKS))
_FAR_MARKS = tuple(mark.encode() for mark in "“”‘’«»…–—")
_FAR_LEADS = (b"\xe2\x80", b"\xc2\xab", b"\xc2\xbb")
"""What these begin with: a text has none of them where it has none of the three."""


class Copyright:
    """Texts that repeat a protected work word by word.

    A text is compared only where two words in a row are those with which some run of a work
    begins, so that an ordinary text costs little more than a look at its words.

    Args:
        works: Texts by title; a work shorter than `run` words cannot be recognised.
        run: Words in a row that count as a repetition, at least 4.
    """

    name = "copyright"
    form: Form = "folded whole"
    patterns: tuple[str, ...] = ()

    def __init__(self, works: Sequence[tuple[str, str]], run: int = 12) -> None:
        self._run = run
        self._titles: dict[tuple[bytes, ...], str] = {}
        self.reach = 0
        for title, work in works:
            listed = _words(folded(plain(work).text))
            for start in range(len(listed) - run + 1):
                part = tuple(listed[start : start + run])
                self._titles.setdefault(part, title)
                self.reach = max(self.reach, sum(map(len, part)) + 3 * run)
        self._openings = {part[:2] for part in self._titles}
        self._first = {part[0] for part in self._titles}

    def find(self, text: str) -> Iterator[Span]:
        """See `Check.find`; each work that is repeated is one finding over the whole text."""
        words = _words(text)
        openings, run, seen = self._openings, self._run, set[str]()
        if self._first.isdisjoint(words) or openings.isdisjoint(
            zip(words, words[1:], strict=False)
        ):
            return
        for number, opening in enumerate(zip(words, words[1:], strict=False)):
            if opening not in openings:
                continue
            title = self._titles.get(tuple(words[number : number + run]))
            if title is not None and title not in seen:
                seen.add(title)
                yield Span(title, 0, len(text))


def _words(text: str) -> list[bytes]:
    """The words of a text, in UTF-8, without the marks around them."""
    said = text.encode("utf-8", "replace")
    if not text.isascii() and any(lead in said for lead in _FAR_LEADS):
        for mark in _FAR_MARKS:
            said = said.replace(mark, b" ")
    return said.translate(_BLANK_MARKS).split()
