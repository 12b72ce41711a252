"""Whether an answer repeats itself, the way small models do after too much training."""

from __future__ import annotations

import re

MAX_REPETITION = 0.4
"""Share of repeated word pairs above which an answer counts as degenerate.

Lists and refrains reach 0.2; a sentence that loops within 64 tokens is above 0.5.
"""
MIN_WORDS = 8
"""Shorter answers are judged by their runs alone: two equal word pairs prove nothing."""
MAX_RUN = 3
"""So often may a word follow itself."""

_WORD = re.compile(r"\w+", re.UNICODE)


def words(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation."""
    return _WORD.findall(text.casefold())


def repetition(text: str, *, n: int = 2) -> float:
    """Share of word n-grams that occurred before in the text: 1 - distinct-n.

    Returns:
        0 (none) to almost 1; 0 for texts of fewer than `n` words.

    Source: distinct-n of Li et al. 2016, arXiv:1510.03055; as seq-rep-n in Welleck et al. 2019,
    arXiv:1908.04319, section 4.
    """
    found = words(text)
    grams = [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def longest_run(text: str) -> int:
    """How often a word follows itself without another between, at most; 1 for "a b a"."""
    longest = current = 0
    previous = None
    for word in words(text):
        current = current + 1 if word == previous else 1
        previous, longest = word, max(longest, current)
    return longest


def is_degenerate(text: str) -> bool:
    """Whether the text loops, or holds one word again and again."""
    if longest_run(text) > MAX_RUN:
        return True
    return len(words(text)) >= MIN_WORDS and repetition(text) > MAX_REPETITION
