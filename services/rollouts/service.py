"""The rules of a rollout: who may start one, how it moves, and what it needs to be promoted."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, GateFailed, InvalidInput, Unavailable
from services.evaluation.gate import gate
from services.registry.models import Admission
from services.rollouts import checks, routing, store, traffic
from services.rollouts.judging import Verdict
from services.rollouts.models import Planned, Rollout, RolloutState, Route, Step, Traffic
from services.rollouts.moving import Announce, Change, Steps
from services.rollouts.policy import read_policy
from services.rollouts.statements import Sign
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

if TYPE_CHECKING:
    from services.evaluation.models import Gate
    from services.evaluation.service import Evaluations
    from services.registry.service import Registry
    from services.tenants.service import Tenants

log = logging.getLogger(__name__)


class Rollouts:
    """Starts, steps, promotes and rolls back.

    Args:
        tenants: Owns what an alias means.
        registry: Knows the adapters, and the champion of each alias.
        evaluations: Knows whether a candidate was proved better.
        sign: Signs each step; None leaves them unsigned.
        announce: Is told of each step, in its transaction.
    """

    def __init__(
        self,
        db: Database,
        tenants: Tenants,
        registry: Registry,
        evaluations: Evaluations,
        *,
        clock: Clock = utcnow,
        sign: Sign | None = None,
        announce: Announce | None = None,
    ) -> None:
        self._db = db
        self._tenants = tenants
        self._registry = registry
        self._evaluations = evaluations
        self._clock = clock
        self._steps = Steps(registry, clock, sign, announce)

    def start(
        self,
        actor: Actor,
        tenant_id: str,
        alias: str,
        candidate: str,
        *,
        percent: int = 0,
        plan: Planned | None = None,
    ) -> Rollout:
        """Begin to try a candidate on an alias.

        Args:
            percent: First share of the candidate, 0 (loaded, not served) to 100; 0 with a plan.
            plan: By which the driver moves it from then on; None leaves that to people.

        Raises:
            NotFound: The tenant has no adapter of that name.
            InvalidInput: The adapter was made for another alias, the alias means it already, or
                the share is out of range, or the policy cannot be read.
            Conflict: The alias has an open rollout.
        """
        scope(actor, tenant_id, Permission.ROLL_OUT)
        checks.check_percent(percent)
        if plan is not None:
            read_policy(plan.policy_source)
            if percent:
                raise InvalidInput(
                    f"percent: expected 0 beside a policy, whose first step decides, found {percent}"
                )
        adapter = self._registry.get(actor, tenant_id, candidate)
        if adapter.alias != alias:
            raise InvalidInput(
                f"rollout of alias {alias!r}: expected an adapter made for it, "
                f"found {candidate!r}, made for {adapter.alias!r}"
            ).because("adapter_of_other_alias", name=candidate, alias=alias)
        with self._db.write() as session:
            store.lock_alias(session, tenant_id, alias)
            self._refuse_second(session, tenant_id, alias)
            stable = self._tenants.alias_table().get((tenant_id, alias))
            if stable == candidate:
                raise InvalidInput(f"alias {alias!r} means {candidate!r} already").because(
                    "alias_means_it", name=candidate, alias=alias
                )
            state = RolloutState.STEPPING if percent else RolloutState.PLANNED
            now = self._clock()
            rollout = Rollout(
                id=new_id(),
                tenant_id=tenant_id,
                alias=alias,
                stable=stable,
                candidate=candidate,
                salt=secrets.token_hex(16),
                started_at=now,
                steps=(Step(1, state, percent, "", actor.id, actor.name, now),),
                plan=plan,
            )
            self._steps.begin(session, actor, rollout)
        return rollout

    def step(self, actor: Actor, rollout_id: str, percent: int) -> Rollout:
        """Give the candidate another share, 0 to 100; the gateway follows within a second.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            InvalidInput: The share is out of range.
            Conflict: The rollout has ended.
        """
        checks.check_percent(percent)
        with self._db.write() as session:
            rollout = self._locked(session, actor, rollout_id)
            checks.check_open(rollout)
            checks.check_no_drill(rollout)
            change = Change("rollout.stepped", RolloutState.STEPPING, percent)
            return self._steps.append(session, actor, rollout, change)

    def pause(self, actor: Actor, rollout_id: str, *, reason: str = "") -> Rollout:
        """Have the driver go no further; the share stays, and what fails still goes back.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            Conflict: The rollout has ended, is paused, or is in a drill.
        """
        reason = checks.check_reason(reason)
        with self._db.write() as session:
            rollout = self._locked(session, actor, rollout_id)
            checks.check_open(rollout)
            checks.check_no_drill(rollout)
            if rollout.state is RolloutState.PAUSED:
                raise Conflict(
                    f"rollout {rollout_id}: expected one that moves, found a paused one"
                ).because("rollout_paused")
            change = Change("rollout.paused", RolloutState.PAUSED, rollout.percent, reason)
            return self._steps.append(session, actor, rollout, change)

    def resume(self, actor: Actor, rollout_id: str) -> Rollout:
        """Go on where a pause began; the step is looked at from its beginning.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            Conflict: The rollout is not paused.
        """
        with self._db.write() as session:
            rollout = self._locked(session, actor, rollout_id)
            if rollout.state is not RolloutState.PAUSED:
                raise Conflict(
                    f"rollout {rollout_id}: expected a paused one, found {rollout.state.value}"
                ).because("rollout_not_paused")
            state = RolloutState.STEPPING if rollout.percent else RolloutState.PLANNED
            change = Change("rollout.resumed", state, rollout.percent)
            return self._steps.append(session, actor, rollout, change)

    def drill(self, actor: Actor, rollout_id: str) -> Rollout:
        """Rehearse a rollback: everybody goes to the stable arm, then back, by the driver.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            Conflict: The candidate has no share now, or a drill is running.
        """
        with self._db.write() as session:
            rollout = self._locked(session, actor, rollout_id)
            checks.check_no_drill(rollout)
            is_split = rollout.state in {RolloutState.STEPPING, RolloutState.PAUSED}
            if not is_split or rollout.percent == 0:
                raise Conflict(
                    f"drill of rollout {rollout_id}: expected a candidate with a share, "
                    f"found {rollout.state.value} at {rollout.percent} %"
                ).because("drill_needs_share")
            change = Change("rollout.drilled", RolloutState.DRILLING, 0, "drill")
            return self._steps.append(session, actor, rollout, change)

    def follow(self, actor: Actor, seen: Rollout, change: Change) -> Rollout:
        """Append a step that the driver decided on, unless the rollout has moved meanwhile.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            Conflict: It is no longer as the driver saw it.
        """
        with self._db.write() as session:
            rollout = self._locked(session, actor, seen.id)
            if rollout.steps[-1].seq != seen.steps[-1].seq:
                raise Conflict(
                    f"rollout {seen.id}: expected step {seen.steps[-1].seq}, "
                    f"found step {rollout.steps[-1].seq}"
                ).because("rollout_moved")
            return self._steps.append(session, actor, rollout, change)

    def promote(
        self,
        actor: Actor,
        rollout_id: str,
        *,
        reason: str = "",
        seen: Rollout | None = None,
    ) -> Rollout:
        """Make the candidate what the alias means.

        The alias, the champion and the last step change in one transaction; MLflow, which only
        mirrors the champion, follows after it as soon as it can be reached.

        Args:
            reason: Needed where the latest evaluation does not say that the candidate is better.
            seen: The rollout as the driver judged it; None for a person.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            GateFailed: The gate is not passed and no reason was given; names what it misses.
            Conflict: The rollout has ended or is in a drill, the alias was moved by hand
                meanwhile, or the rollout is no longer as the driver saw it.
        """
        reason = checks.check_reason(reason)
        found = self.get(actor, rollout_id)
        scope(actor, found.tenant_id, Permission.ROLL_OUT)
        judged = gate(self._evaluations.latest_for(actor, found.tenant_id, found.candidate))
        with self._db.write() as session:
            rollout = self._locked(session, actor, rollout_id)
            checks.check_open(rollout)
            checks.check_no_drill(rollout)
            if seen is not None and rollout.steps != seen.steps:
                raise Conflict(
                    f"rollout {rollout_id}: expected it unmoved, found another step"
                ).because("rollout_moved")
            if not judged.passed and not reason:
                raise GateFailed(
                    f"promotion of {rollout.candidate!r}: {' '.join(judged.reasons)} "
                    "Give a reason to promote it all the same."
                ).because("promotion_needs_reason")
            rollout = self._promote(session, actor, rollout, reason, judged, seen is not None)
        self._mirror()
        return rollout

    def rollback(
        self, actor: Actor, rollout_id: str, *, reason: str, verdict: Verdict | None = None
    ) -> Rollout:
        """Restore what the alias meant when the rollout began, whatever came since.

        An open rollout ends with the candidate at 0 %. After a promotion the alias, and the
        champion, go back to the stable adapter; where that was the base model, the champion
        stays, because only an adapter can be one.

        Args:
            verdict: The look that led to it; None for a person.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            InvalidInput: No reason was given.
            Conflict: It was rolled back already, or the promoted alias has moved on since.
        """
        reason = checks.check_reason(reason)
        if not reason:
            raise InvalidInput("rollback: expected a reason, found an empty one").because(
                "empty", field="reason"
            )
        with self._db.write() as session:
            rollout = self._locked(session, actor, rollout_id)
            if rollout.state is RolloutState.ROLLED_BACK:
                raise Conflict(
                    f"rollout {rollout_id}: expected one in effect, found rolled_back"
                ).because("rollout_ended")
            was_promoted = rollout.state is RolloutState.PROMOTED
            if was_promoted:
                self._refuse_second(session, rollout.tenant_id, rollout.alias)
                self._move(
                    session, actor, rollout, rollout.candidate, rollout.stable,
                    Admission.restored(reason),
                )  # fmt: skip
            change = Change(
                "rollout.rolled_back",
                RolloutState.ROLLED_BACK,
                0,
                reason,
                details={"reason": reason, "was_promoted": was_promoted},
                verdict=verdict,
            )
            rolled = self._steps.append(session, actor, rollout, change)
        if was_promoted:
            self._mirror()
        return rolled

    def list(self, actor: Actor, tenant_id: str) -> list[Rollout]:
        """All rollouts of a tenant, newest first."""
        scope(actor, tenant_id, Permission.READ_MODELS)
        with self._db.read() as session:
            return store.of_tenant(session, tenant_id)

    def get(self, actor: Actor, rollout_id: str) -> Rollout:
        """One rollout.

        Raises:
            NotFound: There is none of that id in the actor's tenants.
        """
        with self._db.read() as session:
            return checks.visible(actor, rollout_id, store.get(session, rollout_id))

    def traffic(self, actor: Actor, rollout_id: str) -> Traffic:
        """What each arm has answered, and how the observed split compares with the asked one."""
        with self._db.read() as session:
            rollout = checks.visible(actor, rollout_id, store.get(session, rollout_id))
            return traffic.measure(session, rollout)

    def routes(self) -> dict[tuple[str, str], Route]:
        """What every alias of the installation is served by, for the gateway; by (tenant, alias).

        The open rollouts are read before the aliases: should a promotion fall between the two
        reads, the alias means the candidate already and no user is sent back to the old adapter.
        """
        return routing.routes(self._db, self._tenants)

    def _promote(
        self,
        session: Session,
        actor: Actor,
        rollout: Rollout,
        reason: str,
        judged: Gate,
        is_judged: bool,
    ) -> Rollout:
        admission = Admission.by_gate(
            passed=judged.passed, shortfalls=judged.reasons, reason=reason
        )
        self._move(session, actor, rollout, rollout.stable, rollout.candidate, admission)
        details = {
            "reason": reason,
            "gate_passed": judged.passed,
            "gate_reasons": list(judged.reasons),
        }
        change = Change(
            "rollout.promoted",
            RolloutState.PROMOTED,
            100,
            reason,
            details=details,
            is_judged=is_judged,
        )
        return self._steps.append(session, actor, rollout, change)

    def _move(
        self,
        session: Session,
        actor: Actor,
        rollout: Rollout,
        old: str | None,
        new: str | None,
        admission: Admission,
    ) -> None:
        """Point the alias from `old` to `new`, unless somebody moved it by hand meanwhile."""
        found = self._tenants.alias_table().get((rollout.tenant_id, rollout.alias))
        if found != old:
            raise Conflict(
                f"alias {rollout.alias!r}: expected it to mean {old or 'the base model'}, "
                f"found {found or 'the base model'}; it was moved outside this rollout"
            ).because("alias_moved", alias=rollout.alias)
        self._tenants.alias_in_session(session, actor, rollout.tenant_id, rollout.alias, new)
        if new is not None:
            self._registry.set_champion_in_session(
                session, actor, rollout.tenant_id, new, admission
            )

    def _mirror(self) -> None:
        """Let MLflow follow; traffic does not wait for it."""
        try:
            self._registry.sync_mlflow()
        except Unavailable as error:
            log.warning("MLflow does not know the new champion yet: %s", error)

    def _locked(self, session: Session, actor: Actor, rollout_id: str) -> Rollout:
        found = checks.visible(actor, rollout_id, store.get(session, rollout_id))
        scope(actor, found.tenant_id, Permission.ROLL_OUT)
        store.lock_alias(session, found.tenant_id, found.alias)
        return checks.visible(actor, rollout_id, store.get(session, rollout_id))

    def _refuse_second(self, session: Session, tenant_id: str, alias: str) -> None:
        if (found := store.open_for(session, tenant_id, alias)) is not None:
            raise Conflict(
                f"alias {alias!r}: expected no open rollout, found {found.id}, which tries "
                f"{found.candidate!r} at {found.percent} %; promote it or roll it back first"
            ).because("rollout_open", alias=alias, name=found.candidate, percent=found.percent)
