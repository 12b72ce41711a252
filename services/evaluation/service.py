"""What people do with evaluations: launch, look at, read the verdict. Loads no torch."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from services.attestation.custody import Custody
from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import InvalidInput, NotFound, WrongConfiguration
from services.evaluation import scores, store
from services.evaluation.asked import (
    MAX_NEW_TOKENS,
    as_beta,
    as_messages,
    as_references,
    prompt_sizes,
    refuse_unless_amount,
    sizes_of,
)
from services.evaluation.facts import facts_of
from services.evaluation.gate import gate
from services.evaluation.models import (
    NOTHING,
    USUAL,
    AnswerPair,
    Checks,
    Evaluation,
    Gate,
    JudgeScore,
    Measured,
    Messages,
    PairScore,
    Summary,
)
from services.evaluation.policies import GatePolicies, policy_of
from services.evaluation.purse import JudgeCost
from services.evaluation.store import EvaluationRow
from services.jobs.models import JobStatus
from services.jobs.service import Jobs
from services.preferences.models import Dataset
from services.preferences.service import Preferences
from services.registry.models import Adapter
from services.registry.service import Registry
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

KIND = "evaluation.score"
Quotes = Callable[[str, Sequence[int], int], JudgeCost]
"""Of a tenant, the sizes of prompts in bytes, and the longest answer in tokens."""
_DIGESTS = ("_digest", "_sha256")


class Evaluations:
    """The evaluations of all tenants.

    Args:
        db: Where the rows live.
        jobs: The queue; an evaluation takes the place of a training run in it.
        registry: Where adapters come from.
        preferences: Where held-out pairs come from.
        runs_dir: Folder of the run folders.
        custody: States verdicts; without it they are only in the log.
        quotes: Says what a judge will cost; without it that is learned as it is paid.
        clock: Gives the present time.
    """

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        registry: Registry,
        preferences: Preferences,
        *,
        runs_dir: Path,
        custody: Custody | None = None,
        quotes: Quotes | None = None,
        clock: Clock = utcnow,
    ) -> None:
        self.db = db
        self.policies = GatePolicies(db, clock=clock)
        self.runs_dir = runs_dir
        self._jobs = jobs
        self._registry = registry
        self._preferences = preferences
        self._custody = custody
        self._quotes = quotes
        self._clock = clock

    def launch(
        self,
        actor: Actor,
        tenant_id: str,
        adapter_name: str,
        *,
        dataset_id: str | None = None,
        prompts: Sequence[str] | None = None,
        references: Sequence[str | None] | None = None,
        checks: Checks = USUAL,
        beta: float | None = None,
    ) -> Evaluation:
        """Queue an evaluation of an adapter against its base model.

        Args:
            dataset_id: Whose held-out pairs are scored; by default those of the dataset that
                the adapter learned from.
            prompts: Questions that both answer; by default those of held-out pairs and the
                demo's. An empty list asks nothing.
            references: What good answers to `prompts` say, as many; None for one that has none.
            checks: What else is measured.
            beta: For the implicit reward; by default that of the training run.

        Raises:
            NotPermitted: The actor may not evaluate in this tenant.
            NotFound: The tenant has no such adapter or dataset.
            InvalidInput: The dataset holds no held-out pair, a prompt is empty or too long, the
                references are not as many, beta is not positive, or the judge's cap is no amount.
            WrongConfiguration: A judge is asked for, and there is none, or none with a price.
            BudgetExceeded: The judge is expected to cost more than is left of the tenant's month.
        """
        tenant = scope(actor, tenant_id, Permission.TRAIN)
        adapter = self._registry.get(actor, tenant, adapter_name)
        dataset = self._dataset(actor, adapter, dataset_id)
        if dataset.n_eval < 1:
            raise InvalidInput(
                f"dataset {dataset.id}: expected at least 1 held-out pair, found none; "
                "freeze a dataset with more approved pairs"
            ).because("no_held_out")
        asked = None if prompts is None else as_messages(prompts)
        expected = None if references is None else as_references(references, asked)
        if checks.judge:
            refuse_unless_amount(checks.judge_cap_micro)
            if (cost := self._quote(tenant, dataset, asked)) is not None:
                cost.refuse_beyond_month(tenant)
        row = EvaluationRow(
            id=new_id(),
            tenant_id=tenant,
            adapter=adapter.name,
            adapter_digest=adapter.digest,
            base_model=adapter.base_model,
            base_digest=adapter.base_digest,
            dataset_id=dataset.id,
            dataset_sha256=dataset.sha256,
            prompts=None if asked is None else [builtins.list(prompt) for prompt in asked],
            beta=as_beta(adapter, beta),
            created_at=self._clock(),
            created_by=actor.name,
            reference_answers=expected,
            checks=asdict(checks),
        )
        self._queue(actor, row)
        return self.get(actor, row.id)

    def judge_cost(
        self,
        actor: Actor,
        tenant_id: str,
        adapter_name: str,
        *,
        dataset_id: str | None = None,
        prompts: Sequence[str] | None = None,
    ) -> JudgeCost:
        """What the judge of such an evaluation would cost; nothing is asked and nothing is paid.

        Args:
            dataset_id: As for `launch`; likewise `prompts`.

        Raises:
            NotPermitted: The actor may not evaluate in this tenant.
            NotFound: The tenant has no such adapter or dataset.
            WrongConfiguration: There is no judge, or none with a price.
        """
        tenant = scope(actor, tenant_id, Permission.TRAIN)
        adapter = self._registry.get(actor, tenant, adapter_name)
        asked = None if prompts is None else as_messages(prompts)
        found = self._quote(tenant, self._dataset(actor, adapter, dataset_id), asked)
        if found is None:
            raise WrongConfiguration("expected a console that has a judge, found one without")
        return found

    def _quote(
        self, tenant_id: str, dataset: Dataset, asked: Sequence[Messages] | None
    ) -> JudgeCost | None:
        if self._quotes is None:
            return None
        sizes = prompt_sizes(dataset.folder / "eval.jsonl") if asked is None else sizes_of(asked)
        return self._quotes(tenant_id, sizes, MAX_NEW_TOKENS)

    def list(
        self, actor: Actor, tenant_id: str, *, adapter: str | None = None, limit: int = 200
    ) -> builtins.list[Evaluation]:
        """The tenant's evaluations, newest first; of one adapter, if named."""
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            found = store.of_tenant(session, tenant, adapter=adapter, limit=limit)
            asked = policy_of(session, tenant)
        return [replace(one, policy=asked) for one in found]

    def get(self, actor: Actor, evaluation_id: str) -> Evaluation:
        """One evaluation.

        Raises:
            NotFound: None of this id exists in a tenant whose models the actor may read.
        """
        with self.db.read() as session:
            found = store.find(session, evaluation_id)
            if found is None or not actor.may(Permission.READ_MODELS, found.tenant_id):
                raise NotFound(f"evaluation {evaluation_id!r} was not found").because(
                    "no_such_evaluation"
                )
            return replace(found, policy=policy_of(session, found.tenant_id))

    def latest_for(self, actor: Actor, tenant_id: str, adapter: str) -> Evaluation | None:
        """The newest evaluation of an adapter that has ended well, else the newest of all."""
        found = self.list(actor, tenant_id, adapter=adapter)
        ended = [evaluation for evaluation in found if evaluation.summary is not None]
        return next(iter(ended or found), None)

    def pair_scores(self, actor: Actor, evaluation_id: str) -> builtins.list[PairScore]:
        """What base and adapter think of each held-out pair; empty until the end."""
        evaluation = self.get(actor, evaluation_id)
        with self.db.read() as session:
            return scores.pair_scores(session, evaluation.id)

    def answers(self, actor: Actor, evaluation_id: str) -> builtins.list[AnswerPair]:
        """What base and adapter answer, side by side; empty until the end. Untrusted text."""
        evaluation = self.get(actor, evaluation_id)
        with self.db.read() as session:
            return scores.answers(session, evaluation.id)

    def judgments(self, actor: Actor, evaluation_id: str) -> builtins.list[JudgeScore]:
        """What the judge said of the answers; empty where none was asked. Untrusted text."""
        evaluation = self.get(actor, evaluation_id)
        with self.db.read() as session:
            return scores.judge_scores(session, evaluation.id)

    def gate(self, actor: Actor, tenant_id: str, adapter: str) -> Gate:
        """Whether an adapter may be promoted without a stated reason, by its latest evaluation."""
        return gate(self.latest_for(actor, tenant_id, adapter))

    def stop(self, actor: Actor, evaluation_id: str) -> Evaluation:
        """Ask the evaluation to end; what was scored is kept for a later `resume`.

        Raises:
            Conflict: It has already ended.
        """
        self._jobs.request_stop(actor, self.get(actor, evaluation_id).job.id)
        return self.get(actor, evaluation_id)

    def resume(self, actor: Actor, evaluation_id: str) -> Evaluation:
        """Queue a stopped or failed evaluation again; it goes on behind what it has scored.

        Raises:
            Conflict: It waits, runs, or has succeeded.
        """
        self._jobs.resume(actor, self.get(actor, evaluation_id).job.id)
        return self.get(actor, evaluation_id)

    def finish(
        self,
        actor: Actor,
        evaluation_id: str,
        summary: Summary,
        pairs: Sequence[PairScore],
        answers: Sequence[AnswerPair],
        measured: Measured = NOTHING,
    ) -> bool:
        """Write what was found, once; the worker's call.

        Returns:
            Whether anything was written: False where an earlier call has done it already.

        Raises:
            NotPermitted: The actor may not evaluate in the tenant.
        """
        evaluation = self.get(actor, evaluation_id)
        scope(actor, evaluation.tenant_id, Permission.TRAIN)
        with self.db.write() as session:
            if store.is_finished(session, evaluation.id):
                return False
            now = self._clock()
            scores.add_results(session, evaluation, summary, pairs, answers, measured, at=now)
            details = facts_of(evaluation, summary)
            record(
                session,
                actor,
                "evaluation.finished",
                f"evaluation:{evaluation.id}",
                tenant_id=evaluation.tenant_id,
                details=details | self._stated(session, actor, evaluation, details, now),
                at=now,
            )
            return True

    def _stated(
        self,
        session: Session,
        actor: Actor,
        evaluation: Evaluation,
        details: Mapping[str, Any],
        at: datetime,
    ) -> dict[str, str]:
        """What the event says of the verdict's statement."""
        if self._custody is None:
            return {}
        told = {name: value for name, value in details.items() if not name.endswith(_DIGESTS)}
        digest = self._custody.state_in_session(
            session,
            actor,
            evaluation.tenant_id,
            kind="evaluation",
            name=evaluation.adapter,
            digest=evaluation.adapter_digest,
            facts={
                "evaluation": evaluation.id,
                **{name: str(value) for name, value in told.items()},
            },
            materials={
                "data set manifest": evaluation.dataset_sha256,
                "base model": evaluation.base_digest,
            },
            at=at,
        )
        return {"statement": digest}

    def dataset(self, actor: Actor, tenant_id: str, dataset_id: str) -> Dataset:
        """A frozen dataset of the tenant.

        Raises:
            NotFound: The tenant has no such dataset.
        """
        return self._preferences.dataset(actor, tenant_id, dataset_id)

    def learned_from(self, actor: Actor, adapter: Adapter) -> builtins.list[Dataset]:
        """The datasets that an adapter has learned from, as far as they are still there."""
        lineage = self._registry.lineage(actor, adapter.tenant_id, adapter.name)
        digests = {sha256 for _, sha256 in lineage.runs}
        datasets = self._preferences.datasets(actor, adapter.tenant_id)
        return [dataset for dataset in datasets if dataset.sha256 in digests]

    def adapter(self, actor: Actor, evaluation: Evaluation) -> Adapter:
        """The adapter of an evaluation, its bytes proven.

        Raises:
            DigestMismatch: They are not those that the name promises.
        """
        adapter = self._registry.get(actor, evaluation.tenant_id, evaluation.adapter)
        self._registry.verify_digest(adapter)
        return adapter

    def _dataset(self, actor: Actor, adapter: Adapter, dataset_id: str | None) -> Dataset:
        if dataset_id is not None:
            return self.dataset(actor, adapter.tenant_id, dataset_id)
        learned_from = self.learned_from(actor, adapter)
        if not learned_from:
            raise NotFound(
                f"adapter {adapter.name}: expected the dataset {adapter.dataset_sha256[:12]} that "
                "it learned from, found none; name a dataset"
            )
        return learned_from[0]

    def _queue(self, actor: Actor, row: EvaluationRow) -> None:
        with self.db.write() as session:
            # In the queue of training: both fill the memory and the processor.
            job = self._jobs.enqueue_in_session(
                session, actor, row.tenant_id, KIND, {"evaluation_id": row.id}, queue="training"
            )
            row.job_id = job.id
            session.add(row)
            record(
                session,
                actor,
                "evaluation.launched",
                f"evaluation:{row.id}",
                tenant_id=row.tenant_id,
                details={
                    "adapter": row.adapter,
                    "adapter_digest": row.adapter_digest,
                    "dataset_sha256": row.dataset_sha256,
                },
                at=row.created_at,
            )


def is_running(evaluation: Evaluation) -> bool:
    """Whether an evaluation may still bring a summary by itself."""
    return evaluation.summary is None and not JobStatus(evaluation.job.status).is_final
