"""One answer while it is being made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event

from torch import Tensor

from services.inference.engine.lora import Adapter
from services.inference.engine.rows import Row
from services.inference.engine.sampling import Sampler, Sampling
from services.inference.engine.text import Detokenizer, StopFinder


@dataclass(frozen=True)
class Piece:
    """What one more token brought.

    Attributes:
        text: New text, often one word, sometimes nothing.
        tokens: Tokens of the answer so far.
        finish_reason: `stop` or `length` with the last piece, else None.
        stop_reason: The stop string that ended the answer, if one did.
    """

    text: str
    tokens: int
    finish_reason: str | None = None
    stop_reason: str | None = None


@dataclass(frozen=True)
class Failure:
    """The answer could not be made; the reason is in the engine's log."""


Sink = Callable[[Piece | Failure], None]


class Generation:
    """The state of one request, from its prompt to its last token.

    Only the generation thread changes it, but for `cancelled`, which anyone may set.

    Args:
        model: The name under which the answer was asked for: its line in the queue.
        prompt: Token ids, at least one.
        adapter: None for the bare base model.
        decode: Token ids to text.
        eos_ids: Tokens that end the answer.
        sink: Takes each piece; called in the generation thread, must not wait.
    """

    def __init__(
        self,
        model: str,
        prompt: Sequence[int],
        sampling: Sampling,
        adapter: Adapter | None,
        *,
        decode: Callable[[Sequence[int]], str],
        eos_ids: frozenset[int],
        sink: Sink,
    ) -> None:
        self.model = model
        self.prompt = list(prompt)
        self.adapter = adapter
        self.row = Row()
        self.cancelled = Event()
        self.tokens = 0
        self.finish_reason: str | None = None
        self._sampling = sampling
        self._sampler = Sampler(sampling, self.prompt)
        self._detokenizer = Detokenizer(decode)
        self._stops = StopFinder(sampling.stop)
        self._eos_ids = eos_ids
        self._sink = sink
        self._last = 0

    @property
    def reserved_tokens(self) -> int:
        """Most tokens that its cache can come to hold."""
        return len(self.prompt) + self._sampling.max_tokens

    @property
    def is_prefilling(self) -> bool:
        """Whether part of the prompt is still to be read."""
        return self.row.length < len(self.prompt)

    def next_chunk(self, most: int) -> list[int]:
        """The next tokens to run: a piece of the prompt, or the last drawn token."""
        if self.is_prefilling:
            return self.prompt[self.row.length : self.row.length + most]
        return [self._last]

    def draw(self, logits: Tensor) -> Piece:
        """Draw the next token.

        Args:
            logits: After everything that is in the cache, shape (vocabulary,).

        Returns:
            What it brings, for `deliver`.
        """
        self._last = token = self._sampler.draw(logits)
        self.tokens += 1
        ends = token in self._eos_ids and not self._sampling.ignore_eos
        text, met = self._stops.push("" if ends else self._detokenizer.push(token))
        if met is None and (ends or self.tokens >= self._sampling.max_tokens):
            text += self._stops.flush()
            self.finish_reason = "stop" if ends else "length"
        elif met is not None:
            self.finish_reason = "stop"
        return Piece(text, self.tokens, self.finish_reason, met)

    def deliver(self, piece: Piece) -> None:
        """Hand a piece to the asker."""
        self._sink(piece)

    def fail(self) -> None:
        """Tell the asker that no more will come."""
        self.finish_reason = "error"
        self._sink(Failure())
