"""How far a tenant is around the loop, and what the reader can do next.

Counts come from the services with the reader's own rights: what a role may not read is None, and
is drawn as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from console.wiring import review_queue, services
from services.evaluation.models import Verdict
from services.preferences.models import PairStatus
from services.tenants.models import Actor, Permission

_P = Permission


@dataclass(frozen=True)
class PairCounts:
    """Pairs and their review."""

    total: int
    unreviewed: int
    approved: int


@dataclass(frozen=True)
class ModelCounts:
    """Runs, adapters and their proof.

    Attributes:
        active_runs: Queued or running.
        unproven: Adapters without any evaluation.
        better: The newest adapter that an evaluation found better and nobody serves yet.
    """

    datasets: int
    runs: int
    active_runs: int
    adapters: int
    evaluations: int
    unproven: int
    better: str | None
    open_rollouts: int
    percent: int


@dataclass(frozen=True)
class TrafficCounts:
    """What the gateway served today, the tenant's day."""

    requests: int
    cost_micro: int


@dataclass(frozen=True)
class Counts:
    """All counts; None where the reader's role does not read them."""

    pairs: PairCounts | None
    models: ModelCounts | None
    traffic: TrafficCounts | None
    audit_entries: int | None
    keys: int | None


@dataclass(frozen=True)
class Step:
    """Something worth doing now.

    Attributes:
        page: Name of the page where it is done.
        text: Key of the sentence.
        count: Fills it, where it counts something.
    """

    page: str
    text: str
    count: int | None = None


def counts(actor: Actor, tenant_id: str, today: date) -> Counts:
    """Count what the actor may read."""

    def may(permission: Permission) -> bool:
        return actor.may(permission, tenant_id)

    tail = services().audit.tail(actor, tenant_id, limit=1) if may(_P.READ_AUDIT) else None
    return Counts(
        pairs=_pairs(actor, tenant_id) if may(_P.READ_PAIRS) or may(_P.REVIEW) else None,
        models=_models(actor, tenant_id) if may(_P.READ_MODELS) else None,
        traffic=_traffic(actor, tenant_id, today) if may(_P.READ_COST) else None,
        audit_entries=None if tail is None else max((entry.seq for entry in tail), default=0),
        keys=_live_keys(actor, tenant_id) if may(_P.MANAGE_TENANT) else None,
    )


def _pairs(actor: Actor, tenant_id: str) -> PairCounts:
    if actor.may(_P.READ_PAIRS, tenant_id):
        stats = services().preferences.stats(actor, tenant_id)
        by = stats.by_status
        return PairCounts(stats.total, by[PairStatus.UNREVIEWED], by[PairStatus.APPROVED])
    done = review_queue().progress(actor, tenant_id)
    return PairCounts(done.total, done.unreviewed, done.approved)


def _models(actor: Actor, tenant_id: str) -> ModelCounts:
    runs = services().training.list(actor, tenant_id)
    adapters = services().registry.list(actor, tenant_id)
    evaluations = services().evaluations.list(actor, tenant_id)
    rollouts = services().rollouts.list(actor, tenant_id)
    open_ones = [rollout for rollout in rollouts if rollout.is_open]
    tried = {rollout.candidate for rollout in rollouts}
    evaluated = {evaluation.adapter for evaluation in evaluations}
    better = {
        evaluation.adapter
        for evaluation in evaluations
        if evaluation.summary is not None and evaluation.summary.verdict is Verdict.BETTER
    }
    return ModelCounts(
        datasets=len(services().preferences.datasets(actor, tenant_id)),
        runs=len(runs),
        active_runs=sum(not run.job.status.is_final for run in runs),
        adapters=len(adapters),
        evaluations=len(evaluations),
        unproven=sum(adapter.name not in evaluated for adapter in adapters),
        better=next((one.name for one in adapters if one.name in better - tried), None),
        open_rollouts=len(open_ones),
        percent=max((rollout.percent for rollout in open_ones), default=0),
    )


def _traffic(actor: Actor, tenant_id: str, today: date) -> TrafficCounts:
    report = services().metering.report(actor, tenant_id, since=today, until=today)
    return TrafficCounts(report.requests, report.total_micro)


def _live_keys(actor: Actor, tenant_id: str) -> int:
    keys = services().tenants.list_keys(actor, tenant_id)
    return sum(key.revoked_at is None for key in keys)


def next_steps(actor: Actor, tenant_id: str, found: Counts) -> list[Step]:
    """What the actor's roles can do now, the most useful first."""
    steps = [
        *(_review_steps(found) if actor.may(_P.REVIEW, tenant_id) else ()),
        *(_pair_steps(found) if actor.may(_P.EDIT_PAIRS, tenant_id) else ()),
        *(_model_steps(found) if actor.may(_P.TRAIN, tenant_id) else ()),
        *(_key_steps(found) if actor.may(_P.MANAGE_TENANT, tenant_id) else ()),
    ]
    if actor.may(_P.MANAGE_USERS, tenant_id):
        steps.append(Step("users", "home.do_users"))
    if found.traffic is not None and found.traffic.requests:
        steps.append(Step("cost", "home.do_cost", found.traffic.requests))
    if actor.may(_P.READ_AUDIT, tenant_id):
        steps.append(Step("audit", "home.do_audit"))
    return steps


def _review_steps(found: Counts) -> list[Step]:
    waiting = found.pairs.unreviewed if found.pairs else 0
    return [Step("review", "home.do_review", waiting)] if waiting else []


def _pair_steps(found: Counts) -> list[Step]:
    empty = found.pairs is not None and not found.pairs.total
    return [Step("pairs", "home.do_import")] if empty else []


def _model_steps(found: Counts) -> list[Step]:
    models, steps = found.models, []
    if models is None:
        return []
    if models.active_runs:
        steps.append(Step("train", "home.do_watch", models.active_runs))
    elif found.pairs is not None and found.pairs.approved and not models.adapters:
        steps.append(Step("train", "home.do_train", found.pairs.approved))
    if models.unproven:
        steps.append(Step("evaluate", "home.do_evaluate", models.unproven))
    if models.open_rollouts:
        steps.append(Step("rollouts", "home.do_step", models.percent))
    elif models.better is not None:
        steps.append(Step("rollouts", "home.do_roll_out"))
    return steps


def _key_steps(found: Counts) -> list[Step]:
    return [Step("tenants", "home.do_key")] if found.keys == 0 else []
