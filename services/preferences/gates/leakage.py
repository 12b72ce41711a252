"""Whether a text repeats a prompt of an evaluation set.

A pair leaks if one of its turns is such a prompt's question, or if prompt or answers share a run
of `GRAM` words with one (a prompt of `SHORT` to `GRAM` words counts as one run). Prompts that are
near as a whole are found with the clusters, not here.

Source: Brown et al. 2020, appendix C (13-grams), arXiv:2005.14165.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from services.preferences.models import Turn
from services.preferences.text import folded

GRAM = 13
SHORT = 8
SHORTEST_QUESTION = 3
"""Words; shorter questions, such as "Why?", belong to everybody."""

_WORDS = re.compile(r"\w+")
Words = tuple[str, ...]


class EvaluationPrompts:
    """The prompts that nobody may train on.

    Args:
        prompts: The turns of each.
    """

    def __init__(self, prompts: Iterable[Sequence[Turn]]) -> None:
        self._questions: set[Words] = set()
        self._grams: set[Words] = set()
        for turns in prompts:
            for turn in turns:
                if turn.role == "user":
                    self._learn(_words(turn.content))
        self._lengths = sorted({len(gram) for gram in self._grams})
        self._anchors = self._rarest()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._questions or self._grams)

    def found_in(self, turns: Iterable[Turn], answers: Iterable[str]) -> str | None:
        """Where a prompt of an evaluation set is repeated: `prompt` or `answer`; None if nowhere."""
        for turn in turns:
            words = _words(turn.content)
            if (turn.role == "user" and words in self._questions) or self._shares(words):
                return "prompt"
        return "answer" if any(self._shares(_words(text)) for text in answers) else None

    def _learn(self, words: Words) -> None:
        if len(words) >= SHORTEST_QUESTION:
            self._questions.add(words)
        if len(words) >= SHORT:
            size = min(GRAM, len(words))
            self._grams.update(_grams(words, size))

    def _rarest(self) -> frozenset[str]:
        """A word of each run, the rarest one: a text without any of them cannot hold a run."""
        counts = Counter(word for gram in self._grams for word in gram)
        return frozenset(
            min(gram, key=lambda word: (counts[word], -len(word), word)) for gram in self._grams
        )

    def _shares(self, words: Words) -> bool:
        if len(words) < SHORT or self._anchors.isdisjoint(words):
            return False
        return any(gram in self._grams for size in self._lengths for gram in _grams(words, size))


def _words(text: str) -> Words:
    return tuple(_WORDS.findall(folded(text)))


def _grams(words: Words, size: int) -> Iterable[Words]:
    return (words[start : start + size] for start in range(len(words) - size + 1))
