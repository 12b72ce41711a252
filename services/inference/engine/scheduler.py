"""The generation thread: which requests run, and in which order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Protocol

from torch import Tensor

from services.errors import Unavailable
from services.inference.engine.fair_queue import FairQueue
from services.inference.engine.generation import Generation
from services.inference.engine.lora import Adapter
from services.inference.engine.rows import Row

log = logging.getLogger(__name__)

CHUNK_ALONE = 128
CHUNK_IN_COMPANY = 32
"""Tokens of a prompt that are read at once: small enough that others' tokens keep coming."""


class Model(Protocol):
    """What the scheduler needs of a language model."""

    def run(
        self,
        tokens: Sequence[Sequence[int]],
        rows: Sequence[Row],
        adapters: Sequence[Adapter | None],
    ) -> Tensor:
        """One forward pass; logits of shape (rows, vocabulary)."""


@dataclass
class Counts:
    """What has happened since the start; read by `/metrics`."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: dict[str, int] = field(
        default_factory=lambda: {"stop": 0, "length": 0, "abort": 0, "error": 0}
    )


class Scheduler:
    """Runs all requests in one thread, a step at a time.

    A step reads one piece of one prompt (prompts take turns), then draws one token for every
    request whose prompt is read, all in one batch, whatever their adapters. A request that is
    cancelled leaves before the next step.

    Args:
        max_running: Most requests that run at once; the others wait in a fair queue.
        max_waiting: Most requests that wait.
        cache_tokens: Tokens that all running caches may come to hold together. A request whose
            share does not fit waits; one request always runs.
    """

    def __init__(
        self, model: Model, *, max_running: int, max_waiting: int, cache_tokens: int
    ) -> None:
        self.counts = Counts()
        self._model = model
        self._max_running = max_running
        self._cache_tokens = cache_tokens
        self._waiting: FairQueue[Generation] = FairQueue(max_waiting)
        self._running: deque[Generation] = deque()
        self._changed = Condition()
        self._stopping = False
        self._thread = Thread(target=self._loop, name="generation", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the generation thread runs."""
        return self._thread.is_alive()

    @property
    def running(self) -> int:
        """Requests that run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def submit(self, generation: Generation) -> None:
        """Queue a request.

        Raises:
            Unavailable: The queue is full, or the engine is shutting down.
        """
        with self._changed:
            if self._stopping or not self.is_alive:
                raise Unavailable("the engine is shutting down")
            self._waiting.push(generation.model, generation)
            self._changed.notify()

    def cancel(self, generation: Generation) -> None:
        """Stop a request, wherever it stands; nothing more reaches its sink after this step."""
        generation.cancelled.set()
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """End the thread after the present step; what runs or waits fails."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while self._admit():
            self._step()
        self._fail([*self._running, *self._waiting.drop(lambda _: True)])

    def _admit(self) -> bool:
        """Let in who fits; wait while there is nothing to do. False when it is time to stop."""
        with self._changed:
            while True:
                if self._stopping:
                    return False
                self._forget_cancelled()
                while self._waiting and self._fits():
                    generation = self._waiting.pop()
                    self.counts.prompt_tokens += len(generation.prompt)
                    self._running.append(generation)
                if self._running:
                    return True
                self._changed.wait()

    def _fits(self) -> bool:
        candidate = self._waiting.peek()
        if candidate is None or len(self._running) >= self._max_running:
            return False
        reserved = sum(generation.reserved_tokens for generation in self._running)
        return not reserved or reserved + candidate.reserved_tokens <= self._cache_tokens

    def _forget_cancelled(self) -> None:
        def gone(generation: Generation) -> bool:
            return generation.cancelled.is_set()

        left = [*filter(gone, self._running), *self._waiting.drop(gone)]
        self.counts.finished["abort"] += len(left)
        self._running = deque(g for g in self._running if not gone(g))

    def _step(self) -> None:
        reading = next((g for g in self._running if g.is_prefilling), None)
        drawing = [g for g in self._running if not g.is_prefilling]
        if reading is not None:
            self._running.remove(reading)  # to the end of the turns
            self._running.append(reading)
            self._guarded([reading], self._read, CHUNK_IN_COMPANY if drawing else CHUNK_ALONE)
        if drawing:
            # Equal adapters side by side: each is applied once to all its rows.
            drawing.sort(key=lambda g: id(g.adapter))
            self._guarded(drawing, self._draw, 1)

    def _read(self, generations: list[Generation], chunk: int) -> None:
        (reading,) = generations
        logits = self._run(generations, chunk)
        if not reading.is_prefilling:
            self._advance(reading, logits[0])

    def _draw(self, generations: list[Generation], chunk: int) -> None:
        logits = self._run(generations, chunk)
        for row, generation in enumerate(generations):
            if not generation.cancelled.is_set():
                self._advance(generation, logits[row])

    def _run(self, generations: list[Generation], chunk: int) -> Tensor:
        return self._model.run(
            [g.next_chunk(chunk) for g in generations],
            [g.row for g in generations],
            [g.adapter for g in generations],
        )

    def _advance(self, generation: Generation, logits: Tensor) -> None:
        piece = generation.draw(logits)
        self.counts.generation_tokens += 1
        if piece.finish_reason is not None:
            # Before the last piece is handed on: who has it finds a free place and full counts.
            self.counts.finished[piece.finish_reason] += 1
            self._running.remove(generation)
        generation.deliver(piece)

    def _guarded(
        self,
        generations: list[Generation],
        work: Callable[[list[Generation], int], None],
        chunk: int,
    ) -> None:
        """Do one pass; if it fails, its requests fail and are logged, and the engine goes on.

        This is the thread's outermost handler: without it, one request that meets a bug or runs
        out of memory would take all others with it.
        """
        try:
            work(generations, chunk)
        except Exception:
            log.exception("a pass over %d requests failed", len(generations))
            self._fail([g for g in generations if g.finish_reason is None])

    def _fail(self, generations: list[Generation]) -> None:
        for generation in generations:
            self.counts.finished["error"] += 1
            if generation in self._running:
                self._running.remove(generation)
            generation.fail()
