"""Message batches: half the price, results within a day, and never the same batch twice.

A batch has no name of ours over there, only the `custom_id`s inside, which are seen once it has
ended. So a batch is written down before it is sent. Where the answer to the sending was lost (the
program was killed, the line broke), nothing is sent again until the server's own list has told:

1. a batch of that size, made since then, that we know nothing of: wait for its end and read it;
   if our `custom_id`s are in it, it is ours, and it is read like any other;
2. none of that kind after a while: it never arrived, and its questions are free to be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.db import Clock, Database, utcnow
from services.rlaif.asking import Wanted
from services.rlaif.failures import (
    AccessRefused,
    CreditTooLow,
    InDoubt,
    JudgeFailure,
    Later,
    NoVerdict,
    Rejected,
)
from services.rlaif.judge import AnthropicJudge
from services.rlaif.ledger import Ledger
from services.rlaif.store import BatchRow, CallRow

MAX_REQUESTS = 10_000
MAX_BYTES = 64 << 20
"""Well below what a batch may hold: 100,000 requests and 256 MB."""
SKEW = timedelta(minutes=5)
"""How far the server's clock may be from ours."""
ARRIVES_WITHIN = timedelta(minutes=2)
"""A batch that the list does not show after so long never arrived."""
POLL_S, SLOW_POLL_S = 2.0, 60.0
PATIENCE = 20
SETTLE = 200


@dataclass(frozen=True)
class Pace:
    """How often the server is looked at; tests are in a hurry.

    Attributes:
        first_s: First pause between two looks, seconds; it grows by half to `longest_s`.
        arrives_within: See `ARRIVES_WITHIN`.
    """

    first_s: float = POLL_S
    longest_s: float = SLOW_POLL_S
    arrives_within: timedelta = ARRIVES_WITHIN


class Batches:
    """Puts many questions to the judge at once.

    Args:
        pause: Waits so many seconds, less where the run is to be left.
        check: Raises where the run is to be left.
        show: Told what is waited for.
    """

    def __init__(
        self,
        db: Database,
        judge: AnthropicJudge,
        ledger: Ledger,
        run_id: str,
        *,
        pause: Callable[[float], Any],
        check: Callable[[], None],
        show: Callable[[str], None],
        pace: Pace | None = None,
        clock: Clock = utcnow,
    ) -> None:
        self._db, self._judge, self._ledger, self._run_id = db, judge, ledger, run_id
        self._pause, self._check, self._show = pause, check, show
        self._pace = pace or Pace()
        self._clock = clock
        self._failures = 0

    def send(self, wanted: Sequence[Wanted]) -> int:
        """Send one batch with as many of the questions as fit into it and under the cap.

        Returns:
            How many are on their way.

        Raises:
            CapReached: Not even one of them fits under the cap.
            BudgetExceeded: Not even one of them fits into the tenant's month.
            Halt: No request can succeed until a person acts.
        """
        batch_id, taken = self._ledger.begin_batch(_fitting(wanted))
        requests = [
            {"custom_id": one.custom_id, "params": one.params(self._judge)} for one in taken
        ]
        try:
            remote_id = self._create(requests)
        except InDoubt:
            return len(taken)  # `collect` finds out
        except BaseException as failure:
            # The server said no, or we leave before it said yes: none of the questions was taken.
            self._give_up(batch_id, str(failure) or "not sent")
            raise
        self._failures = 0
        self._know(batch_id, remote_id)
        return len(taken)

    def _create(self, requests: Sequence[Any]) -> str:
        while True:
            try:
                with self._judge.told():
                    made = self._judge.client.messages.batches.create(requests=requests)
                    return str(made.id)
            except Later as later:
                self._wait_out(later)

    def collect(self) -> None:
        """Wait for every batch of the run that is on its way, and write down what came back.

        Raises:
            Halt: No request can succeed until a person acts.
            Later: The judge has been failing for long.
        """
        for row in self._open():
            remote_id = row.remote_id or self._found(row)
            if remote_id is None:
                self._give_up(row.id, "the batch never arrived")
                continue
            self._await_end(remote_id, row.size)
            self._take_in(row.id, remote_id)

    def cancel(self) -> None:
        """Ask the server to end what is on its way; what it has done by then is still read."""
        for row in self._open():
            if row.remote_id is not None:
                try:
                    with self._judge.told():
                        self._judge.client.messages.batches.cancel(row.remote_id)
                except JudgeFailure:
                    continue  # it has ended, or will within a day

    def _open(self) -> list[BatchRow]:
        with self._db.read() as session:
            wanted = select(BatchRow).where(
                BatchRow.run_id == self._run_id, BatchRow.ended_at.is_(None)
            )
            return list(session.scalars(wanted.order_by(BatchRow.created_at, BatchRow.id)))

    def _know(self, batch_id: str, remote_id: str) -> None:
        with self._db.write() as session:
            known = update(BatchRow).where(BatchRow.id == batch_id)
            session.execute(known.values(remote_id=remote_id))

    def _give_up(self, batch_id: str, why: str) -> None:
        with self._db.write() as session:
            for call in self._calls(session, batch_id):
                self._ledger.void(session, call.id, why)
            self._end(session, batch_id)

    def _end(self, session: Session, batch_id: str) -> None:
        ended = update(BatchRow).where(BatchRow.id == batch_id)
        session.execute(ended.values(ended_at=self._clock()))

    @staticmethod
    def _calls(session: Session, batch_id: str) -> list[CallRow]:
        return list(session.scalars(select(CallRow).where(CallRow.batch_id == batch_id)))

    def _await_end(self, remote_id: str, size: int) -> None:
        seconds = self._pace.first_s
        while True:
            found = self._insist(lambda: self._judge.client.messages.batches.retrieve(remote_id))
            if found is None or found.processing_status == "ended":
                return
            self._show(f"a batch of {size} questions is with the judge")
            self._check()
            self._pause(seconds)
            seconds = min(seconds * 1.5, self._pace.longest_s)

    def _insist(self, ask: Callable[[], Any]) -> Any:
        """Ask something that costs nothing until it is answered; None where it is gone."""
        while True:
            try:
                with self._judge.told():
                    answer = ask()
            except AccessRefused as refused:
                if "(404)" in refused.message:
                    return None
                raise
            except (Later, InDoubt) as later:
                self._wait_out(later)
                continue
            self._failures = 0
            return answer

    def _wait_out(self, failure: Later | InDoubt) -> None:
        self._failures += 1
        if self._failures > PATIENCE:
            raise failure
        self._check()
        asked = failure.retry_after_s if isinstance(failure, Later) else None
        grown = self._pace.first_s * 1.5 ** (self._failures - 1)
        self._pause(min(grown, self._pace.longest_s) if asked is None else asked)
        self._check()

    def _found(self, row: BatchRow) -> str | None:
        """Id of a batch that we may have sent; None where it never arrived."""
        with self._db.read() as session:
            ours = {call.custom_id for call in self._calls(session, row.id)}
            named = select(BatchRow.remote_id).where(BatchRow.remote_id.is_not(None))
            known = set(session.scalars(named))
        self._show("looking for a batch that may have been sent")
        while True:
            for remote_id in self._insist(lambda: list(self._like(row, known))):
                self._await_end(remote_id, row.size)
                if ours & {name for name, _ in self._results(remote_id)}:
                    self._know(row.id, remote_id)
                    return str(remote_id)
                known.add(remote_id)
            if self._clock() - row.created_at > self._pace.arrives_within:
                return None
            self._check()
            self._pause(self._pace.first_s)

    def _like(self, row: BatchRow, known: set[str | None]) -> Iterator[str]:
        for batch in self._judge.client.messages.batches.list(limit=100):
            made = batch.created_at
            if not isinstance(made, datetime):
                continue
            made = made if made.tzinfo else made.replace(tzinfo=UTC)
            if made < row.created_at - SKEW:
                return  # the list begins with the newest
            counts = batch.request_counts
            size = sum(
                getattr(counts, name)
                for name in ("processing", "succeeded", "errored", "canceled", "expired")
            )
            if size == row.size and batch.id not in known:
                yield batch.id

    def _results(self, remote_id: str) -> list[tuple[str, Any]]:
        def read() -> list[tuple[str, Any]]:
            listed = self._judge.client.messages.batches.results(remote_id)
            return [(str(one.custom_id), one.result) for one in listed]

        found: list[tuple[str, Any]] | None = self._insist(read)
        return found or []

    def _take_in(self, batch_id: str, remote_id: str) -> None:
        """Write down every result; calls without one are lost. Doing it twice changes nothing."""
        results = self._results(remote_id)
        with self._db.read() as session:
            ids = {call.custom_id: call.id for call in self._calls(session, batch_id)}
        halt: JudgeFailure | None = None
        left = dict(ids)
        for start in range(0, len(results), SETTLE):
            with self._db.write() as session:
                for custom_id, result in results[start : start + SETTLE]:
                    call_id = left.pop(custom_id, None)
                    if call_id is not None:
                        halt = self._settle(session, call_id, result) or halt
            self._show(f"reading {len(results)} results")
        with self._db.write() as session:
            for call_id in left.values():
                gone = InDoubt("the batch ended without a result for this question")
                self._ledger.end_in(session, call_id, gone)
            self._end(session, batch_id)
        if halt is not None:
            raise halt

    def _settle(self, session: Session, call_id: str, result: Any) -> JudgeFailure | None:
        """Write down one result; the reason to stop everything, if it is one."""
        kind = getattr(result, "type", None)
        if kind == "succeeded":
            try:
                self._ledger.end_in(session, call_id, self._judge.verdict(result.message))
            except NoVerdict as nothing:
                self._ledger.end_in(session, call_id, nothing)
            return None
        if kind != "errored":
            self._ledger.void(session, call_id, f"the batch {kind or 'lost'} it")
            return None
        failure = _of_error(getattr(result, "error", None))
        if isinstance(failure, Rejected):
            self._ledger.end_in(session, call_id, failure)
            return None
        self._ledger.void(session, call_id, failure.message)
        return failure if isinstance(failure, CreditTooLow) else None


def _of_error(response: Any) -> JudgeFailure:
    """What an errored result means; none of them is billed."""
    error = getattr(response, "error", None)
    kind = str(getattr(error, "type", "") or "")
    told = str(getattr(error, "message", "") or "").lower()
    if kind == "billing_error" or "credit balance is too low" in told:
        return CreditTooLow("the judge's account has too little credit; buy some, then resume")
    if kind == "invalid_request_error":
        return Rejected("the judge rejects the request (invalid_request_error)")
    return Later(f"the judge failed within the batch ({kind or 'no reason'})")


def _fitting(wanted: Sequence[Wanted]) -> list[Wanted]:
    found: list[Wanted] = []
    size = 0
    for one in wanted[:MAX_REQUESTS]:
        size += one.prompt_bytes + 2_000
        if found and size > MAX_BYTES:
            break
        found.append(one)
    return found
