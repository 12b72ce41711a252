"""Asking a judge: both orders, each verdict paid for once, and every way to be refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select

from services.db import Database
from services.errors import (
    BudgetExceeded,
    ConsoleError,
    InvalidInput,
    NotPermitted,
    Unavailable,
    WrongConfiguration,
)
from services.evaluation.beside import judged
from services.evaluation.folder import EvaluationFolder
from services.evaluation.judging import LOST, MAX_TRIES, Bench, judge_answers
from services.evaluation.models import AnswerPair, Checks, Evaluation, JudgeScore
from services.evaluation.purse import Fee, JudgeCost, Purse
from services.evaluation.service import Evaluations
from services.jobs.worker import JobStopped
from services.metering.store import UsageRow
from services.tenants.store import TenantRow
from tests.services.evaluation.world import ANNOTATOR, ENGINEER, World, add_tenant, answer, build

ANSWERS = [answer(n, base=f"base {n}", adapter=f"adapter {n}") for n in range(3)]


class Busy(Unavailable):
    retry_after_s = None


class Declined(ConsoleError):
    prompt_tokens, completion_tokens = 7, 1


class Doubtful(ConsoleError):
    """Sent, and no answer came."""


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

    def compare(
        self,
        prompt: Sequence[Mapping[str, str]],
        first: str,
        second: str,
        /,
        *,
        call_id: str | None = None,
    ) -> Said:
        self.asked += 1
        if self.told:
            raise self.told.pop(0)
        return Said("first" if first.startswith("adapter") else "second")


FEE = Fee("1", cost=lambda read, written: 2 * read + 10 * written, most=lambda *_: 1_000)
SAID = FEE.cost(20, 5)


def bench_of(judge: Judge) -> Bench:
    return Bench(judge, fee=FEE, again=(Busy,), missing=(Declined, Doubtful), doubtful=(Doubtful,))


@dataclass(frozen=True)
class Case:
    """One evaluation whose answers are judged."""

    world: World
    evaluation: Evaluation
    folder: EvaluationFolder

    def ask(self, judge: Judge, answers: Sequence[AnswerPair] = ANSWERS) -> list[float]:
        """Have answers judged by a worker that has just started; the pauses that were made."""
        pauses: list[float] = []
        judge_answers(
            self.folder, answers, bench_of(judge), self.purse(),
            wait=lambda seconds: pauses.append(seconds) if seconds else None,
            show=lambda _number, _total: None,
        )  # fmt: skip
        return pauses

    def purse(self) -> Purse:
        world = self.world
        return Purse(world.db, world.metering, self.evaluation, self.folder, FEE, judge="judge-1")

    def capped(self, micro: int) -> Case:
        checks = replace(self.evaluation.checks, judge_cap_micro=micro)
        return replace(self, evaluation=replace(self.evaluation, checks=checks))

    def usage(self) -> list[UsageRow]:
        with self.world.db.read() as session:
            return list(session.scalars(select(UsageRow).order_by(UsageRow.request_id)))


@pytest.fixture
def case(tmp_path: Path, _sqlite_template: Path) -> Iterator[Case]:
    (tmp_path / "param.db").write_bytes(_sqlite_template.read_bytes())
    database = Database(f"sqlite:///{tmp_path / 'param.db'}")
    add_tenant(database)
    world = build(database, tmp_path, pairs=12)
    made = world.evaluations.launch(
        ENGINEER, "legal", world.adapter.name, checks=Checks(judge=True)
    )
    folder = EvaluationFolder(tmp_path / "evaluation")
    folder.path.mkdir()
    yield Case(world, made, folder)
    database.close()


def test_every_answer_is_judged_once_in_both_orders(case: Case) -> None:
    judge = Judge()
    assert case.ask(judge) == []
    found = case.folder.judged()
    assert [(one.position, one.first) for one in found] == [
        (n, first) for n in range(3) for first in ("base", "adapter")
    ]
    assert {(one.preferred, one.failure, one.judge) for one in found} == {
        ("adapter", "", "judge-1")
    }
    case.ask(judge)
    assert judge.asked == 6, "what is judged is not paid for again"


def test_a_question_without_an_end_is_not_asked_again_and_counts_at_its_most(case: Case) -> None:
    judge = Judge()
    case.ask(judge)
    path = case.folder.path / "judged.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    case.ask(judge)
    assert judge.asked == 6
    last = case.folder.judged()[-1]
    assert (last.failure, last.preferred, last.prompt_tokens) == (LOST, None, 0)
    purse = case.purse()
    purse.open()
    assert purse.spent_micro == 5 * SAID + 1_000


def test_a_busy_judge_is_waited_for_as_long_as_it_asks(case: Case) -> None:
    patient = Busy("later")
    patient.retry_after_s = 9.5  # type: ignore[assignment]
    judge = Judge(Busy("busy"), patient, Busy("busy"))
    assert case.ask(judge) == [2.0, 9.5, 8.0]
    assert len(case.folder.judged()) == 6


def test_a_judge_that_stays_busy_ends_the_work_and_keeps_what_was_judged(
    case: Case,
) -> None:
    case.ask(Judge(), ANSWERS[:1])
    judge = Judge(*(Busy("busy") for _ in range(MAX_TRIES)))
    with pytest.raises(Busy):
        case.ask(judge)
    assert judge.asked == MAX_TRIES
    assert len(case.folder.judged()) == 2


def test_a_declined_answer_is_noted_with_what_it_cost(case: Case) -> None:
    case.ask(Judge(Declined("the judge refused to compare these answers")))
    first = case.folder.judged()[0]
    assert (first.preferred, first.prompt_tokens, first.completion_tokens) == (None, 7, 1)
    assert first.failure == "the judge refused to compare these answers"
    assert len(case.folder.judged()) == 6


def test_what_only_a_person_can_mend_ends_the_work(case: Case) -> None:
    with pytest.raises(Halted):
        case.ask(Judge(Halted("the account's credit is too low")))
    assert case.folder.judged() == []


def test_a_stop_comes_between_two_questions(case: Case) -> None:
    judge = Judge()

    def stop_after_two(_seconds: float) -> None:
        if judge.asked == 2:
            raise JobStopped

    with pytest.raises(JobStopped):
        judge_answers(
            case.folder, ANSWERS, bench_of(judge), case.purse(),
            wait=stop_after_two, show=lambda _number, _total: None,
        )  # fmt: skip
    assert judge.asked == len(case.folder.judged()) == 2


def test_a_tie_is_a_tie(case: Case) -> None:
    class Undecided(Judge):
        def compare(
            self,
            prompt: Sequence[Mapping[str, str]],
            first: str,
            second: str,
            /,
            *,
            call_id: str | None = None,
        ) -> Said:
            return replace(super().compare(prompt, first, second), preferred=None)

    case.ask(Undecided())
    assert {one.preferred for one in case.folder.judged()} == {None}
    assert {one.failure for one in case.folder.judged()} == {""}


def test_each_verdict_is_a_cost_row_also_where_a_crash_came_between(case: Case) -> None:
    class Crash(Exception):
        pass

    class Crashing(Purse):
        def settle(self, score: JudgeScore) -> None:
            raise Crash

    world = case.world
    purse = Crashing(world.db, world.metering, case.evaluation, case.folder, FEE, judge="judge-1")
    with pytest.raises(Crash):
        judge_answers(
            case.folder, ANSWERS, bench_of(Judge()), purse,
            wait=lambda _: None, show=lambda _number, _total: None,
        )  # fmt: skip
    assert case.usage() == []
    case.ask(Judge(Declined("the judge refused")))
    rows = case.usage()
    assert [row.request_id for row in rows] == [
        f"{case.evaluation.id}-{n}-{first}" for n in range(3) for first in ("adapter", "base")
    ]
    assert {(row.alias, row.served, row.price_version, row.key_id) for row in rows} == {
        ("(judge)", "judge-1", "1", ENGINEER.id)
    }
    assert sorted(row.cost_micro for row in rows) == [FEE.cost(7, 1), *[SAID] * 5]
    assert [row.status for row in rows].count("error") == 1


def test_the_cap_leaves_the_rest_unasked_and_is_never_passed(case: Case) -> None:
    judge = Judge()
    capped = case.capped(1_000 + 3 * SAID)
    capped.ask(judge)
    assert judge.asked == 4
    assert sum(row.cost_micro for row in case.usage()) == 4 * SAID <= 1_000 + 3 * SAID
    found = judged(case.folder.judged(), ANSWERS)
    assert found is not None
    assert (found.n, found.failed, found.unasked) == (2, 0, 1)
    capped.ask(judge)
    assert judge.asked == 4
    case.ask(judge)
    assert judge.asked == 6, "a higher cap goes on"


def test_what_is_not_billed_is_not_counted_and_what_may_be_is(case: Case) -> None:
    class Rejected(Declined):
        prompt_tokens, completion_tokens = 0, 0

    case.ask(Judge(Busy("busy"), Rejected("400"), Doubtful("no answer")))
    purse = case.purse()
    purse.open()
    assert purse.spent_micro == 4 * SAID + 1_000
    assert len(case.usage()) == 4


def test_a_spent_month_stops_the_judge_and_a_new_budget_goes_on(case: Case) -> None:
    def allow(micro: int) -> None:
        with case.world.db.write() as session:
            session.get_one(TenantRow, "legal").monthly_micro = micro

    judge = Judge()
    allow(1_000 + SAID)
    with pytest.raises(BudgetExceeded, match="the judge's next question may cost 0.001000 USD"):
        case.ask(judge)
    assert judge.asked == 2
    allow(100_000)
    case.ask(judge)
    assert judge.asked == 6


def test_what_a_judge_will_cost_is_said_before_and_refused_beyond_the_month(case: Case) -> None:
    world = case.world
    told: list[tuple[str, int, int]] = []

    def quotes(tenant_id: str, prompts: Sequence[int], longest: int) -> JudgeCost:
        told.append((tenant_id, len(prompts), longest))
        return JudgeCost(len(prompts), 2 * len(prompts), 900, 5_000, 899, "1")

    evaluations = Evaluations(
        world.db, world.jobs, world.registry, world.preferences,
        runs_dir=world.settings.runs_dir, quotes=quotes,
    )  # fmt: skip
    adapter = world.adapter.name
    found = evaluations.judge_cost(ENGINEER, "legal", adapter, prompts=["a", "b"])
    assert (found.calls, found.most_micro) == (4, 5_000)
    evaluations.judge_cost(ENGINEER, "legal", adapter)
    assert told == [("legal", 2, 64), ("legal", 10, 64)]
    with pytest.raises(BudgetExceeded, match=r"the judge may cost 0\.000900 USD, 0\.000899 USD of"):
        evaluations.launch(ENGINEER, "legal", adapter, checks=Checks(judge=True))
    evaluations.launch(ENGINEER, "legal", adapter)
    with pytest.raises(InvalidInput, match="judge's cap: expected more than 0"):
        evaluations.launch(ENGINEER, "legal", adapter, checks=Checks(judge=True, judge_cap_micro=0))
    with pytest.raises(NotPermitted):
        evaluations.judge_cost(ANNOTATOR, "legal", adapter)
    with pytest.raises(WrongConfiguration, match="found one without"):
        world.evaluations.judge_cost(ENGINEER, "legal", adapter)
