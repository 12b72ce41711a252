"""ROUGE and BLEU of an answer against its reference, in any alphabet."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from services.evaluation.repetition import words

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU


class _Words:
    """Splits as the rest of evaluation does: rouge-score's own splitter drops ç, ğ, ı, ö, ş, ü."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def rouge_l(reference: str, answer: str) -> float:
    """F measure of the longest common subsequence of words, 0 to 1.

    Source: Lin 2004, ROUGE, section 3; computed by rouge-score.
    """
    return float(_rouge().score(reference, answer)["rougeL"].fmeasure)


def bleu(reference: str, answer: str) -> float:
    """BLEU of one answer, 0 to 1, with effective order: short answers have no 4-grams to match.

    Source: Papineni et al. 2002; computed by sacrebleu with its tokenizer `intl`.
    """
    return float(_bleu().sentence_score(answer, [reference]).score) / 100


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    return RougeScorer(["rougeL"], tokenizer=_Words())


@cache
def _bleu() -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True, tokenize="intl", lowercase=True)
