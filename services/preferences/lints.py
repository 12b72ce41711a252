"""What stands out in two answers at first sight: warnings for the desk, never a verdict.

Only plain searches in folded text: a pair of a kilobyte takes some tens of microseconds, and no
text, however it was made, can make one of them slow.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from services.preferences.models import Turn
from services.preferences.text import folded

LINTS = (
    "empty",
    "near_identical",
    "length_gap",
    "refusal",
    "unfinished",
    "prompt_leak",
    "identity_leak",
    "template_tokens",
    "error_text",
    "hidden_characters",
)
"""Names of all lints, in the order in which they are given."""

NEAR_SHARE = 0.95
GAP_RATIO, GAP_CHARACTERS = 3, 200
OPENING = 240
"""Characters at the beginning of an answer in which a refusal is looked for."""
LONG_ANSWER = 200
"""Shorter answers are not called unfinished: they are often a name or a number."""
LONG_QUESTION = 40
ERROR_LENGTH = 300
MAX_LOOKED_AT = 20_000
"""Characters of a text that are searched; a megabyte must not hold up an import."""


def lints(turns: Sequence[Turn], first: str, second: str) -> tuple[str, ...]:
    """Names out of `LINTS` of what stands out in either answer, in the order of `LINTS`."""
    asked = _form(turns[-1].content) if turns else ""
    forms = _form(first), _form(second)
    found = set()
    if is_near_identical(*forms):
        found.add("near_identical")
    if has_length_gap(first, second):
        found.add("length_gap")
    for text, form in zip((first, second), forms, strict=True):
        found.update(_of_one(asked, text, form))
    return tuple(name for name in LINTS if name in found) if found else ()


def of_answers(turns: Sequence[Turn], *answers: str) -> list[frozenset[str]]:
    """Names of what stands out in each answer alone."""
    asked = _form(turns[-1].content) if turns else ""
    return [frozenset(_of_one(asked, text, _form(text))) for text in answers]


def is_near_identical(first: str, second: str) -> bool:
    """Whether two answers have nearly all their words in common, as often and in any order.

    Source: `NEAR_SHARE` of the Dice coefficient of the two multisets of words.
    """
    if first == second:
        return True
    low, high = sorted((len(first), len(second)))
    if low < NEAR_SHARE * high - 20:
        return False
    one, other = first.split(), second.split()
    low, high = sorted((len(one), len(other)))
    if 2 * low < NEAR_SHARE * (low + high):
        return _letters(first) == _letters(second)
    both = sum((Counter(one) & Counter(other)).values())
    if 2 * both >= NEAR_SHARE * (low + high):
        return True
    return high < 20 and _letters(first) == _letters(second)


def has_length_gap(first: str, second: str) -> bool:
    """Whether one answer is several times as long as the other."""
    low, high = sorted((len(first), len(second)))
    return high > GAP_RATIO * low and high - low > GAP_CHARACTERS


def _form(text: str) -> str:
    """Folded, with plain apostrophes: the form in which phrases are looked for."""
    return folded(text[:MAX_LOOKED_AT]).replace("’", "'").strip()


def _letters(form: str) -> str:
    return "".join(filter(str.isalnum, form))


def _of_one(asked: str, text: str, form: str) -> list[str]:
    """Names of what stands out in one answer.

    Args:
        asked: Form of the last user turn.
        form: Form of the text.
    """
    if not form:
        return ["empty"]
    found = []
    opening = form[:OPENING]
    if any(phrase in opening for phrase in _REFUSALS):
        found.append("refusal")
    if _is_unfinished(text):
        found.append("unfinished")
    if _leaks_prompt(asked, form):
        found.append("prompt_leak")
    if _leaks_identity(asked, form):
        found.append("identity_leak")
    if any(mark in form and any(token in form for token in tokens) for mark, tokens in _TOKENS):
        found.append("template_tokens")
    if len(form) < ERROR_LENGTH and any(phrase in form for phrase in _ERRORS):
        found.append("error_text")
    if not text.isascii() and any(character in text for character in _HIDDEN):
        found.append("hidden_characters")
    return found


def _is_unfinished(text: str) -> bool:
    """Whether an answer of prose breaks off: no full stop, and a fence of code left open."""
    if "```" in text and text.count("```") % 2:
        return True
    if len(text) < LONG_ANSWER:
        return False
    end = text.rstrip()[-160:]
    line = end[end.rfind("\n") + 1 :]
    # A short last line is a heading, an item or a signature; those have no full stop.
    if len(line) < 60 or not end or line.lstrip()[:1] in "-*•#|>`0123456789":
        return False
    last = end[-1]
    # Letters of other scripts may well end a sentence without any mark.
    return last in ",;(-–—" or (last.isalpha() and unicodedata.name(last, "").startswith("LATIN"))


def _leaks_prompt(asked: str, form: str) -> bool:
    """Whether the answer goes on with a turn of the user, or says the whole question again."""
    if any(mark in form for mark in _TURNS):
        return True
    return len(asked) >= LONG_QUESTION and len(form) >= len(asked) and asked in form


def _leaks_identity(asked: str, form: str) -> bool:
    """Whether the answer says which model or whose it is, without having been asked about it."""
    if any(phrase in form for phrase in _IDENTITIES):
        return True
    return any(name in form and name not in asked for name in _VENDORS)


# All phrases are in the form that `_form` gives: folded, so that every i has its dot.
_REFUSALS = tuple(
    folded(phrase)
    for phrase in (
        "i'm sorry, but i",
        "i am sorry, but i",
        "sorry, i can't",
        "sorry, i cannot",
        "sorry, but i can",
        "i can't help with",
        "i cannot help with",
        "i can't assist",
        "i cannot assist",
        "i can't provide",
        "i cannot provide",
        "i can't fulfill",
        "i cannot fulfill",
        "i can't answer",
        "i cannot answer",
        "i'm not able to",
        "i am not able to",
        "i'm unable to",
        "i am unable to",
        "i won't be able to",
        "i must decline",
        "i have to decline",
        "as an ai",
        "as a language model",
        "it would be inappropriate",
        "it is not appropriate",
        "üzgünüm, ama",
        "üzgünüm ama",
        "üzgünüm, bu",
        "üzgünüm, size",
        "yardımcı olamam",
        "yardımcı olamıyorum",
        "yanıt veremem",
        "cevap veremem",
        "bunu yapamam",
        "bilgi veremem",
        "yapay zeka olarak",
        "yapay zekâ olarak",
        "dil modeli olarak",
    )
)
_TURNS = ("\nhuman:", "\nuser:", "\nassistant:", "\nkullanici:", "\nasistan:", "\nsystem:")
_IDENTITIES = tuple(
    folded(phrase)
    for phrase in (
        "as an ai language model",
        "as a large language model",
        "i am an ai language model",
        "i'm an ai language model",
        "i am a large language model",
        "i'm a large language model",
        "my knowledge cutoff",
        "my training data",
        "bir yapay zeka dil modeli",
        "bir yapay zekâ dil modeli",
        "yapay zeka dil modeliyim",
        "büyük bir dil modeliyim",
    )
)
_VENDORS = (
    "openai",
    "chatgpt",
    "gpt-4",
    "gpt-3",
    "anthropic",
    "claude",
    "google bard",
    "gemini",
    "deepmind",
    "mistral ai",
    "deepseek",
    "qwen",
    "llama 2",
    "llama 3",
    "vicuna",
    "alpaca",
    "smollm",
)
# The first text of each row is in all the others: most answers are through after four searches.
_TOKENS = (
    ("<|", ("|>",)),
    ("inst]", ("[inst]", "[/inst]")),
    ("sys>>", ("<<sys>>", "<</sys>>")),
    ("_turn>", ("<start_of_turn>", "<end_of_turn>")),
    ("s>", ("</s>", "<s>")),
    ("### ", ("### instruction:", "### response:", "### input:")),
)
_ERRORS = (
    "network error due to high traffic",
    "api error",
    "internal server error",
    "rate limit exceeded",
    "rate limit reached",
    "too many requests",
    "request timed out",
    "service unavailable",
    "bad gateway",
    "connection refused",
    "content_filter",
    "$moderation$",
    "maximum context length",
    "cuda out of memory",
)
# Zero-width characters and those that turn the direction of writing. The joiners are left out:
# Persian and emoji need them.
_HIDDEN = "\u200b\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\x1b"
