"""What a set of pairs teaches beside what is meant: length, and who wrote the answers."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from services.preferences.gates.models import Agreement

FEWEST = 30
"""Pairs below which a share says nothing."""
LONGER_SHARE = (0.40, 0.60)
LARGEST_EFFECT = 0.5
LARGEST_SOURCE = 0.8
LEAST_ALPHA = 0.667
"""Krippendorff's own floor for tentative conclusions (Content Analysis, 2004, p. 241)."""


@dataclass
class Measures:
    """Collects, pair by pair, what is told of the whole set."""

    chosen_lengths: array[int] = field(default_factory=lambda: array("q"))
    rejected_lengths: array[int] = field(default_factory=lambda: array("q"))
    chosen_by: Counter[str] = field(default_factory=Counter)
    rejected_by: Counter[str] = field(default_factory=Counter)

    def add(self, chosen: int, rejected: int, chosen_by: str, rejected_by: str) -> None:
        """Count one pair.

        Args:
            chosen: Length of the better answer, characters; likewise rejected.
            chosen_by: Who wrote it; empty where nothing says so.
        """
        self.chosen_lengths.append(chosen)
        self.rejected_lengths.append(rejected)
        self.chosen_by[chosen_by] += 1
        self.rejected_by[rejected_by] += 1

    def length(self) -> dict[str, Any]:
        """How far length alone tells the better answer.

        Returns:
            `pairs`; means and medians, characters; `p_chosen_longer` (ties count half, which makes
            it the area under the curve of a judge that knows only the lengths); `cohens_d`, in
            pooled standard deviations. The shares are None for no pairs.
        """
        import numpy as np  # only an export needs it, and every process loads this module

        chosen, rejected = np.asarray(self.chosen_lengths), np.asarray(self.rejected_lengths)
        if not len(chosen):
            return {"pairs": 0, "p_chosen_longer": None, "cohens_d": None}
        longer = float(np.mean(chosen > rejected) + np.mean(chosen == rejected) / 2)
        spread = float(np.sqrt((chosen.var() + rejected.var()) / 2))
        effect = float(chosen.mean() - rejected.mean()) / spread if spread else 0.0
        return {
            "pairs": len(chosen),
            "chosen_mean": round(float(chosen.mean()), 1),
            "rejected_mean": round(float(rejected.mean()), 1),
            "chosen_median": round(float(np.median(chosen)), 1),
            "rejected_median": round(float(np.median(rejected)), 1),
            "p_chosen_longer": round(longer, 4),
            "cohens_d": round(effect, 4),
        }

    def sources(self) -> dict[str, Any]:
        """Share of each writer, among the better and among the worse answers."""
        return {"chosen": _shares(self.chosen_by), "rejected": _shares(self.rejected_by)}

    def has_length_bias(self) -> bool:
        """Whether the set teaches length."""
        facts = self.length()
        if facts["pairs"] < FEWEST:
            return False
        low, high = LONGER_SHARE
        is_lopsided = not low <= facts["p_chosen_longer"] <= high
        return is_lopsided or abs(facts["cohens_d"]) > LARGEST_EFFECT

    def has_one_source(self) -> bool:
        """Whether one writer has most of the better answers, and less of the worse ones."""
        chosen, rejected = _shares(self.chosen_by), _shares(self.rejected_by)
        if self.chosen_by.total() - self.chosen_by[""] < FEWEST:
            return False
        return any(
            share > LARGEST_SOURCE and rejected.get(name, 0.0) < LARGEST_SOURCE
            for name, share in chosen.items()
            if name
        )


def is_doubtful(agreement: Agreement) -> bool:
    """Whether people agree too little, or too few of them were asked to tell."""
    return agreement.alpha is None or agreement.alpha < LEAST_ALPHA


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = counts.total() or 1
    return {name: round(count / total, 4) for name, count in sorted(counts.items())}
