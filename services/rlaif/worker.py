"""Runs AI feedback in the worker: candidates, then verdicts, then pairs.

Every stage begins by looking at what is there, so that it does not matter where the one before it
died. What one call found out is written before the next begins.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.errors import Unavailable
from services.inference.client import EngineClient
from services.jobs.claims import WORKER
from services.jobs.worker import JobContext, JobStopped
from services.rlaif import asking, generation, store
from services.rlaif.asking import Look
from services.rlaif.batches import Batches, Pace
from services.rlaif.direct import FIRST_PAUSE_S, Direct
from services.rlaif.failures import CapReached
from services.rlaif.generation import Generation
from services.rlaif.judge import AnthropicJudge
from services.rlaif.ledger import Ledger
from services.rlaif.models import BASE, Kind, Outcome, Run
from services.rlaif.publishing import Publishing
from services.rlaif.service import Rlaif

CANDIDATES_PART = 0.4
"""Of the progress of a run that generates."""
BUSY_S = 2.0


def rlaif_handler(context: JobContext) -> None:
    """Run, or go on with, the run that a job names.

    Raises:
        CreditTooLow: The judge's account is empty; what is done is kept, and the run can go on.
        AccessRefused: The judge takes neither key nor model; likewise.
        Later: The judge has been failing for long; likewise.
        EngineUnavailable: The engine stays away; likewise.
        BudgetExceeded: The tenant's money of the month is spent; likewise.
        JobStopped: A person asked for a stop.
        JobPutBack: This worker is leaving.
        JobTaken: Another worker holds the job.
    """
    run_rlaif(context)


def run_rlaif(
    context: JobContext, *, pace: Pace | None = None, first_pause_s: float = FIRST_PAUSE_S
) -> None:
    """The same at another pace; tests are in a hurry."""
    rlaif: Rlaif = context.services.rlaif
    run = rlaif.get(WORKER, context.job.payload["run_id"])
    if run.outcome is not None:
        return
    judge = rlaif.judge(run.spec)
    try:
        _Runner(context, rlaif, run, judge, pace, first_pause_s).run()
    finally:
        judge.close()


class _Runner:
    """One worker's care for one run."""

    def __init__(
        self,
        context: JobContext,
        rlaif: Rlaif,
        run: Run,
        judge: AnthropicJudge,
        pace: Pace | None,
        first_pause_s: float,
    ) -> None:
        self._context, self._rlaif, self._run, self._judge = context, rlaif, run, judge
        self._ledger = Ledger(rlaif.db, rlaif.metering, run)
        self._pace, self._first_pause_s = pace, first_pause_s

    def run(self) -> None:
        """Bring the run to an end, whatever state it is found in."""
        self._refuse_another_judge()
        self._ledger.recover()
        publishing = Publishing(self._rlaif.db, self._run)
        try:
            if self._run.spec.kind is Kind.GENERATE:
                self._generate()
            self._judge_all()
        except CapReached as reached:
            publishing.publish(only_judged=True)
            self._ledger.finish(Outcome.CAP_REACHED)
            self._context.progress(self._fraction(), reached.message, now=True)
            return
        except Exception:
            # Leaving, or out of credit: what is judged is there for people meanwhile.
            if not self._context.is_taken:
                publishing.publish(only_judged=True)
            raise
        publishing.publish(only_judged=False)
        self._ledger.finish(Outcome.COMPLETE)
        run = self._now()
        self._context.progress(
            1.0,
            f"{run.counts.published} pairs judged for {run.spent_micro / 1e6:.4f} USD",
            now=True,
        )

    def _refuse_another_judge(self) -> None:
        if (self._judge.name, self._judge.revision) != (self._run.judge, self._run.revision):
            raise Unavailable(
                f"run {self._run.id}: expected the judge {self._run.judge} with revision "
                f"{self._run.revision}, found {self._judge.name} with {self._judge.revision}; "
                "launch a new run instead"
            )

    def _generate(self) -> None:
        self._context.progress(0.0, "the engine writes candidates", now=True)
        settings = self._context.services.settings
        engine = EngineClient(settings.engine_url, timeout_s=600.0)
        try:
            self._have_adapter(engine)
            Generation(
                self._rlaif.db, self._ledger, self._rlaif.metering, engine, self._run,
                should_leave=lambda: self._context.should_leave,
                pause=self._context.wait,
                show=self._show_candidates,
            ).write()  # fmt: skip
        finally:
            engine.close()
        self._context.check()
        with self._rlaif.db.write() as session:
            row = store.locked(session, self._run.id)
            assert row is not None, "it was just read"
            if not row.is_planned:
                generation.plan(session, row.id, row.tenant_id, self._run.spec)
                row.is_planned = True

    def _have_adapter(self, engine: EngineClient) -> None:
        model = self._run.spec.model
        if model not in {"", BASE} and self._is_missing():
            adapter = self._rlaif.registry.get(WORKER, self._run.tenant_id, model)
            engine.load_adapter(adapter.name, adapter.path)

    def _is_missing(self) -> bool:
        counts = self._run.counts
        return counts.candidates < counts.prompts * len(self._run.spec.temperatures)

    def _show_candidates(self, done: int, total: int) -> None:
        fraction = CANDIDATES_PART * done / max(1, total)
        self._context.progress(fraction, f"{done} of {total} candidates are written")

    def _judge_all(self) -> None:
        """Ask until nothing is open; each pass sees what the one before it found out."""
        self._run = replace(self._run, counts=self._now().counts)
        batches = self._batches()
        batches.collect()
        while True:
            sent, is_busy = self._pass(batches)
            if not sent and not is_busy:
                return
            self._context.check()
            if not sent:
                self._show("another run is asking the same questions")
                self._context.wait(BUSY_S)

    def _pass(self, batches: Batches) -> tuple[bool, bool]:
        """Ask what is open in all items; whether anything was, and whether something is busy."""
        after, sent, is_busy = -1, False, False
        waiting: list[Any] = []
        as_batch = self._rlaif.is_batch(self._run.spec, 2 * self._run.counts.pairs)
        while True:
            with self._rlaif.db.read() as session:
                found = asking.items(session, self._run.id, after=after)
                looked = self._look(session, found)
            if not found:
                break
            after = found[-1].number
            is_busy = is_busy or looked.is_busy
            sent = sent or bool(looked.wanted)
            if as_batch:
                waiting += looked.wanted
            elif looked.wanted:
                is_busy = self._direct().ask(looked.wanted) or is_busy
                self._context.check()
        while waiting:
            taken = batches.send(waiting)
            batches.collect()
            waiting = waiting[taken:]
            self._context.check()
        return sent, is_busy

    def _look(self, session: Any, found: list[asking.Item]) -> Look:
        spec = self._run.spec
        return asking.look(
            session, self._run.tenant_id, self._run.id, found, revision=self._run.revision,
            attempts=spec.attempts, max_tokens=spec.max_tokens,
        )  # fmt: skip

    def _direct(self) -> Direct:
        return Direct(
            self._judge, self._ledger, concurrency=self._run.spec.concurrency,
            should_leave=lambda: self._context.should_leave,
            show=lambda: self._show(""), first_pause_s=self._first_pause_s,
        )  # fmt: skip

    def _batches(self) -> Batches:
        return Batches(
            self._rlaif.db, self._judge, self._ledger, self._run.id,
            pause=self._context.wait, check=self._check_batches, show=self._show, pace=self._pace,
        )  # fmt: skip

    def _check_batches(self) -> None:
        """Leave if it is time to; a person who stops the run stops the spending too."""
        try:
            self._context.check()
        except JobStopped:
            self._batches().cancel()
            raise

    def _show(self, what: str) -> None:
        run = self._now()
        ended, total = run.counts.calls_ended, 2 * run.counts.pairs
        said = f"{ended} of about {total} verdicts, {run.spent_micro / 1e6:.4f} USD"
        self._context.progress(self._fraction(run), f"{said}; {what}" if what else said)

    def _fraction(self, run: Run | None = None) -> float:
        run = run or self._now()
        part = run.counts.calls_ended / max(1, 2 * run.counts.pairs)
        if run.spec.kind is Kind.JUDGE:
            return min(part, 1.0)
        return CANDIDATES_PART + (1 - CANDIDATES_PART) * min(part, 1.0)

    def _now(self) -> Run:
        return self._rlaif.get(WORKER, self._run.id)
