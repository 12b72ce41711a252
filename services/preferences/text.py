"""Text as pairs hold it: what is refused, when two texts are the same, and which language it is."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from services.preferences.models import Language, Turn


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TURKISH_LETTERS = re.compile(r"[ğışĞİŞ]")
_WORDS = re.compile(r"[^\W\d_]+")
_TURKISH_WORDS = _words(
    "bir ve bu ne mi mu için ile de da nedir kimdir hangi nasıl neden niçin kaç var yok olan olarak "
    "en çok az daha gibi kadar sonra önce ama veya ya hangisi hangisidir kim nerede nereye bana "
    "bunu şu o değil midir mudur eder olur adı türkiye türkiyenin yaz açıkla söyle cevap iki üç "
    "beş dört altı yedi sekiz dokuz on yirmi otuz kırk elli"
)
_ENGLISH_WORDS = _words(
    "the a an of and is are was were be to in on for with that this it what which who whom whose "
    "how why when where do does did can could would should i you he she they we my your not or "
    "from by at as if than then into about name many much write explain tell give me"
)


def defect(text: str) -> str | None:
    """Why a text cannot be stored, in words; None where it can.

    Lone surrogates have no UTF-8 form, and PostgreSQL stores no NUL.
    """
    if "\x00" in text:
        return f"a NUL character at position {text.index(chr(0)) + 1}"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # Left by the surrogateescape handler.
            return (
                f"the byte 0x{code - 0xDC00:02x}, which is no UTF-8, at position {error.start + 1}"
            )
        return f"the lone surrogate U+{code:04X} at position {error.start + 1}"
    return None


def normalised(text: str) -> str:
    """The form in which texts are compared: NFC, without white space around it."""
    return unicodedata.normalize("NFC", text).strip()


def folded(text: str) -> str:
    """The form in which texts are searched: NFC, casefolded, i with and without dot alike."""
    composed = unicodedata.normalize("NFC", text)
    return composed.replace("İ", "i").replace("I", "i").replace("ı", "i").casefold()


def prompt_key(turns: Iterable[Turn]) -> str:
    """The same for prompts with the same turns after normalisation.

    Returns:
        SHA-256, 64 hex characters.
    """
    # The separators cannot occur in a role; lengths keep contents apart from their neighbours.
    digest = hashlib.sha256()
    for turn in turns:
        content = normalised(turn.content).encode()
        digest.update(f"{turn.role}\x00{len(content)}\x00".encode() + content)
    return digest.hexdigest()


def text_key(text: str) -> bytes:
    """SHA-256 of a normalised text, 32 bytes."""
    return hashlib.sha256(normalised(text).encode()).digest()


def pair_key(prompt: str, first: bytes, second: bytes) -> str:
    """The same for the same prompt and the same two answers, in whichever order.

    Args:
        prompt: A `prompt_key`.
        first: The `text_key` of one answer; likewise second.

    Returns:
        SHA-256, 64 hex characters.
    """
    low, high = sorted((first, second))
    return hashlib.sha256(bytes.fromhex(prompt) + low + high).hexdigest()


def detect_language(text: str) -> Language:
    """Turkish, English, or neither, by letters and frequent words.

    Each of the letters ğ, ı and ş (no word of English has them) counts for Turkish as much as a
    frequent word does; frequent words count for their language; more points win. A text without
    any point, such as a formula, or with as many of both, is `other`. That is right for nearly all
    questions of a sentence or more, and is no more than a filter: nothing is decided by it.
    """
    sample = text[:2000]
    words = _WORDS.findall(sample.replace("İ", "i").lower())
    turkish = len(_TURKISH_LETTERS.findall(sample)) + sum(word in _TURKISH_WORDS for word in words)
    english = sum(word in _ENGLISH_WORDS for word in words)
    if turkish == english:
        return "other"
    return "tr" if turkish > english else "en"
