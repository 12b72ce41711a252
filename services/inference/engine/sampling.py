"""Choosing the next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GREEDY_BELOW = 1e-5
"""Temperatures under this mean the most likely token, as in vLLM."""


@dataclass(frozen=True)
class Sampling:
    """How one answer is drawn.

    Attributes:
        max_tokens: Most tokens that are drawn, at least 1.
        temperature: 0 is greedy; no unit.
        top_p: Probability mass that is kept, in (0, 1].
        top_k: Number of tokens that are kept; 0 keeps all.
        repetition_penalty: Divides the logits of tokens seen in prompt or answer; 1 is none.
        presence_penalty: Taken off the logits of tokens seen in the answer; 0 is none.
        frequency_penalty: The same, times how often.
        seed: Makes the draw repeatable; None draws afresh.
        stop: Strings that end the answer.
        ignore_eos: Go on past the end-of-text token (for measurements).
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


class Sampler:
    """Draws the tokens of one answer from logits.

    Args:
        sampling: How to draw.
        prompt: Token ids of the prompt, for the repetition penalty.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)
        self._prompt = frozenset(prompt)
        self._drawn: dict[int, int] = {}

    def draw(self, logits: Tensor) -> int:
        """Draw one token.

        Args:
            logits: Shape (vocabulary,), float32.

        Returns:
            The token id.
        """
        logits = self._penalised(logits)
        if self._sampling.temperature < GREEDY_BELOW:
            token = int(logits.argmax())
        else:
            kept = self._truncated(logits / self._sampling.temperature)
            token = int(torch.multinomial(kept.softmax(-1), 1, generator=self._generator))
        self._drawn[token] = self._drawn.get(token, 0) + 1
        return token

    def _penalised(self, logits: Tensor) -> Tensor:
        """Source: vLLM's penalties; repetition as in CTRL, arXiv:1909.05858, section 4.1."""
        s = self._sampling
        if s.repetition_penalty == 1.0 and s.presence_penalty == s.frequency_penalty == 0.0:
            return logits
        logits = logits.clone()
        drawn = torch.tensor(list(self._drawn), dtype=torch.long)
        seen = torch.tensor(sorted({*self._prompt, *self._drawn}), dtype=torch.long)
        values = logits[seen]
        logits[seen] = torch.where(
            values > 0, values / s.repetition_penalty, values * s.repetition_penalty
        )
        times = torch.tensor(list(self._drawn.values()), dtype=logits.dtype)
        logits[drawn] -= s.presence_penalty + s.frequency_penalty * times
        return logits

    def _truncated(self, logits: Tensor) -> Tensor:
        """Leave only the `top_k` most likely tokens, then the fewest that hold `top_p`."""
        s = self._sampling
        if 0 < s.top_k < logits.numel():
            logits = logits.masked_fill(logits < logits.topk(s.top_k).values[-1], -torch.inf)
        if s.top_p < 1.0:
            ordered, index = logits.sort(descending=True)
            mass = ordered.softmax(-1)
            beyond = mass.cumsum(-1) - mass >= s.top_p  # never the most likely token itself
            logits = logits.index_fill(0, index[beyond], -torch.inf)
        return logits
