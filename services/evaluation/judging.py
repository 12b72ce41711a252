"""Asks the AI judge which answer is better, in both orders; each verdict is paid for once.

The judge is handed in by whoever puts the parts together: evaluation knows only what it asks of
one. A verdict is on the disk before the next question is asked, so an evaluation that is killed
goes on behind it; and so is each question before it is sent, so none is paid for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.errors import ConsoleError
from services.evaluation.folder import EvaluationFolder
from services.evaluation.models import AnswerPair, JudgeScore
from services.evaluation.purse import Fee, Purse, Question

SIDES = ("base", "adapter")
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
MAX_TRIES = 8
"""So often is one question asked of a judge that is busy."""
LOST = "sent, and the program ended before the answer was there; it may have been paid for"


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

    def compare(
        self,
        prompt: Sequence[Mapping[str, str]],
        first: str,
        second: str,
        /,
        *,
        call_id: str | None = None,
    ) -> Opinion:
        """Judge two answers, shown in this order.

        Args:
            call_id: Names the call to the judge's server.
        """
        ...


@dataclass(frozen=True)
class Bench:
    """A judge, and what its refusals mean.

    Attributes:
        fee: What it costs.
        again: Nothing was judged, and nothing is owed: ask again after a pause.
        missing: There will be no verdict on these answers; go on with the next ones.
        doubtful: Those of `missing` that may have been paid for.
    """

    judge: Judge
    fee: Fee
    again: tuple[type[ConsoleError], ...]
    missing: tuple[type[ConsoleError], ...]
    doubtful: tuple[type[ConsoleError], ...] = ()


def judge_answers(
    folder: EvaluationFolder,
    answers: Sequence[AnswerPair],
    bench: Bench,
    purse: Purse,
    *,
    wait: Callable[[float], None],
    show: Callable[[int, int], None],
) -> None:
    """Have all answers judged in both orders that are not judged yet, as far as the cap goes.

    Args:
        purse: Pays for them.
        wait: Pauses for some seconds; raises what ends the work.
        show: Told how many questions are asked, and of how many.

    Raises:
        BudgetExceeded: The tenant's month does not allow the next question.
        ConsoleError: Nothing can be judged until a person acts; what was judged is kept.
    """
    folder.mend("judged", "asked")
    purse.open()
    done = {(score.position, score.first) for score in folder.judged()}
    asked = [(answer, first) for answer in answers for first in SIDES]
    for number, (answer, first) in enumerate(asked):
        if (answer.position, first) in done:
            continue
        show(number, len(asked))
        wait(0.0)
        found = _judged(answer, first, bench, purse, wait)
        if found is None:
            return
        folder.add_judged(found)
        purse.settle(found)


def _judged(
    answer: AnswerPair, first: str, bench: Bench, purse: Purse, wait: Callable[[float], None]
) -> JudgeScore | None:
    """One verdict; None where the cap does not allow the question."""
    question = (answer.position, first)
    if purse.was_sent(question):
        return JudgeScore(*question, None, LOST, "", bench.judge.name, 0, 0)
    shown = (answer.base, answer.adapter) if first == "base" else (answer.adapter, answer.base)
    asked = _Asked(question, answer, shown, bench, purse)
    try:
        found = asked.patiently(wait)
    except bench.missing as failure:
        paid = (getattr(failure, "prompt_tokens", 0), getattr(failure, "completion_tokens", 0))
        if not any(paid) and not isinstance(failure, bench.doubtful):
            purse.nothing_owed(question)
        return JudgeScore(
            answer.position, first, None, failure.message, "", bench.judge.name, *paid
        )
    if found is None:
        return None
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


@dataclass(frozen=True)
class _Asked:
    """One question, asked until it is answered."""

    question: Question
    answer: AnswerPair
    shown: tuple[str, str]
    bench: Bench
    purse: Purse

    def patiently(self, wait: Callable[[float], None]) -> Opinion | None:
        """The answer; None where the cap does not allow the question."""
        pause = FIRST_PAUSE_S
        for tries in range(1, MAX_TRIES + 1):
            try:
                return self._once()
            except self.bench.again as failure:
                if tries == MAX_TRIES:
                    raise
                asked_for = getattr(failure, "retry_after_s", None)
                wait(min(pause if asked_for is None else float(asked_for), LONGEST_PAUSE_S))
                pause *= 2
        raise AssertionError("the last try returns or raises")

    def _once(self) -> Opinion | None:
        if not self.purse.begin(self.question, self.answer.prompt, *self.shown):
            return None
        try:
            return self.bench.judge.compare(
                self.answer.prompt, *self.shown, call_id=self.purse.call_id(self.question)
            )
        except self.bench.missing:
            raise
        except ConsoleError:
            self.purse.nothing_owed(self.question)
            raise
