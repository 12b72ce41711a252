"""Neutral text: a hundred and twenty sentences, in English and Turkish, that nobody trains on.

An evaluation reads `USUAL_COUNT` of them unless told otherwise. The 95 % interval of the change is
about 2 standard deviations of one text's change over the root of their number: half as many texts
make it 1.4 times as wide; `docs/evaluation.md` has a measured one.

How well a model predicts them tells whether it forgot language while it learned preferences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.errors import InvalidInput
from services.evaluation.models import TextScore

if TYPE_CHECKING:
    from services.evaluation.scoring import Subject

BUNDLED = Path(__file__).parent / "texts" / "neutral.jsonl"
AT_ONCE = 20
USUAL_COUNT = 60


@dataclass(frozen=True)
class NeutralText:
    """One text to read."""

    id: str
    language: str
    text: str


def read_texts(path: Path = BUNDLED) -> list[NeutralText]:
    """The texts of a file of JSON lines with `id`, `language` and `text`.

    Raises:
        InvalidInput: A line is not such a text.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            found.append(NeutralText(str(row["id"]), str(row["language"]), str(row["text"])))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{path.name} line {number}: expected id, language and text, "
                f"found {type(error).__name__}"
            ) from error
    return found


def chosen(texts: Sequence[NeutralText], count: int = USUAL_COUNT) -> list[NeutralText]:
    """Some texts, as many of each language as of the others, and as they come in the file."""
    languages = sorted({text.language for text in texts})
    found: list[NeutralText] = []
    for number, language in enumerate(languages):
        share = (count + number) // len(languages)
        found += [text for text in texts if text.language == language][:share]
    return found


def read_by_both(subject: Subject, texts: Sequence[NeutralText]) -> list[TextScore]:
    """What both models think of some texts, `AT_ONCE` at most.

    The first token of a text is given and not scored, so a model needs no token that begins one.
    """
    ids = [
        subject.tokenizer(text.text, add_special_tokens=False)["input_ids"][: subject.max_length]
        for text in texts
    ]
    with subject.as_base():
        base = _sums(subject.model, ids)
    adapter = _sums(subject.model, ids)
    return [
        TextScore(text.id, text.language, max(len(tokens) - 1, 0), -before, -after)
        for text, tokens, before, after in zip(texts, ids, base, adapter, strict=True)
    ]


def batches(texts: Sequence[NeutralText]) -> Iterator[Sequence[NeutralText]]:
    """The texts, some at once, those of like length together: padding is read like text."""
    by_length = sorted(texts, key=lambda text: len(text.text.encode()))
    for first in range(0, len(by_length), AT_ONCE):
        yield by_length[first : first + AT_ONCE]


def _sums(model: Any, ids: Sequence[Sequence[int]]) -> list[float]:
    """Sum of log p(token | everything before) over each text but its first token, nats."""
    import torch

    longest = max(map(len, ids))
    padded = torch.tensor(
        [[*tokens, *[0] * (longest - len(tokens))] for tokens in ids], device=model.device
    )
    keep = torch.tensor(
        [[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in ids], device=model.device
    )
    with torch.inference_mode():
        logits = model(padded, attention_mask=keep).logits[:, :-1]
        found = logits.float().log_softmax(-1).gather(-1, padded[:, 1:].unsqueeze(-1)).squeeze(-1)
        sums: list[float] = (found.double() * keep[:, 1:]).sum(-1).tolist()
    return sums
