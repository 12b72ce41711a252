"""Texts made plain, so that a disguise hides nothing.

`Plain` is a text in compatibility form (NFKC) without invisible characters, together with the
way back to the text as it was: what is masked is masked there. `folded` goes further and loses
the way back: lower case, Turkish letters as their Latin neighbours, look-alikes of other
alphabets as Latin, spaced-out words closed; patterns of phrases are written for that form.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import re2

# Soft hyphen, zero-width and directional characters, variation selectors, and the tag block.
_INVISIBLE = re2.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e01ef]"
)
_OTHER_ALPHABETS = re2.compile("[\u0370-\u04ff\u0530-\u058f\u13a0-\u13ff]")
_MARKED = re2.compile("[\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff]")
_LOOKALIKES = str.maketrans(
    {
        # Cyrillic
        "а": "a", "в": "b", "с": "c", "ԁ": "d", "е": "e", "ё": "e", "һ": "h", "н": "h", "і": "i",
        "ї": "i", "ј": "j", "к": "k", "м": "m", "о": "o", "р": "p", "ԛ": "q", "ѕ": "s", "т": "t",
        "ѵ": "v", "ԝ": "w", "х": "x", "у": "y", "ү": "y",
        # Greek
        "α": "a", "β": "b", "ε": "e", "ι": "i", "κ": "k", "η": "n", "ο": "o", "ρ": "p", "τ": "t",
        "υ": "u", "ν": "v", "ω": "w", "χ": "x", "γ": "y",
    }
)  # fmt: skip
# Latin letters without their marks; the marks on their own are dropped.
_UNMARKED: dict[int, str | None] = dict.fromkeys(range(0x300, 0x370))
_UNMARKED |= {
    code: base
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00))
    if (base := unicodedata.normalize("NFD", chr(code))[0]).isascii()
}
_TURKISH = (("ı", "i"), ("ş", "s"), ("ğ", "g"), ("ç", "c"), ("ö", "o"), ("ü", "u"))
_SPACED = re2.compile(r"(?:\b[a-z0-9][ ._*-]){2,}[a-z0-9]\b")
_SEPARATORS = str.maketrans("", "", " ._*-")
_BLANKS = re2.compile(r"\s+")
_PACKED = re2.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")


@dataclass(frozen=True, slots=True)
class Plain:
    """A text in compatibility form.

    Attributes:
        text: Without disguise.
        origins: For each character of `text`, and for its end, where it stood; None where the
            text had no disguise and every character stands where it stood.
    """

    text: str
    origins: tuple[int, ...] | None = None

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Where a piece of `text` stood in the original.

        A character that became several is one piece: none of it is left out.
        """
        if self.origins is None:
            return start, end
        first = self.origins[start]
        return first, self.origins[end - 1] + 1 if end > start else first


def plain(text: str) -> Plain:
    """The text without disguise; costs next to nothing where there is none.

    Each character is read for itself, so that a text may be read in pieces. Half a surrogate pair
    is no character; a question mark stands for it.
    """
    if text.isascii():
        return Plain(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    if unicodedata.is_normalized("NFKC", text) and not _INVISIBLE.search(text):
        return Plain(text)
    kept: list[str] = []
    origins: list[int] = []
    for place, character in enumerate(text):
        if _INVISIBLE.fullmatch(character):
            continue
        for piece in unicodedata.normalize("NFKC", character):
            kept.append(piece)
            origins.append(place)
    return Plain("".join(kept), (*origins, len(text)))


def folded(text: str) -> str:
    """A plain text in the form for which patterns of phrases are written.

    ASCII letters are lower case, i and ı are one letter, and so are s and ş; runs of white space
    are one space.
    """
    low = text.lower()
    if not low.isascii():
        for letter, latin in _TURKISH:
            low = low.replace(letter, latin)
        if not low.isascii():  # mostly those were all
            if _MARKED.search(low):
                low = low.translate(_UNMARKED)
            if _OTHER_ALPHABETS.search(low):
                low = low.translate(_LOOKALIKES)
    # First the letters, since two blanks in a row tell where a spaced-out word ends.
    if _SPACED.search(low):
        low = str(_SPACED.sub(lambda found: found.group().translate(_SEPARATORS), low))
    if "\n" in low or "\t" in low or "  " in low or "\r" in low:
        low = _BLANKS.sub(" ", low)
    return low


def unpacked(text: str) -> Iterator[str]:
    """Readable texts that stand in a text as base64."""
    for found in _PACKED.finditer(text):
        if (hidden := _decoded(found.group())) is not None:
            yield hidden


def _decoded(packed: str) -> str | None:
    body = packed.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
        text = data.decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    is_readable = text.isprintable() or all(one.isprintable() or one.isspace() for one in text)
    return text if is_readable and " " in text else None
