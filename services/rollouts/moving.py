"""One step further: the step, its audit event, its signature and its alerts, in one transaction.

Everything that changes a rollout goes through here, a person's click and the driver alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, new_id
from services.rollouts import statements, store
from services.rollouts.driving import store as drives
from services.rollouts.judging import Verdict
from services.rollouts.models import Rollout, RolloutState, Step
from services.rollouts.policy import read_policy
from services.tenants.models import Actor

if TYPE_CHECKING:
    from services.registry.service import Registry

Announce = Callable[[Session, Rollout], None]
"""Puts what outsiders shall hear of a rollout's latest step into an outbox."""

CHANGED = "rollout.cluster_changed"
"""Action of the events that keep what was changed on a cluster."""

_REGISTRY = Actor.system("rollouts")


@dataclass(frozen=True)
class Change:
    """What a step changes.

    Attributes:
        verdict: The look that led to it, to be kept with it; None where none did.
        is_judged: The look that was kept last led to it.
        details: Further facts for the audit event.
    """

    action: str
    state: RolloutState
    percent: int
    reason: str = ""
    verdict: Verdict | None = None
    is_judged: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


class Steps:
    """Appends steps.

    Args:
        sign: None leaves steps unsigned, as in tests of other things.
        announce: Told of every step.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        sign: statements.Sign | None,
        announce: Announce | None,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._sign = sign
        self._announce = announce

    def begin(self, session: Session, actor: Actor, rollout: Rollout) -> None:
        """Write a new rollout with its first step."""
        store.add(session, rollout)
        step = rollout.steps[-1]
        change = Change("rollout.started", step.state, step.percent)
        self._tell(session, actor, rollout, change)

    def append(self, session: Session, actor: Actor, rollout: Rollout, change: Change) -> Rollout:
        """Append one step to a rollout that the caller has locked and read in this session."""
        step = Step(
            seq=rollout.steps[-1].seq + 1,
            state=change.state,
            percent=change.percent,
            reason=change.reason,
            actor_id=actor.id,
            actor_name=actor.name,
            at=self._clock(),
        )
        store.add_step(session, rollout.id, step)
        moved = replace(rollout, steps=(*rollout.steps, step))
        if change.verdict is not None:
            keep_verdict(session, rollout, change.verdict, step)
        self._tell(session, actor, moved, change)
        return moved

    def _tell(self, session: Session, actor: Actor, rollout: Rollout, change: Change) -> None:
        signed = self._signed(session, rollout, change)
        facts = {
            "alias": rollout.alias,
            "stable": rollout.stable,
            "candidate": rollout.candidate,
            "percent": rollout.percent,
        }
        if signed is not None:
            facts["statement"] = signed.sha256
        record(
            session,
            actor,
            change.action,
            f"rollout:{rollout.id}",
            tenant_id=rollout.tenant_id,
            details=facts | dict(change.details),
            at=rollout.steps[-1].at,
        )
        if self._announce is not None:
            self._announce(session, rollout)

    def _signed(
        self, session: Session, rollout: Rollout, change: Change
    ) -> statements.Signed | None:
        if self._sign is None:
            return None
        adapter = self._registry.get(_REGISTRY, rollout.tenant_id, rollout.candidate)
        plan = rollout.plan
        found = statements.predicate(
            rollout,
            policy_digest=None if plan is None else read_policy(plan.policy_source).digest,
            verdict=_verdict(session, rollout, change),
            previous=drives.last_statement(session, rollout.id),
        )
        signed = statements.sign(rollout, adapter.digest, found, self._sign)
        session.add(
            drives.StatementRow(
                rollout_id=rollout.id,
                seq=rollout.steps[-1].seq,
                sha256=signed.sha256,
                envelope=signed.envelope,
            )
        )
        return signed


def _verdict(session: Session, rollout: Rollout, change: Change) -> Mapping[str, Any] | None:
    if change.verdict is not None:
        return change.verdict.facts()
    if not change.is_judged:
        return None
    return drives.verdicts(session, rollout.id, limit=1)[0].facts


def keep_verdict(session: Session, rollout: Rollout, verdict: Verdict, step: Step) -> None:
    """Keep one look; `rollout` is as it was when it was looked at."""
    session.add(
        drives.VerdictRow(
            id=new_id(),
            rollout_id=rollout.id,
            seq=rollout.steps[-1].seq,
            outcome=verdict.outcome.value,
            facts=verdict.facts(),
            at=step.at,
        )
    )


def keep_change(
    session: Session, actor: Actor, rollout: Rollout, evidence: Mapping[str, Any], at: datetime
) -> None:
    """Put what a backend has changed for the latest step into the log."""
    record(
        session,
        actor,
        CHANGED,
        f"rollout:{rollout.id}",
        tenant_id=rollout.tenant_id,
        details={"seq": rollout.steps[-1].seq, "evidence": dict(evidence)},
        at=at,
    )
