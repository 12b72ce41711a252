"""The money of a judge's questions: named before each, capped, and a cost row after it.

A question is on the disk with the most that it can cost before it is sent. Whoever goes on after a
crash finds it there without a verdict: it may have been paid for, so it counts at that amount and
is not asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.db import Clock, Database, utcnow
from services.errors import BudgetExceeded
from services.evaluation.folder import EvaluationFolder
from services.evaluation.models import Evaluation, JudgeScore
from services.jobs.store import JobRow
from services.metering.allowance import Allowance
from services.metering.models import Usage
from services.metering.service import Metering

ALIAS = "(judge)"
"""What usage rows of verdicts stand under; no alias of a tenant can have brackets."""
DAY_S = 86_400.0
Question = tuple[int, str]
"""Position of the prompt, and whose answer is shown first."""


@dataclass(frozen=True)
class Fee:
    """What a judge costs.

    Attributes:
        version: Where its price is from, and which one.
        cost: Micro-USD of so many prompt and completion tokens.
        most: The most that comparing two answers to a prompt can cost, micro-USD.
    """

    version: str
    cost: Callable[[int, int], int]
    most: Callable[[Sequence[Mapping[str, str]], str, str], int]


@dataclass(frozen=True)
class JudgeCost:
    """What the judge of an evaluation will cost, before anything is paid.

    Attributes:
        expected_micro: Micro-USD; likewise `most_micro`, which no run of it can exceed.
        left_micro: Of the tenant's month; None where it has no budget.
    """

    prompts: int
    calls: int
    expected_micro: int
    most_micro: int
    left_micro: int | None
    price_version: str

    def refuse_beyond_month(self, tenant_id: str) -> None:
        """Do nothing where the expected cost fits into the month, or the tenant has no budget.

        Raises:
            BudgetExceeded: It does not fit.
        """
        if self.left_micro is not None and self.expected_micro > self.left_micro:
            raise BudgetExceeded(
                f"tenant {tenant_id}: the judge may cost {self.expected_micro / 1e6:.6f} USD, "
                f"{max(0, self.left_micro) / 1e6:.6f} USD of the month's budget are left; raise "
                "it, or evaluate without the judge",
                retry_after_s=DAY_S,
            )


class Purse:
    """The money of one evaluation's judge.

    Args:
        judge: Name of the model that judges.
    """

    def __init__(
        self,
        db: Database,
        metering: Metering,
        evaluation: Evaluation,
        folder: EvaluationFolder,
        fee: Fee,
        *,
        judge: str,
        clock: Clock = utcnow,
    ) -> None:
        self._db, self._metering, self._evaluation = db, metering, evaluation
        self._folder, self._fee, self._judge, self._clock = folder, fee, judge, clock
        self._allowance = Allowance(metering, evaluation.tenant_id)
        self._owed: dict[Question, int] = {}

    def open(self) -> None:
        """Take stock: what was sent, what it cost, and which cost rows a crash left unwritten."""
        self._owed = self._folder.asked()
        known = [score for score in self._folder.judged() if _tokens(score)]
        for score in known:
            self._owed[score.position, score.first] = self._fee.cost(*_tokens_of(score))
        with self._db.write() as session:
            missing = self._metering.unmetered(session, map(self._request_id, known))
            rows = [score for score in known if self._request_id(score) in missing]
            key_id = session.get_one(JobRow, self._evaluation.job.id).created_by_id
            self._metering.record_usage(session, *(self._usage(one, key_id) for one in rows))

    @property
    def spent_micro(self) -> int:
        """Paid so far, and what may have been paid for questions without an end."""
        return sum(self._owed.values())

    def was_sent(self, question: Question) -> bool:
        """Whether a question may have been paid for already."""
        return self._owed.get(question, 0) > 0

    def begin(
        self, question: Question, prompt: Sequence[Mapping[str, str]], first: str, second: str
    ) -> bool:
        """Note a question before it is sent.

        Returns:
            False where it might pass the evaluation's cap; then nothing is noted.

        Raises:
            BudgetExceeded: The tenant's month does not allow it.
        """
        most = self._fee.most(prompt, first, second)
        if self.spent_micro + most > self._evaluation.checks.judge_cap_micro:
            return False
        with self._db.read() as session:
            self._allowance.refuse_beyond(session, most, "the judge's next question")
        self._owe(question, most)
        return True

    def nothing_owed(self, question: Question) -> None:
        """Note that a question was not answered and is not billed."""
        self._owe(question, 0)

    def settle(self, score: JudgeScore) -> None:
        """Write what a verdict cost, once it is on the disk."""
        if not _tokens(score):
            return
        cost = self._fee.cost(*_tokens_of(score))
        self._owed[score.position, score.first] = cost
        self._allowance.paid(cost)
        with self._db.write() as session:
            key_id = session.get_one(JobRow, self._evaluation.job.id).created_by_id
            self._metering.record_usage(session, self._usage(score, key_id))

    def _owe(self, question: Question, micro: int) -> None:
        self._folder.add_asked(question, micro)
        self._owed[question] = micro

    def call_id(self, question: Question) -> str:
        """Names a question to the judge, and its cost row."""
        position, first = question
        return f"{self._evaluation.id}-{position}-{first}"

    def _request_id(self, score: JudgeScore) -> str:
        return self.call_id((score.position, score.first))

    def _usage(self, score: JudgeScore, key_id: str) -> Usage:
        return Usage(
            request_id=self._request_id(score), tenant_id=self._evaluation.tenant_id,
            key_id=key_id, alias=ALIAS, served=self._judge, arm="pinned",
            prompt_tokens=score.prompt_tokens, completion_tokens=score.completion_tokens,
            cost_micro=self._fee.cost(*_tokens_of(score)), price_version=self._fee.version,
            latency_ms=0, ttft_ms=None, status="error" if score.failure else "ok",
            at=self._clock(),
        )  # fmt: skip


def _tokens_of(score: JudgeScore) -> tuple[int, int]:
    return score.prompt_tokens, score.completion_tokens


def _tokens(score: JudgeScore) -> int:
    return sum(_tokens_of(score))
