"""The judge as evaluations ask it: what it says, what its refusals mean, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.db import Database
from services.evaluation.judging import Bench
from services.evaluation.purse import Fee, JudgeCost
from services.metering.allowance import Allowance
from services.metering.service import Metering
from services.rlaif import estimate, store
from services.rlaif.asking import FIXED_BYTES, OVERHEAD_TOKENS
from services.rlaif.failures import InDoubt, Later, NoVerdict, Rejected
from services.rlaif.judge import MAX_TOKENS, judge_of
from services.rlaif.models import JudgePrice, Kind, Spec
from services.rlaif.prices import price_of
from services.rlaif.rubric import question
from services.settings import Settings


def bench_of(settings: Settings, metering: Metering) -> Bench:
    """The judge that the settings name.

    Raises:
        WrongConfiguration: They name none, or nobody knows its price.
    """
    return Bench(
        judge_of(settings),
        fee=fee_of(price_of(settings, metering)),
        again=(Later,),
        missing=(NoVerdict, Rejected, InDoubt),
        doubtful=(InDoubt,),
    )


def fee_of(price: JudgePrice) -> Fee:
    """What direct calls cost at a price."""

    def most(prompt: Sequence[Mapping[str, str]], first: str, second: str) -> int:
        # A token is at least a byte.
        size = FIXED_BYTES + len(question(prompt, first, second).encode())
        return price.cost_micro(size + OVERHEAD_TOKENS, MAX_TOKENS, is_batch=False)

    return Fee(
        price.version, lambda read, written: price.cost_micro(read, written, is_batch=False), most
    )


class Quotes:
    """Says what the judge of an evaluation will cost."""

    def __init__(self, db: Database, settings: Settings, metering: Metering) -> None:
        self._db, self._settings, self._metering = db, settings, metering

    def __call__(self, tenant_id: str, prompts: Sequence[int], max_new_tokens: int) -> JudgeCost:
        """The cost of comparing two answers to each of some prompts, both orders.

        Args:
            prompts: Size of each, bytes.
            max_new_tokens: Longest answer, tokens.

        Raises:
            WrongConfiguration: The settings name no judge, or nobody knows its price.
        """
        judge, price = judge_of(self._settings), price_of(self._settings, self._metering)
        judge.close()
        likely = int(max_new_tokens * estimate.ANSWER_SHARE * estimate.BYTES_PER_TOKEN)
        spec = Spec(Kind.JUDGE, 1, attempts=1)
        with self._db.read() as session:
            measured = store.measured(session, tenant_id, judge.revision)
            left = Allowance(self._metering, tenant_id).left_micro(session)
        expected = estimate.of_pairs(
            spec, [(size, likely, likely) for size in prompts], judge=price, measured=measured,
            is_batch=False,
        )  # fmt: skip
        # A token may be longer than a byte: eight is more than any text has.
        longest = [(size, 8 * max_new_tokens, 8 * max_new_tokens) for size in prompts]
        most = estimate.of_pairs(
            spec, longest, judge=price, measured=measured, is_batch=False
        ).most_micro
        return JudgeCost(
            len(prompts), expected.calls, expected.judge_micro, most, left, price.version
        )
