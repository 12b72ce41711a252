"""Texts that are nearly the same, among very many.

Two texts are near when the sets of their words and of their neighbouring pairs of words overlap
(Jaccard) by at least a threshold. Candidates come from MinHash signatures cut into bands, and each
is then compared exactly, so nothing is called near that is not; a near pair is overlooked about
twice in a thousand at the default threshold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rensa import RMinHash

from services.preferences.text import folded

THRESHOLD = 0.8
_BANDS, _ROWS = 21, 6
"""A pair of Jaccard 0.8 shares a band with probability 1 - (1 - 0.8^6)^21 = 0.998.

Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.2.
"""
_SEED = 2_026
_CHUNK = 5_000
_WORDS = re.compile(r"\w+")
_LONG_WORD = 24
_GRAM = 4

Longs = np.ndarray[Any, np.dtype[np.int64]]


def clusters(texts: Sequence[str], *, threshold: float = THRESHOLD) -> list[int]:
    """Put every text with those that are near to it, and with those near to these.

    Args:
        threshold: Least overlap of two near texts, above 0 to 1.

    Returns:
        For each text the index of the first text of its cluster, shape (len(texts),): equal
        numbers are one cluster, and a text that is near to none has its own index.
    """
    forest = _Forest(len(texts))
    for one, other in near_pairs(texts, threshold=threshold):
        forest.join(one, other)
    return [forest.root(index) for index in range(len(texts))]


def near_pairs(texts: Sequence[str], *, threshold: float = THRESHOLD) -> list[tuple[int, int]]:
    """Pairs of near texts: as many as connect every cluster, and no more.

    A thousand copies of one text give 999 pairs, not half a million, so that time and memory stay
    in proportion to the number of texts.

    Args:
        threshold: Least overlap of two near texts, above 0 to 1.

    Returns:
        Pairs of indices, the smaller one first, sorted.
    """
    forms: dict[str, int] = {}
    forest, found = _Forest(len(texts)), list[tuple[int, int]]()
    for index, text in enumerate(texts):
        form = " ".join(_WORDS.findall(folded(text))) or text
        if (before := forms.setdefault(form, index)) != index:
            forest.join(before, index)
            found.append((before, index))
    unique, places = list(forms), list(forms.values())
    for one, other in _candidates(unique, threshold):
        first, second = places[one], places[other]
        # Comparing costs far more than knowing that it would join nothing new.
        if forest.root(first) == forest.root(second):
            continue
        if overlap(unique[one], unique[other]) >= threshold:
            forest.join(first, second)
            found.append((first, second))
    return sorted(found)


class _Forest:
    """Sets that are joined; each is known by its smallest member."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]
            index = self._parents[index]
        return index

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self._parents[high] = low


def overlap(one: str, other: str) -> float:
    """How much of two texts' words and neighbouring pairs of words is in both, 0 to 1 (Jaccard)."""
    first, second = set(_shingles(one)), set(_shingles(other))
    both = len(first & second)
    return both / (len(first) + len(second) - both or 1)


def _shingles(text: str) -> list[str]:
    words = _WORDS.findall(folded(text))
    if any(len(word) > _LONG_WORD for word in words):
        # Languages without spaces: pieces of a long run of letters stand for its words.
        words = [piece for word in words for piece in _pieces(word)]
    if not words:
        return [text.strip()]
    return words + [f"{one} {other}" for one, other in zip(words, words[1:], strict=False)]


def _pieces(word: str) -> list[str]:
    if len(word) <= _LONG_WORD:
        return [word]
    return [word[start : start + _GRAM] for start in range(len(word) - _GRAM + 1)]


def _candidates(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs that share a band and whose signatures agree about as much as is asked for."""
    if len(texts) < 2:
        return
    signatures = _signatures(texts)
    pairs = np.unique(np.concatenate([_linked(band) for band in _bands(signatures)]), axis=0)
    # The standard error of the estimate is at most 0.045; three of them let nothing near go.
    floor = threshold - 0.135
    for start in range(0, len(pairs), _CHUNK):
        part = pairs[start : start + _CHUNK]
        agree = (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1)
        yield from ((int(one), int(other)) for one, other in part[agree >= floor])


def _signatures(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    parts = [
        np.asarray(
            RMinHash.digests_from_token_sets(
                [_shingles(text) for text in texts[start : start + _CHUNK]],
                num_perm=_BANDS * _ROWS,
                seed=_SEED,
            ),
            dtype=np.uint32,
        )
        for start in range(0, len(texts), _CHUNK)
    ]
    return np.concatenate(parts)


def _bands(signatures: np.ndarray[Any, np.dtype[np.uint32]]) -> Iterator[Longs]:
    """One number a text for each band: equal bands have equal numbers."""
    for start in range(0, _BANDS * _ROWS, _ROWS):
        mixed = np.zeros(len(signatures), dtype=np.uint64)
        for column in range(start, start + _ROWS):
            mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + signatures[:, column]
        yield mixed.view(np.int64)


def _linked(band: Longs) -> Longs:
    """Pairs of texts with equal numbers: each with the first such and with the one before it."""
    order = np.argsort(band, kind="stable")
    same = band[order][1:] == band[order][:-1]
    if not same.any():
        return np.empty((0, 2), dtype=np.int64)
    starts = np.maximum.accumulate(
        np.where(np.concatenate(([True], ~same)), np.arange(len(order)), 0)
    )
    later = np.flatnonzero(same) + 1
    first = np.stack((order[starts[later]], order[later]), axis=1)
    previous = np.stack((order[later - 1], order[later]), axis=1)
    return np.concatenate((first, previous))
