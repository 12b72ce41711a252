"""The money of a run: held before a call, settled after it, never more than the cap in all.

A call is written as sent, with its highest cost held, in a transaction that ends before the
request leaves; what came back is written in another one, together with its usage row. So whatever
process dies when, no call was sent that is not in the table, and the sum of what is paid and what
is held never passes the cap. A call that nobody knows the end of counts at its highest cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import NotFound
from services.jobs.claims import WORKER
from services.metering.allowance import Allowance
from services.metering.models import Usage
from services.metering.service import Metering
from services.rlaif import store
from services.rlaif.asking import Wanted
from services.rlaif.failures import CapReached, JudgeFailure, NoVerdict
from services.rlaif.models import CallState, JudgePrice, Outcome, Run
from services.rlaif.rubric import Judgement
from services.rlaif.store import BatchRow, CallRow, CandidateRow, RunRow

ALIAS = "(judge)"
"""What usage rows of verdicts stand under; no alias of a tenant can have brackets."""
OWN_ALIAS = "(candidates)"


class Ledger:
    """The money of one run.

    Args:
        run: As it was when the handler began; its cap is read again at each call.
    """

    def __init__(
        self, db: Database, metering: Metering, run: Run, *, clock: Clock = utcnow
    ) -> None:
        self.db = db
        self._metering = metering
        self._run = run
        self._clock = clock
        self._allowance = Allowance(metering, run.tenant_id)

    @property
    def price(self) -> JudgePrice:
        """What the judge costs."""
        return self._run.price

    def recover(self) -> int:
        """Take stock after a start: direct calls that were on their way are lost.

        Returns:
            How many those are.
        """
        with self.db.write() as session:
            row = self._row(session)
            wanted = select(CallRow).where(
                CallRow.run_id == row.id,
                CallRow.state == CallState.SENT,
                CallRow.batch_id.is_(None),
            )
            lost = list(session.scalars(wanted))
            for call in lost:
                self._end_in(session, row, call, CallState.LOST, call.reserved_micro)
                call.note = "the program ended before the answer was there"
            session.flush()
            held = select(func.sum(CallRow.reserved_micro)).where(
                CallRow.run_id == row.id,
                CallRow.state.in_([CallState.SENT, CallState.WAITING]),
            )
            row.reserved_micro = int(session.scalar(held) or 0)
            if lost:
                self._note(session, row, "rlaif.calls_lost", {"calls": len(lost)})
            return len(lost)

    def hold(self, micro: int) -> None:
        """Hold an amount.

        Raises:
            CapReached: The run may not spend so much any more.
            BudgetExceeded: The tenant may not, this month.
        """
        with self.db.write() as session:
            self._hold(session, self._row(session), micro)

    def begin(self, wanted: Wanted) -> str | None:
        """Write a direct call as sent, before it is.

        Returns:
            Id of its row; None where another run is asking the same at this moment.

        Raises:
            CapReached: The run may not spend so much any more.
            BudgetExceeded: The tenant may not, this month.
        """
        if wanted.waiting_id is not None:
            self.mark(wanted.waiting_id, CallState.SENT)
            return wanted.waiting_id
        try:
            with self.db.write() as session:
                row = self._row(session)
                made = self._new_call(wanted, is_batch=False)
                self._hold(session, row, made.reserved_micro)
                session.add(made)
                session.flush()
                return made.id
        except IntegrityError:
            return None

    def begin_batch(self, wanted: Sequence[Wanted]) -> tuple[str, list[Wanted]]:
        """Write a batch and its calls as sent, before it is; as many as cap and month allow.

        Returns:
            Id of its row, and what goes into it.

        Raises:
            CapReached: Not even one of the calls fits under the cap.
            BudgetExceeded: Not even one of them fits into the tenant's month.
        """
        with self.db.write() as session:
            row = self._row(session)
            taken: list[Wanted] = []
            calls = [self._new_call(one, is_batch=True) for one in wanted]
            free = row.cap_micro - row.spent_micro - row.reserved_micro
            left = self._allowance.left_micro(session)
            if left is not None:
                free = min(free, left - store.held(session, row.tenant_id))
            for one, call in zip(wanted, calls, strict=True):
                if call.reserved_micro > free:
                    break
                free -= call.reserved_micro
                taken.append(one)
            needed = sum(call.reserved_micro for call in calls[: max(1, len(taken))])
            self._hold(session, row, needed)
            batch = BatchRow(
                id=new_id(), run_id=row.id, tenant_id=row.tenant_id, remote_id=None,
                size=len(taken), created_at=self._clock(),
            )  # fmt: skip
            session.add(batch)
            session.flush()
            for call in calls[: len(taken)]:
                call.batch_id = batch.id
                session.add(call)
            self._note(session, row, "rlaif.batch_sent", {"batch": batch.id, "calls": len(taken)})
            return batch.id, taken

    def _new_call(self, wanted: Wanted, *, is_batch: bool) -> CallRow:
        return CallRow(
            id=new_id(),
            tenant_id=self._run.tenant_id,
            run_id=self._run.id,
            custom_id=wanted.custom_id,
            question=wanted.question,
            repetition=wanted.repetition,
            state=CallState.SENT,
            reserved_micro=wanted.most_micro(self.price, is_batch=is_batch),
            prompt_bytes=wanted.prompt_bytes,
            sent_at=self._clock(),
        )

    def mark(self, call_id: str, state: CallState, note: str = "") -> None:
        """Note that a call waits for the judge, or is sent once more; nothing is owed for it."""
        with self.db.write() as session:
            values = {"state": state, "note": note[:500]}
            session.execute(update(CallRow).where(CallRow.id == call_id).values(**values))

    def end(self, call_id: str, found: Judgement | JudgeFailure) -> None:
        """Settle a call that came back, or will not."""
        with self.db.write() as session:
            self.end_in(session, call_id, found)

    def end_in(self, session: Session, call_id: str, found: Judgement | JudgeFailure) -> None:
        """The same in a caller's transaction."""
        row = self._row(session)
        call = session.get_one(CallRow, call_id)
        if call.state not in {CallState.SENT, CallState.WAITING, CallState.LOST}:
            return  # settled before; a batch's results may be read twice
        read, written, cost = 0, 0, 0
        state = CallState.DONE
        if isinstance(found, Judgement | NoVerdict):
            read, written = found.prompt_tokens, found.completion_tokens
            cost = self.price.cost_micro(read, written, is_batch=call.batch_id is not None)
        if isinstance(found, JudgeFailure):
            state, call.note = CallState(found.state), found.message[:500]
            cost = call.reserved_micro if state is CallState.LOST else cost
        else:
            call.verdict = verdict_json(found)
        call.prompt_tokens, call.completion_tokens = read, written
        self._end_in(session, row, call, state, cost)

    def void(self, session: Session, call_id: str, note: str) -> None:
        """Note that a call ended without a verdict and without a bill."""
        call = session.get_one(CallRow, call_id)
        if call.state in {CallState.SENT, CallState.WAITING, CallState.LOST}:
            call.note = note[:500]
            self._end_in(session, self._row(session), call, CallState.VOID, 0)

    def _end_in(
        self, session: Session, row: RunRow, call: CallRow, state: CallState, cost: int
    ) -> None:
        was_lost = call.state == CallState.LOST
        row.spent_micro += cost - (call.cost_micro if was_lost else 0)
        self._allowance.paid(cost)
        row.reserved_micro -= 0 if was_lost else call.reserved_micro
        call.state, call.cost_micro, call.ended_at = state, cost, self._clock()
        if call.prompt_tokens or call.completion_tokens:
            self._metering.record_usage(session, self._usage(row, call))

    def _usage(self, row: RunRow, call: CallRow) -> Usage:
        now = self._clock()
        return Usage(
            request_id=call.id, tenant_id=row.tenant_id, key_id=row.created_by_id, alias=ALIAS,
            served=row.judge, arm="pinned", prompt_tokens=call.prompt_tokens,
            completion_tokens=call.completion_tokens, cost_micro=call.cost_micro,
            price_version=self.price.version,
            latency_ms=max(0, round((now - call.sent_at).total_seconds() * 1000)),
            ttft_ms=None, status="ok" if call.state == CallState.DONE else "error", at=now,
        )  # fmt: skip

    def keep(
        self, candidate: CandidateRow, held: int, *, price_version: str, latency_ms: int
    ) -> None:
        """Write a candidate and settle what was held for it."""
        with self.db.write() as session:
            row = self._row(session)
            row.reserved_micro = max(0, row.reserved_micro - held)
            row.spent_micro += candidate.cost_micro
            self._allowance.paid(candidate.cost_micro)
            session.add(candidate)
            usage = Usage(
                request_id=candidate.id, tenant_id=row.tenant_id, key_id=row.created_by_id,
                alias=OWN_ALIAS, served=candidate.served, arm="pinned",
                prompt_tokens=candidate.prompt_tokens,
                completion_tokens=candidate.completion_tokens, cost_micro=candidate.cost_micro,
                price_version=price_version, latency_ms=latency_ms, ttft_ms=None, status="ok",
                at=candidate.created_at,
            )  # fmt: skip
            self._metering.record_usage(session, usage)

    def free(self, held: int) -> None:
        """Give back what was held for something that did not happen."""
        with self.db.write() as session:
            row = self._row(session)
            row.reserved_micro = max(0, row.reserved_micro - held)

    def finish(self, outcome: Outcome) -> None:
        """Note how the run ended, once."""
        with self.db.write() as session:
            row = self._row(session)
            if row.outcome != outcome:
                row.outcome = outcome
                self._note(session, row, "rlaif.ended", {"outcome": outcome.value})

    def _hold(self, session: Session, row: RunRow, micro: int) -> None:
        free = row.cap_micro - row.spent_micro - row.reserved_micro
        if micro > free:
            raise CapReached(
                f"run {row.id}: the cap of {row.cap_micro / 1e6:.6f} USD is reached: the next call "
                f"may cost {micro / 1e6:.6f} USD, {max(0, free) / 1e6:.6f} USD are free"
            )
        if self._allowance.left_micro(session) is not None:
            held = store.held(session, row.tenant_id)
            self._allowance.refuse_beyond(session, micro, "the next call", held_micro=held)
        row.reserved_micro += micro

    def _row(self, session: Session) -> RunRow:
        row = store.locked(session, self._run.id)
        if row is None:
            raise NotFound(f"run {self._run.id!r} was not found")
        return row

    def _note(self, session: Session, row: RunRow, action: str, details: dict[str, Any]) -> None:
        record(
            session, WORKER, action, f"rlaif:{row.id}", tenant_id=row.tenant_id,
            details={**details, "spent_micro": row.spent_micro}, at=self._clock(),
        )  # fmt: skip


def verdict_json(found: Judgement) -> dict[str, Any]:
    """A verdict as its column keeps it."""
    return {
        "preferred": found.preferred,
        "first": dict(found.first_scores),
        "second": dict(found.second_scores),
        "reason": found.reason,
        "judge": found.judge,
        "revision": found.revision,
    }


def abandon_lost(session: Session, run_id: str) -> int:
    """Let lost calls of a run be asked again, and paid for again; how many."""
    lost = update(CallRow).where(CallRow.run_id == run_id, CallRow.state == CallState.LOST)
    found = session.execute(lost.values(state=CallState.ABANDONED))
    return cast("CursorResult[Any]", found).rowcount
