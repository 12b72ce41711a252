"""Who runs when: fairly, within bounds, and no longer than somebody listens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from services.errors import Unavailable
from services.inference.engine.generation import Failure, Generation, Piece
from services.inference.engine.lora import Adapter
from services.inference.engine.rows import Row
from services.inference.engine.sampling import Sampling
from services.inference.engine.scheduler import CHUNK_IN_COMPANY, Scheduler

VOCABULARY = 100
END = 99
NOBODY = frozenset({END})


@dataclass
class CountingModel:
    """After token t comes t + 1. Each pass waits for the test's leave, if the test asks.

    Attributes:
        passes: For each pass, the number of tokens of each row.
    """

    gate: threading.Semaphore | None = None
    fails: Callable[[], bool] = lambda: False
    passes: list[list[int]] = field(default_factory=list)
    adapters: list[list[Adapter | None]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def run(
        self,
        tokens: Sequence[Sequence[int]],
        rows: Sequence[Row],
        adapters: Sequence[Adapter | None],
    ) -> Tensor:
        if self.gate is not None:
            assert self.gate.acquire(timeout=10)
        if self.fails():
            raise RuntimeError("out of memory")
        self.passes.append([len(one) for one in tokens])
        self.adapters.append(list(adapters))
        self.threads.add(threading.current_thread().name)
        for row, new in zip(rows, tokens, strict=True):
            row.length += len(new)
        logits = torch.zeros(len(tokens), VOCABULARY)
        for number, one in enumerate(tokens):
            logits[number, (one[-1] + 1) % VOCABULARY] = 10.0
        return logits


@dataclass
class Listener:
    """Keeps what a request was answered.

    Attributes:
        done: Set with the last piece.
    """

    pieces: list[Piece] = field(default_factory=list)
    failed: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def __call__(self, piece: Piece | Failure) -> None:
        if isinstance(piece, Failure):
            self.failed = True
        else:
            self.pieces.append(piece)
        if isinstance(piece, Failure) or piece.finish_reason is not None:
            self.done.set()

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def numbers(ids: Sequence[int]) -> str:
    return "".join(f"{token} " for token in ids)


def request(
    prompt: list[int],
    listener: Listener,
    *,
    model: str = "base",
    max_tokens: int = 5,
    stop: tuple[str, ...] = (),
    ignore_eos: bool = False,
    adapter: Adapter | None = None,
) -> Generation:
    sampling = Sampling(max_tokens, temperature=0.0, stop=stop, ignore_eos=ignore_eos)
    return Generation(
        model, prompt, sampling, adapter, decode=numbers, eos_ids=NOBODY, sink=listener
    )


Make = Callable[..., Scheduler]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[Scheduler, CountingModel]] = []

    def build(model: CountingModel, **limits: int) -> Scheduler:
        limits = {"max_running": 4, "max_waiting": 10, "cache_tokens": 10_000, **limits}
        made.append((Scheduler(model, **limits), model))
        return made[-1][0]

    yield build
    for scheduler, model in made:
        if model.gate is not None:
            model.gate.release(1000)
        scheduler.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_an_answer_ends_after_max_tokens(make: Make) -> None:
    listener = Listener()
    scheduler = make(CountingModel())
    scheduler.submit(request([1, 2, 3], listener, max_tokens=4))
    assert listener.done.wait(10)
    assert listener.text == "4 5 6 7 "
    assert [piece.tokens for piece in listener.pieces] == [1, 2, 3, 4]
    assert [piece.finish_reason for piece in listener.pieces] == [None, None, None, "length"]


def test_an_answer_ends_with_the_end_token_which_is_counted_but_not_shown(make: Make) -> None:
    listener = Listener()
    make(CountingModel()).submit(request([96], listener, max_tokens=50))
    assert listener.done.wait(10)
    assert (listener.text, listener.pieces[-1].tokens) == ("97 98 ", 3)
    assert listener.pieces[-1].finish_reason == "stop"


def test_the_end_token_can_be_ignored(make: Make) -> None:
    listener = Listener()
    make(CountingModel()).submit(request([97], listener, max_tokens=4, ignore_eos=True))
    assert listener.done.wait(10)
    assert listener.pieces[-1].tokens == 4
    assert listener.pieces[-1].finish_reason == "length"


def test_a_stop_string_ends_the_answer_and_is_told(make: Make) -> None:
    listener = Listener()
    make(CountingModel()).submit(request([1], listener, max_tokens=50, stop=("4 5",)))
    assert listener.done.wait(10)
    assert listener.text == "2 3 "
    assert (listener.pieces[-1].finish_reason, listener.pieces[-1].stop_reason) == ("stop", "4 5")


def test_requests_draw_together_and_long_prompts_are_read_in_pieces(make: Make) -> None:
    model = CountingModel(gate=threading.Semaphore(0))
    scheduler = make(model)
    first, second = Listener(), Listener()
    scheduler.submit(request([1], first, max_tokens=8))
    assert model.gate is not None
    model.gate.release(2)
    until(lambda: len(model.passes) == 2)
    scheduler.submit(request([1] * (CHUNK_IN_COMPANY * 2 + 5), second, max_tokens=3))
    model.gate.release(100)
    assert first.done.wait(10)
    assert second.done.wait(10)
    reading = [p for p in model.passes[1:] if p[0] > 1 and len(p) == 1]
    assert reading == [[CHUNK_IN_COMPANY], [CHUNK_IN_COMPANY], [5]]
    assert [1, 1] in model.passes
    between = model.passes[model.passes.index(reading[0]) : model.passes.index(reading[2])]
    assert [1] in between
    assert len(model.threads) == 1


def test_equal_adapters_stand_side_by_side(make: Make) -> None:
    one, two = Adapter({}, 0), Adapter({}, 0)
    model = CountingModel(gate=threading.Semaphore(0))
    scheduler = make(model)
    listeners = [Listener() for _ in range(4)]
    for adapter, listener in zip([one, two, one, two], listeners, strict=True):
        scheduler.submit(request([1], listener, adapter=adapter))
    assert model.gate is not None
    model.gate.release(1000)
    assert all(listener.done.wait(10) for listener in listeners)
    full = next(adapters for adapters in model.adapters if len(adapters) == 4)
    assert full[0] is full[1]
    assert full[2] is full[3]


def test_one_models_flood_does_not_hold_up_another_model(make: Make) -> None:
    model = CountingModel(gate=threading.Semaphore(0))
    scheduler = make(model, max_running=1)
    ended: list[str] = []

    def listener(name: str) -> Callable[[Piece | Failure], None]:
        def note(piece: Piece | Failure) -> None:
            if isinstance(piece, Piece) and piece.finish_reason:
                ended.append(name)

        return note

    for name in ("a1", "a2", "a3", "b1"):
        generation = request([1], Listener(), model=name[0], max_tokens=1)
        generation._sink = listener(name)
        scheduler.submit(generation)
    assert model.gate is not None
    model.gate.release(100)
    until(lambda: len(ended) == 4)
    assert ended.index("b1") < ended.index("a3")


def test_a_full_engine_refuses_and_goes_on(make: Make) -> None:
    model = CountingModel(gate=threading.Semaphore(0))
    scheduler = make(model, max_running=1, max_waiting=2)
    listeners = [Listener() for _ in range(3)]
    scheduler.submit(request([1], listeners[0]))
    until(lambda: scheduler.running == 1)
    scheduler.submit(request([1], listeners[1], model="a"))
    scheduler.submit(request([1], listeners[2], model="b"))
    with pytest.raises(Unavailable, match="the engine is full"):
        scheduler.submit(request([1], Listener(), model="c"))
    assert model.gate is not None
    model.gate.release(100)
    assert all(listener.done.wait(10) for listener in listeners)


def test_caches_stay_within_their_memory(make: Make) -> None:
    model = CountingModel(gate=threading.Semaphore(0))
    scheduler = make(model, cache_tokens=20)
    big, small = Listener(), Listener()
    scheduler.submit(request([1] * 30, big, max_tokens=2))
    scheduler.submit(request([1], small, max_tokens=2))
    assert model.gate is not None
    model.gate.release(1)
    until(lambda: len(model.passes) == 1)
    assert (scheduler.running, scheduler.waiting) == (1, 1)
    model.gate.release(100)
    assert big.done.wait(10)
    assert small.done.wait(10)


def test_a_cancelled_request_stops_within_one_pass(make: Make) -> None:
    model = CountingModel(gate=threading.Semaphore(0))
    scheduler = make(model)
    listener = Listener()
    generation = request([1], listener, max_tokens=90)
    scheduler.submit(generation)
    assert model.gate is not None
    model.gate.release(3)
    until(lambda: len(model.passes) == 3)
    scheduler.cancel(generation)
    model.gate.release(1)
    until(lambda: scheduler.running == 0)
    assert len(model.passes) <= 4
    assert len(listener.pieces) <= 3
    assert scheduler.counts.finished["abort"] == 1


def test_a_waiting_request_that_is_cancelled_never_runs(make: Make) -> None:
    model = CountingModel(gate=threading.Semaphore(0))
    scheduler = make(model, max_running=1)
    running, waiting = Listener(), Listener()
    scheduler.submit(request([1], running, max_tokens=2))
    until(lambda: scheduler.running == 1)
    second = request([50], waiting)
    scheduler.submit(second)
    scheduler.cancel(second)
    assert model.gate is not None
    model.gate.release(100)
    assert running.done.wait(10)
    until(lambda: scheduler.waiting == 0)
    assert waiting.pieces == []


def test_a_pass_that_fails_fails_its_requests_and_the_engine_goes_on(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    failing = [True]
    scheduler = make(CountingModel(fails=lambda: failing[0]))
    listener = Listener()
    scheduler.submit(request([1], listener))
    assert listener.done.wait(10)
    assert listener.failed
    assert "out of memory" in caplog.text
    failing[0] = False
    after = Listener()
    scheduler.submit(request([1], after))
    assert after.done.wait(10)
    assert after.text == "2 3 4 5 6 "
    assert scheduler.counts.finished == {"stop": 0, "length": 1, "abort": 0, "error": 1}


def test_stopping_fails_what_runs_and_refuses_what_comes() -> None:
    model = CountingModel(gate=threading.Semaphore(0))
    scheduler = Scheduler(model, max_running=1, max_waiting=4, cache_tokens=100)
    running, waiting = Listener(), Listener()
    scheduler.submit(request([1], running))
    until(lambda: scheduler.running == 1)
    scheduler.submit(request([1], waiting))
    assert model.gate is not None
    threading.Timer(0.05, model.gate.release, (1,)).start()
    scheduler.stop()
    assert running.failed
    assert waiting.failed
    assert not scheduler.is_alive
    with pytest.raises(Unavailable, match="shutting down"):
        scheduler.submit(request([1], Listener()))
