"""What people do with AI feedback: estimate, launch, look, stop, resume."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, InvalidInput, NotFound
from services.jobs import store as job_store
from services.jobs.models import JobStatus
from services.jobs.service import Jobs, release
from services.metering.allowance import Allowance
from services.metering.models import Price
from services.metering.service import Metering
from services.preferences.judging import count_to_judge, key_of, to_judge
from services.preferences.models import Turn
from services.preferences.text import text_key
from services.registry.service import Registry
from services.rlaif import estimate as estimating
from services.rlaif import store
from services.rlaif.judge import DEFAULT_URL, AnthropicJudge, judge_of
from services.rlaif.ledger import abandon_lost
from services.rlaif.models import (
    BASE,
    BATCH_FROM,
    Call,
    Estimate,
    Kind,
    Mode,
    Run,
    Selection,
    Spec,
    validate,
)
from services.rlaif.prices import price_of
from services.rlaif.prompts import Found, Traffic, dialogues
from services.rlaif.store import ItemRow, PromptRow, RunRow
from services.settings import Settings
from services.tenants.aliases import Aliases
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

KIND = "rlaif.run"
Prompts = Sequence[tuple[Turn, ...]]


class Rlaif:
    """The runs of AI feedback of all tenants.

    Args:
        registry: Knows the adapters that may answer.
        traffic: What users asked, where somebody keeps that.
        clock: Gives the present time.
    """

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        metering: Metering,
        registry: Registry,
        settings: Settings,
        *,
        traffic: Traffic | None = None,
        clock: Clock = utcnow,
    ) -> None:
        self.db = db
        self.metering = metering
        self.registry = registry
        self._jobs = jobs
        self._settings = settings
        self._traffic = traffic
        self._clock = clock
        self._aliases = Aliases(db, clock)

    @property
    def is_configured(self) -> bool:
        """Whether the settings name a judge."""
        return bool(self._settings.judge_model)

    @property
    def judge_name(self) -> str:
        """The model that judges; empty where the settings name none."""
        return self._settings.judge_model

    def judge(self, spec: Spec) -> AnthropicJudge:
        """A client of the judge, as a run needs it.

        Raises:
            WrongConfiguration: The settings name none.
        """
        effort = self._settings.judge_effort or None
        return judge_of(self._settings, max_tokens=spec.max_tokens, effort=effort)

    def estimate(self, actor: Actor, tenant_id: str, spec: Spec, prompts: Prompts = ()) -> Estimate:
        """What a run would do and cost; nothing is asked and nothing is paid.

        Raises:
            NotPermitted: The actor may not make pairs in this tenant.
            InvalidInput: The order cannot be carried out.
            WrongConfiguration: There is no judge, or nobody knows its price.
        """
        tenant = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        spec = validate(spec)
        judge = self.judge(spec)
        judge.close()
        price = price_of(self._settings, self.metering)
        with self.db.read() as session:
            measured = store.measured(session, tenant, judge.revision)
            sizes = [] if spec.kind is Kind.GENERATE else self._sizes(session, tenant, spec)
        if spec.kind is Kind.JUDGE:
            is_batch = self.is_batch(spec, 2 * len(sizes))
            return estimating.of_pairs(
                spec, sizes, judge=price, measured=measured, is_batch=is_batch
            )
        asked = [
            sum(len(turn.content.encode()) for turn in _asked(turns, spec.system))
            for turns in prompts
        ]
        is_batch = self.is_batch(spec, 2 * len(asked) * spec.pairs_per_prompt)
        return estimating.of_prompts(
            spec, asked, own=self._own_price(tenant, spec), judge=price, measured=measured,
            is_batch=is_batch,
        )  # fmt: skip

    def launch(self, actor: Actor, tenant_id: str, spec: Spec, prompts: Prompts = ()) -> Run:
        """Queue a run.

        Everything that can be known to be wrong is refused now, and nothing is queued.

        Args:
            prompts: For a run that generates; see `prompts.read`.

        Raises:
            NotPermitted: The actor may not make pairs in this tenant.
            InvalidInput: The order cannot be carried out.
            WrongConfiguration: There is no judge, or nobody knows its price.
            NotFound: The tenant has no such adapter.
            Conflict: There is no pair to judge.
            BudgetExceeded: It is expected to cost more than is left of the tenant's month.
        """
        tenant = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        spec = validate(spec)
        judge = self.judge(spec)
        judge.close()
        price = price_of(self._settings, self.metering)
        if spec.kind is Kind.GENERATE and not prompts:
            raise InvalidInput("prompts: expected at least one, found none").because("no_prompts")
        if spec.kind is Kind.GENERATE:
            spec = self._with_model(actor, tenant, spec)
        with self.db.read() as session:
            has_budget = self.metering.month_left(session, tenant) is not None
        # Reading every pair twice is for those whom a budget binds.
        expected = self.estimate(actor, tenant, spec, prompts).expected_micro if has_budget else 0
        run_id = new_id()
        with self.db.write() as session:
            self._refuse_beyond_month(session, tenant, expected)
            job = self._jobs.enqueue_in_session(
                session, actor, tenant, KIND, {"run_id": run_id}, permission=Permission.EDIT_PAIRS
            )
            session.add(
                RunRow(
                    id=run_id, tenant_id=tenant, job_id=job.id, spec=spec.as_json(),
                    judge=judge.name, revision=judge.revision, price=store.price_json(price),
                    cap_micro=spec.cap_micro, is_planned=spec.kind is Kind.JUDGE, outcome=None,
                    created_at=self._clock(), created_by_id=actor.id, created_by=actor.name,
                )
            )  # fmt: skip
            session.flush()
            if spec.kind is Kind.GENERATE:
                count = self._add_prompts(session, tenant, run_id, spec, prompts)
            else:
                count = self._add_pairs(session, tenant, run_id, spec)
            details: dict[str, Any] = {
                "kind": spec.kind.value, "judge": judge.name, "revision": judge.revision,
                "cap_micro": spec.cap_micro, "count": count, "price": price.version,
            }  # fmt: skip
            self._record(session, actor, "rlaif.launched", run_id, tenant, details)
        return self.get(actor, run_id)

    def list(self, actor: Actor, tenant_id: str, *, limit: int = 100) -> builtins.list[Run]:
        """The tenant's runs, newest first."""
        tenant = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self.db.read() as session:
            return store.of_tenant(session, tenant, limit)

    def get(self, actor: Actor, run_id: str) -> Run:
        """One run.

        Raises:
            NotFound: No run of this id exists in a tenant whose pairs the actor may read.
        """
        with self.db.read() as session:
            run = store.find(session, run_id)
        if run is None or not actor.may(Permission.READ_PAIRS, run.tenant_id):
            raise NotFound(f"run {run_id!r} was not found").because("no_such_run")
        return run

    def calls(
        self, actor: Actor, run_id: str, *, limit: int = 200, only_failed: bool = False
    ) -> builtins.list[Call]:
        """Calls of a run, newest first."""
        run = self.get(actor, run_id)
        with self.db.read() as session:
            return store.calls_of(session, run.id, limit, only_failed=only_failed)

    def waiting(self, actor: Actor, tenant_id: str, selection: Selection) -> int:
        """How many pairs wait for a judge; counted no further than the largest run."""
        tenant = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self.db.read() as session:
            return count_to_judge(session, tenant, is_stale=selection is Selection.STALE)

    def stop(self, actor: Actor, run_id: str) -> Run:
        """Ask a run to end: what is on its way comes back first, what is done is kept.

        Raises:
            Conflict: It has already ended.
        """
        run = self._mine(actor, run_id)
        self._jobs.request_stop(actor, run.job.id)
        return self.get(actor, run_id)

    def resume(
        self,
        actor: Actor,
        run_id: str,
        *,
        cap_micro: int | None = None,
        ask_lost_again: bool = False,
    ) -> Run:
        """Queue a run that has ended again; it goes on at the call where it was.

        Args:
            cap_micro: A new cap, in place of the old one.
            ask_lost_again: Ask again what was lost, although it may have been paid for.

        Raises:
            Conflict: It waits or runs, or there is nothing left to do.
            InvalidInput: The cap is below what is spent.
            BudgetExceeded: Nothing is left of the tenant's month.
        """
        run = self._mine(actor, run_id)
        if not run.job.status.is_final:
            raise Conflict(
                f"run {run_id}: expected one that has ended, found {run.job.status}"
            ).because("run_not_ended")
        if cap_micro is not None and not run.spent_micro < cap_micro <= 10**12:
            raise InvalidInput(
                f"cap: expected more than the {run.spent_micro / 1e6:.6f} USD that are spent and "
                f"at most 1000000, found {cap_micro / 1e6:.6f}"
            ).because("cap_below_spent", spent=run.spent_micro / 1e6, found=cap_micro / 1e6)
        if run.outcome is not None and not ask_lost_again and cap_micro is None:
            raise Conflict(
                f"run {run_id}: it has ended ({run.outcome}); raise the cap, or ask lost calls again"
            ).because("run_has_ended")
        with self.db.write() as session:
            row = store.locked(session, run_id)
            assert row is not None, "it was just read"
            self._refuse_beyond_month(session, run.tenant_id, 1)
            row.cap_micro = cap_micro or row.cap_micro
            row.outcome = None
            again = abandon_lost(session, run_id) if ask_lost_again else 0
            details = {"cap_micro": row.cap_micro, "lost_again": again}
            self._record(session, actor, "rlaif.resumed", run_id, run.tenant_id, details)
            self._queue_again(session, run.job.id)
        return self.get(actor, run_id)

    def _refuse_beyond_month(self, session: Session, tenant_id: str, micro: int) -> None:
        held = store.held(session, tenant_id)
        allowance = Allowance(self.metering, tenant_id)
        allowance.refuse_beyond(session, micro, "the run", held_micro=held)

    @staticmethod
    def _queue_again(session: Session, job_id: str) -> None:
        """Queue a job that has ended, however it did: one that ran into its cap has succeeded."""
        job = job_store.locked(session, job_id)
        assert job is not None, "a run has a job"
        release(job, JobStatus.QUEUED, "waiting for a worker")
        job.error, job.ended_at, job.crashes = None, None, 0

    def has_traffic(self, tenant_id: str) -> bool:
        """Whether what the tenant's users asked is kept, so that prompts can be drawn from it."""
        return self._traffic is not None and self._traffic.is_kept(tenant_id)

    def traffic_prompts(
        self, actor: Actor, tenant_id: str, *, limit: int, since: datetime | None = None
    ) -> Found:
        """Prompts that users asked the gateway; whoever keeps them notes the reading.

        Raises:
            NotPermitted: The actor may not.
            Conflict: The tenant has not opted in.
        """
        tenant = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        if self._traffic is None or not self._traffic.is_kept(tenant):
            raise Conflict(
                f"tenant {tenant}: expected that requests are kept, found that they are not"
            ).because("requests_not_kept")
        return dialogues(self._traffic.prompts(actor, tenant, limit=limit, since=since))

    def is_batch(self, spec: Spec, calls: int) -> bool:
        """Whether so many calls go as batches; by itself only where batches are known to be."""
        if spec.mode is not Mode.AUTO:
            return spec.mode is Mode.BATCH
        return calls >= BATCH_FROM and self._settings.judge_url == DEFAULT_URL

    def _mine(self, actor: Actor, run_id: str) -> Run:
        run = self.get(actor, run_id)
        scope(actor, run.tenant_id, Permission.EDIT_PAIRS)
        return run

    def _with_model(self, actor: Actor, tenant_id: str, spec: Spec) -> Spec:
        """The order with the adapter that is served now, or a named one that exists."""
        model = spec.model
        if not model:
            aliases = {one.alias: one.adapter for one in self._aliases.aliases(actor, tenant_id)}
            model = aliases.get(tenant_id) or BASE
        if model != BASE:
            self.registry.get(actor, tenant_id, model)
        return validate(Spec.from_json({**spec.as_json(), "model": model}))

    def _own_price(self, tenant_id: str, spec: Spec) -> Price:
        served = self._settings.base_model if spec.model in {"", BASE} else spec.model
        return self.metering.price(served)[1]

    @staticmethod
    def _sizes(session: Session, tenant_id: str, spec: Spec) -> builtins.list[tuple[int, int, int]]:
        return [
            (
                sum(len(turn.content.encode()) for turn in pair.prompt.turns),
                len(pair.responses[0].text.encode()),
                len(pair.responses[1].text.encode()),
            )
            for _, pair in to_judge(
                session, tenant_id, is_stale=spec.selection is Selection.STALE,
                source=spec.from_source or None, limit=spec.limit,
            )
        ]  # fmt: skip

    @staticmethod
    def _add_prompts(
        session: Session, tenant_id: str, run_id: str, spec: Spec, prompts: Prompts
    ) -> int:
        for number, turns in enumerate(prompts):
            asked = [vars(turn) for turn in _asked(turns, spec.system)]
            session.add(
                PromptRow(
                    id=new_id(), run_id=run_id, tenant_id=tenant_id, number=number, turns=asked
                )
            )
        return len(prompts)

    @staticmethod
    def _add_pairs(session: Session, tenant_id: str, run_id: str, spec: Spec) -> int:
        found = to_judge(
            session, tenant_id, is_stale=spec.selection is Selection.STALE,
            source=spec.from_source or None, limit=spec.limit,
        )  # fmt: skip
        if not found:
            raise Conflict("expected at least one pair to judge, found none").because(
                "no_pairs_to_judge"
            )
        for number, (_, pair) in enumerate(found):
            low, high = sorted(pair.responses, key=lambda one: text_key(one.text))
            session.add(
                ItemRow(
                    id=new_id(), run_id=run_id, tenant_id=tenant_id, number=number,
                    # An edit may have made two pairs the same: each is judged under its own name.
                    key=_unique(key_of(pair.prompt.turns, low.text, high.text), pair.id),
                    prompt_id=None, low_id=low.id, high_id=high.id, pair_id=pair.id,
                )
            )  # fmt: skip
        return len(found)

    def _record(
        self, session: Session, actor: Actor, action: str, run_id: str, tenant_id: str,
        details: dict[str, Any],
    ) -> None:  # fmt: skip
        record(
            session, actor, action, f"rlaif:{run_id}", tenant_id=tenant_id, details=details,
            at=self._clock(),
        )  # fmt: skip


def _asked(turns: tuple[Turn, ...], system: str) -> tuple[Turn, ...]:
    if not system.strip() or (turns and turns[0].role == "system"):
        return turns
    return (Turn("system", system.strip()), *turns)


def _unique(key: str, pair_id: str) -> str:
    """The key that finds verdicts, made unique within a run by what follows it."""
    return f"{key}-{pair_id}"
