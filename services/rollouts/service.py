"""The rules of a rollout: who may start one, how it moves, and what it needs to be promoted."""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, GateFailed, InvalidInput, NotFound, Unavailable
from services.evaluation.gate import gate
from services.rollouts import store, traffic
from services.rollouts.models import Rollout, RolloutState, Route, Step, Traffic
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

if TYPE_CHECKING:
    from services.evaluation.models import Gate
    from services.evaluation.service import Evaluations
    from services.registry.service import Registry
    from services.tenants.service import Tenants

log = logging.getLogger(__name__)

MAX_REASON = 2_000
"""Characters of a reason that are kept; a longer one is refused."""


class Rollouts:
    """Starts, steps, promotes and rolls back.

    Args:
        tenants: Owns what an alias means.
        registry: Knows the adapters, and the champion of each alias.
        evaluations: Knows whether a candidate was proved better.
    """

    def __init__(
        self,
        db: Database,
        tenants: Tenants,
        registry: Registry,
        evaluations: Evaluations,
        *,
        clock: Clock = utcnow,
    ) -> None:
        self._db = db
        self._tenants = tenants
        self._registry = registry
        self._evaluations = evaluations
        self._clock = clock

    def start(
        self, actor: Actor, tenant_id: str, alias: str, candidate: str, *, percent: int
    ) -> Rollout:
        """Begin to try a candidate on an alias.

        Args:
            percent: First share of the candidate, 0 (loaded, not served) to 100.

        Raises:
            NotFound: The tenant has no adapter of that name.
            InvalidInput: The adapter was made for another alias, the alias means it already, or
                the share is out of range.
            Conflict: The alias has an open rollout.
        """
        scope(actor, tenant_id, Permission.ROLL_OUT)
        _check_percent(percent)
        adapter = self._registry.get(actor, tenant_id, candidate)
        if adapter.alias != alias:
            raise InvalidInput(
                f"rollout of alias {alias!r}: expected an adapter made for it, "
                f"found {candidate!r}, made for {adapter.alias!r}"
            )
        with self._db.write() as session:
            store.lock_alias(session, tenant_id, alias)
            self._refuse_second(session, tenant_id, alias)
            stable = self._tenants.alias_table().get((tenant_id, alias))
            if stable == candidate:
                raise InvalidInput(f"alias {alias!r} means {candidate!r} already")
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
            )
            store.add(session, rollout)
            self._record(session, actor, "rollout.started", rollout)
        return rollout

    def step(self, actor: Actor, rollout_id: str, percent: int) -> Rollout:
        """Give the candidate another share, 0 to 100; the gateway follows within a second.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            InvalidInput: The share is out of range.
            Conflict: The rollout has ended.
        """
        _check_percent(percent)
        with self._db.write() as session:
            rollout = self._locked(session, actor, rollout_id)
            _check_open(rollout)
            stepped = self._append(session, actor, rollout, RolloutState.STEPPING, percent, "")
            self._record(session, actor, "rollout.stepped", stepped)
        return stepped

    def promote(self, actor: Actor, rollout_id: str, *, reason: str = "") -> Rollout:
        """Make the candidate what the alias means.

        The alias, the champion and the last step change in one transaction; MLflow, which only
        mirrors the champion, follows after it as soon as it can be reached.

        Args:
            reason: Needed where the latest evaluation does not say that the candidate is better.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            GateFailed: The gate is not passed and no reason was given; names what it misses.
            Conflict: The rollout has ended, or the alias was moved by hand meanwhile.
        """
        reason = _check_reason(reason)
        found = self.get(actor, rollout_id)
        scope(actor, found.tenant_id, Permission.ROLL_OUT)
        judged = gate(self._evaluations.latest_for(actor, found.tenant_id, found.candidate))
        with self._db.write() as session:
            rollout = self._locked(session, actor, rollout_id)
            _check_open(rollout)
            if not judged.passed and not reason:
                raise GateFailed(
                    f"promotion of {rollout.candidate!r}: {' '.join(judged.reasons)} "
                    "Give a reason to promote it all the same."
                )
            rollout = self._promote(session, actor, rollout, reason, judged)
        self._mirror()
        return rollout

    def rollback(self, actor: Actor, rollout_id: str, *, reason: str) -> Rollout:
        """Restore what the alias meant when the rollout began, whatever came since.

        An open rollout ends with the candidate at 0 %. After a promotion the alias, and the
        champion, go back to the stable adapter; where that was the base model, the champion
        stays, because only an adapter can be one.

        Raises:
            NotFound: No such rollout in the actor's tenants.
            InvalidInput: No reason was given.
            Conflict: It was rolled back already, or the promoted alias has moved on since.
        """
        reason = _check_reason(reason)
        if not reason:
            raise InvalidInput("rollback: expected a reason, found an empty one")
        with self._db.write() as session:
            rollout = self._locked(session, actor, rollout_id)
            if rollout.state is RolloutState.ROLLED_BACK:
                raise Conflict(f"rollout {rollout_id}: expected one in effect, found rolled_back")
            was_promoted = rollout.state is RolloutState.PROMOTED
            if was_promoted:
                self._refuse_second(session, rollout.tenant_id, rollout.alias)
                self._move(session, actor, rollout, rollout.candidate, rollout.stable)
            rolled = self._append(session, actor, rollout, RolloutState.ROLLED_BACK, 0, reason)
            details = {"reason": reason, "was_promoted": was_promoted}
            self._record(session, actor, "rollout.rolled_back", rolled, details)
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
            return _visible(actor, rollout_id, store.get(session, rollout_id))

    def traffic(self, actor: Actor, rollout_id: str) -> Traffic:
        """What each arm has answered, and how the observed split compares with the asked one."""
        with self._db.read() as session:
            rollout = _visible(actor, rollout_id, store.get(session, rollout_id))
            return traffic.measure(session, rollout)

    def routes(self) -> dict[tuple[str, str], Route]:
        """What every alias of the installation is served by, for the gateway; by (tenant, alias).

        The open rollouts are read before the aliases: should a promotion fall between the two
        reads, the alias means the candidate already and no user is sent back to the old adapter.
        """
        with self._db.read() as session:
            opened = store.all_open(session)
        routes = {
            (tenant_id, alias): Route(tenant_id, alias, adapter)
            for (tenant_id, alias), adapter in self._tenants.alias_table().items()
        }
        for rollout in opened:
            key = (rollout.tenant_id, rollout.alias)
            stable = routes[key].stable if key in routes else rollout.stable
            routes[key] = Route(
                tenant_id=rollout.tenant_id,
                alias=rollout.alias,
                stable=stable,
                candidate=rollout.candidate,
                percent=rollout.percent,
                salt=rollout.salt,
                rollout_id=rollout.id,
            )
        return routes

    def _promote(
        self, session: Session, actor: Actor, rollout: Rollout, reason: str, judged: Gate
    ) -> Rollout:
        self._move(session, actor, rollout, rollout.stable, rollout.candidate)
        promoted = self._append(session, actor, rollout, RolloutState.PROMOTED, 100, reason)
        details = {
            "reason": reason,
            "gate_passed": judged.passed,
            "gate_reasons": list(judged.reasons),
        }
        self._record(session, actor, "rollout.promoted", promoted, details)
        return promoted

    def _move(
        self, session: Session, actor: Actor, rollout: Rollout, old: str | None, new: str | None
    ) -> None:
        """Point the alias from `old` to `new`, unless somebody moved it by hand meanwhile."""
        found = self._tenants.alias_table().get((rollout.tenant_id, rollout.alias))
        if found != old:
            raise Conflict(
                f"alias {rollout.alias!r}: expected it to mean {old or 'the base model'}, "
                f"found {found or 'the base model'}; it was moved outside this rollout"
            )
        self._tenants.alias_in_session(session, actor, rollout.tenant_id, rollout.alias, new)
        if new is not None:
            self._registry.set_champion_in_session(session, actor, rollout.tenant_id, new)

    def _mirror(self) -> None:
        """Let MLflow follow; traffic does not wait for it."""
        try:
            self._registry.sync_mlflow()
        except Unavailable as error:
            log.warning("MLflow does not know the new champion yet: %s", error)

    def _locked(self, session: Session, actor: Actor, rollout_id: str) -> Rollout:
        found = _visible(actor, rollout_id, store.get(session, rollout_id))
        scope(actor, found.tenant_id, Permission.ROLL_OUT)
        store.lock_alias(session, found.tenant_id, found.alias)
        return _visible(actor, rollout_id, store.get(session, rollout_id))

    def _append(
        self,
        session: Session,
        actor: Actor,
        rollout: Rollout,
        state: RolloutState,
        percent: int,
        reason: str,
    ) -> Rollout:
        seq = rollout.steps[-1].seq + 1
        step = Step(seq, state, percent, reason, actor.id, actor.name, self._clock())
        store.add_step(session, rollout.id, step)
        return replace(rollout, steps=(*rollout.steps, step))

    def _refuse_second(self, session: Session, tenant_id: str, alias: str) -> None:
        if (found := store.open_for(session, tenant_id, alias)) is not None:
            raise Conflict(
                f"alias {alias!r}: expected no open rollout, found {found.id}, which tries "
                f"{found.candidate!r} at {found.percent} %; promote it or roll it back first"
            )

    def _record(
        self,
        session: Session,
        actor: Actor,
        action: str,
        rollout: Rollout,
        details: dict[str, Any] | None = None,
    ) -> None:
        facts = {
            "alias": rollout.alias,
            "stable": rollout.stable,
            "candidate": rollout.candidate,
            "percent": rollout.percent,
        }
        record(
            session,
            actor,
            action,
            f"rollout:{rollout.id}",
            tenant_id=rollout.tenant_id,
            details=facts | (details or {}),
            at=rollout.steps[-1].at,
        )


def _visible(actor: Actor, rollout_id: str, found: Rollout | None) -> Rollout:
    """The rollout, or the same refusal for one that is missing and one that is another's."""
    if found is None or not actor.may(Permission.READ_MODELS, found.tenant_id):
        raise NotFound(f"there is no rollout {rollout_id!r} in your tenants")
    return found


def _check_open(rollout: Rollout) -> None:
    if not rollout.is_open:
        raise Conflict(f"rollout {rollout.id}: expected an open one, found {rollout.state.value}")


def _check_percent(percent: int) -> None:
    if isinstance(percent, bool) or not isinstance(percent, int) or not 0 <= percent <= 100:
        raise InvalidInput(f"percent: expected a whole number from 0 to 100, found {percent!r}")


def _check_reason(reason: str) -> str:
    reason = reason.strip()
    if len(reason) > MAX_REASON:
        raise InvalidInput(f"reason: expected at most {MAX_REASON} characters, found {len(reason)}")
    return reason
