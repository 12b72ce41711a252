"""Asks the AI judge which answer is better, in both orders; each verdict is paid for once.

The judge is handed in by whoever puts the parts together: evaluation knows only what it asks of
one. A verdict is on the disk before the next question is asked, so an evaluation that is killed
goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.errors import ConsoleError
from services.evaluation.folder import EvaluationFolder
from services.evaluation.models import AnswerPair, JudgeScore

SIDES = ("base", "adapter")
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
MAX_TRIES = 8
"""So often is one question asked of a judge that is busy."""


class Opinion(Protocol):
    """What a judge said of two answers."""

    @property
    def preferred(self) -> str | None:
        """`first`, `second`, or None for a tie."""
        ...

    @property
    def reason(self) -> str:
        """Its own words; untrusted."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """As the judge counted them."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Likewise."""
        ...


class Judge(Protocol):
    """Whoever can say which of two answers is better."""

    @property
    def name(self) -> str:
        """Of the model that judges."""
        ...

    def compare(self, prompt: Sequence[Mapping[str, str]], first: str, second: str, /) -> Opinion:
        """Judge two answers, shown in this order."""
        ...


@dataclass(frozen=True)
class Bench:
    """A judge, and what its refusals mean.

    Attributes:
        again: Nothing was judged, and nothing is owed: ask again after a pause.
        missing: There will be no verdict on these answers; go on with the next ones.
    """

    judge: Judge
    again: tuple[type[ConsoleError], ...]
    missing: tuple[type[ConsoleError], ...]


def judge_answers(
    folder: EvaluationFolder,
    answers: Sequence[AnswerPair],
    bench: Bench,
    *,
    wait: Callable[[float], None],
    show: Callable[[int, int], None],
) -> None:
    """Have all answers judged in both orders that are not judged yet.

    Args:
        wait: Pauses for some seconds; raises what ends the work.
        show: Told how many questions are asked, and of how many.

    Raises:
        ConsoleError: Nothing can be judged until a person acts; what was judged is kept.
    """
    folder.mend("judged")
    done = {(score.position, score.first) for score in folder.judged()}
    asked = [(answer, first) for answer in answers for first in SIDES]
    for number, (answer, first) in enumerate(asked):
        if (answer.position, first) in done:
            continue
        show(number, len(asked))
        wait(0.0)
        folder.add_judged(_judged(answer, first, bench, wait))


def _judged(
    answer: AnswerPair, first: str, bench: Bench, wait: Callable[[float], None]
) -> JudgeScore:
    shown = (answer.base, answer.adapter) if first == "base" else (answer.adapter, answer.base)
    try:
        found = _patiently(lambda: bench.judge.compare(answer.prompt, *shown), bench, wait)
    except bench.missing as failure:
        paid = (getattr(failure, "prompt_tokens", 0), getattr(failure, "completion_tokens", 0))
        return JudgeScore(
            answer.position, first, None, failure.message, "", bench.judge.name, *paid
        )
    second = SIDES[1 - SIDES.index(first)]
    preferred = {"first": first, "second": second, None: None}[found.preferred]
    return JudgeScore(
        position=answer.position,
        first=first,
        preferred=preferred,
        failure="",
        reason=found.reason,
        judge=bench.judge.name,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
    )


def _patiently(ask: Callable[[], Opinion], bench: Bench, wait: Callable[[float], None]) -> Opinion:
    pause = FIRST_PAUSE_S
    for tries in range(1, MAX_TRIES + 1):
        try:
            return ask()
        except bench.again as failure:
            if tries == MAX_TRIES:
                raise
            asked_for = getattr(failure, "retry_after_s", None)
            wait(min(pause if asked_for is None else float(asked_for), LONGEST_PAUSE_S))
            pause *= 2
    raise AssertionError("the last try returns or raises")
