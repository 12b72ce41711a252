"""Asking a judge: both orders, each verdict paid for once, and every way to be refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.errors import ConsoleError, Unavailable
from services.evaluation.folder import EvaluationFolder
from services.evaluation.judging import MAX_TRIES, Bench, judge_answers
from services.evaluation.models import AnswerPair
from services.jobs.worker import JobStopped
from tests.services.evaluation.world import answer

ANSWERS = [answer(n, base=f"base {n}", adapter=f"adapter {n}") for n in range(3)]


class Busy(Unavailable):
    retry_after_s = None


class Declined(ConsoleError):
    prompt_tokens, completion_tokens = 7, 1


class Halted(ConsoleError):
    """Neither busy nor declined: nothing can be judged."""


@dataclass(frozen=True)
class Said:
    preferred: str | None
    reason: str = "because"
    prompt_tokens: int = 20
    completion_tokens: int = 5


class Judge:
    """Prefers the adapter's answers, whichever comes first; does first what it is told to do."""

    name = "judge-1"

    def __init__(self, *told: ConsoleError) -> None:
        self.told, self.asked = list(told), 0

    def compare(self, prompt: Sequence[Mapping[str, str]], first: str, second: str, /) -> Said:
        self.asked += 1
        if self.told:
            raise self.told.pop(0)
        return Said("first" if first.startswith("adapter") else "second")


@pytest.fixture
def folder(tmp_path: Path) -> EvaluationFolder:
    return EvaluationFolder(tmp_path)


def ask(
    folder: EvaluationFolder, judge: Judge, answers: Sequence[AnswerPair] = ANSWERS
) -> list[float]:
    """Have answers judged; the pauses that were made."""
    pauses: list[float] = []
    judge_answers(
        folder, answers, Bench(judge, again=(Busy,), missing=(Declined,)),
        wait=lambda seconds: pauses.append(seconds) if seconds else None,
        show=lambda _number, _total: None,
    )  # fmt: skip
    return pauses


def test_every_answer_is_judged_once_in_both_orders(folder: EvaluationFolder) -> None:
    judge = Judge()
    assert ask(folder, judge) == []
    found = folder.judged()
    assert [(one.position, one.first) for one in found] == [
        (n, first) for n in range(3) for first in ("base", "adapter")
    ]
    assert {(one.preferred, one.failure, one.judge) for one in found} == {
        ("adapter", "", "judge-1")
    }
    ask(folder, judge)
    assert judge.asked == 6, "what is judged is not paid for again"


def test_a_half_written_verdict_is_asked_for_again(folder: EvaluationFolder) -> None:
    judge = Judge()
    ask(folder, judge)
    path = folder.path / "judged.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    ask(folder, judge)
    assert judge.asked == 7
    assert len(folder.judged()) == 6


def test_a_busy_judge_is_waited_for_as_long_as_it_asks(folder: EvaluationFolder) -> None:
    patient = Busy("later")
    patient.retry_after_s = 9.5  # type: ignore[assignment]
    judge = Judge(Busy("busy"), patient, Busy("busy"))
    assert ask(folder, judge) == [2.0, 9.5, 8.0]
    assert len(folder.judged()) == 6


def test_a_judge_that_stays_busy_ends_the_work_and_keeps_what_was_judged(
    folder: EvaluationFolder,
) -> None:
    ask(folder, Judge(), ANSWERS[:1])
    judge = Judge(*(Busy("busy") for _ in range(MAX_TRIES)))
    with pytest.raises(Busy):
        ask(folder, judge)
    assert judge.asked == MAX_TRIES
    assert len(folder.judged()) == 2


def test_a_declined_answer_is_noted_with_what_it_cost(folder: EvaluationFolder) -> None:
    ask(folder, Judge(Declined("the judge refused to compare these answers")))
    first = folder.judged()[0]
    assert (first.preferred, first.prompt_tokens, first.completion_tokens) == (None, 7, 1)
    assert first.failure == "the judge refused to compare these answers"
    assert len(folder.judged()) == 6


def test_what_only_a_person_can_mend_ends_the_work(folder: EvaluationFolder) -> None:
    with pytest.raises(Halted):
        ask(folder, Judge(Halted("the account's credit is too low")))
    assert folder.judged() == []


def test_a_stop_comes_between_two_questions(folder: EvaluationFolder) -> None:
    judge = Judge()

    def stop_after_two(_seconds: float) -> None:
        if judge.asked == 2:
            raise JobStopped

    with pytest.raises(JobStopped):
        judge_answers(
            folder, ANSWERS, Bench(judge, again=(Busy,), missing=(Declined,)),
            wait=stop_after_two, show=lambda _number, _total: None,
        )  # fmt: skip
    assert judge.asked == len(folder.judged()) == 2


def test_a_tie_is_a_tie(folder: EvaluationFolder) -> None:
    class Undecided(Judge):
        def compare(self, prompt: Sequence[Mapping[str, str]], first: str, second: str, /) -> Said:
            return replace(super().compare(prompt, first, second), preferred=None)

    ask(folder, Undecided())
    assert {one.preferred for one in folder.judged()} == {None}
    assert {one.failure for one in folder.judged()} == {""}
