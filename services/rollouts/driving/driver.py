"""Moves rollouts by their policies: applies, reads back, looks, decides; one small turn at a time.

Every turn begins with what the database says and may be the last: the intent (a step) is durable
before the backend is told, and the backend is told again until it says that the step is in effect.
A driver that dies at any line leaves a rollout that the next one carries on, at a share that
somebody or the policy has asked for.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from services.db import Clock, Database, utcnow
from services.errors import Conflict, ConsoleError, GateFailed
from services.rollouts.backends import GATEWAY, Evidence, Plan, SplitBackend
from services.rollouts.deciding import Decision, Move, Progress, Window, decide
from services.rollouts.driving.notebook import Drive, Notebook
from services.rollouts.judging import Arms, Outcome
from services.rollouts.models import Rollout, RolloutState
from services.rollouts.moving import Change, keep_change, keep_verdict
from services.rollouts.policy import Policy, read_policy
from services.rollouts.samples import store as samples
from services.tenants.models import Actor

if TYPE_CHECKING:
    from services.rollouts.service import Rollouts

log = logging.getLogger("param.rollouts")

DRIVER = Actor.system("rollout-driver")
EVERY_S = 1.0
"""Pause between two turns."""


class Driver:
    """Drives all rollouts of an installation that no other driver holds.

    Args:
        backends: By name; a plan that names another waits, and says so.
    """

    def __init__(
        self,
        db: Database,
        rollouts: Rollouts,
        backends: Mapping[str, SplitBackend],
        *,
        clock: Clock = utcnow,
    ) -> None:
        self._db = db
        self._rollouts = rollouts
        self._backends = backends
        self._clock = clock
        holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._notebook = Notebook(db, holder, clock=clock)
        self._held: set[str] = set()

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Take turns until told to stop."""
        while not stop.is_set():
            self.turn()
            stop.wait(every_s)
        try:
            self._notebook.release(sorted(self._held))
        except (ConsoleError, SQLAlchemyError) as error:
            log.warning("the leases of rollouts run out by themselves: %s", error)

    def turn(self) -> None:
        """One look at every rollout; what fails is noted and tried again at the next one."""
        try:
            due = self._notebook.due()
        except (ConsoleError, SQLAlchemyError) as error:
            log.warning("rollouts cannot be read, trying again: %s", error)
            return
        for rollout_id in due:
            try:
                self._one(rollout_id)
            except (ConsoleError, SQLAlchemyError) as error:
                log.warning("rollout %s: %s", rollout_id, error)
            except Exception:
                # One rollout's bug must not leave all the others without a driver.
                log.exception("rollout %s: unforeseen; tried again at the next turn", rollout_id)
        self._held &= set(due)

    def _one(self, rollout_id: str) -> None:
        rollout = self._rollouts.get(DRIVER, rollout_id)
        drive = self._notebook.take(rollout)
        if drive is None:
            return
        self._held.add(rollout_id)
        try:
            _Turn(self, rollout, drive).take()
        except ConsoleError as error:
            # Outside trouble is part of the page, until it is over.
            self._notebook.keep(replace(self._page(rollout), note=error.message))
            raise

    def _page(self, rollout: Rollout) -> Drive:
        found = self._notebook.take(rollout)
        if found is None:
            raise Conflict(f"rollout {rollout.id}: another driver holds it now")
        return found

    @property
    def parts(self) -> tuple[Database, Rollouts, Notebook, Clock]:
        """What a turn works with."""
        return self._db, self._rollouts, self._notebook, self._clock

    def backend(self, name: str) -> SplitBackend:
        """A backend by name.

        Raises:
            Conflict: This worker has none of that name.
        """
        if name not in self._backends:
            known = ", ".join(sorted(self._backends))
            raise Conflict(f"backend {name!r}: expected one of {known}; this worker has no other")
        return self._backends[name]


class _Turn:
    """One turn of one rollout."""

    def __init__(self, driver: Driver, rollout: Rollout, drive: Drive) -> None:
        self._db, self._rollouts, self._notebook, self._clock = driver.parts
        self._rollout = rollout
        self._drive = drive
        plan = rollout.plan
        self._backend = driver.backend(GATEWAY if plan is None else plan.backend)
        self._target = {} if plan is None else plan.target
        self._policy: Policy | None = None if plan is None else read_policy(plan.policy_source)

    def take(self) -> None:
        """Do what the state asks for."""
        state = self._rollout.state
        if state is RolloutState.ROLLED_BACK:
            self._restore()
        elif state is RolloutState.PLANNED and self._policy is not None:
            self._prepare()
        elif state is RolloutState.PRELOADING:
            self._preload()
        elif not self._is_untouched() and self._in_effect():
            self._go_on(state)

    def _is_untouched(self) -> bool:
        """Whether it was paused before anything was prepared for it: a pause begins nothing."""
        is_paused = self._rollout.state is RolloutState.PAUSED and not self._rollout.percent
        return is_paused and self._drive.previous is None

    def _go_on(self, state: RolloutState) -> None:
        if state is RolloutState.DRILLING:
            self._end_drill()
        elif self._policy is not None and state in {RolloutState.STEPPING, RolloutState.PAUSED}:
            self._look(self._policy)

    def _prepare(self) -> None:
        found = self._backend.probe(self._target)
        if not found.is_usable:
            reason = "; ".join(found.refusals)
            self._roll_back(f"{found.backend} {found.target}: {reason}")
            return
        self._capture()
        self._follow(Change("rollout.preloading", RolloutState.PRELOADING, 0))

    def _capture(self) -> None:
        """Keep what a rollback restores; before the first change, whoever asked for it."""
        if self._drive.previous is None:
            previous = self._backend.capture(self._plan())
            self._keep(replace(self._drive, previous=previous))

    def _preload(self) -> None:
        policy = self._policy
        assert policy is not None, "only a policy begins to preload"
        self._backend.apply(self._plan())
        found = self._backend.effective(self._plan())
        if found.is_ready and found.is_settled:
            first = policy.steps[0]
            self._keep(replace(self._drive, progress=Progress(), note=""))
            reason = "the candidate is loaded"
            self._follow(Change("rollout.stepped", RolloutState.STEPPING, first.percent, reason))
        elif self._clock() - self._rollout.steps[-1].at >= policy.preload:
            self._roll_back(f"the candidate was not ready in time, says {found.source}")
        else:
            self._keep(replace(self._drive, note="waiting until the candidate is loaded"))

    def _in_effect(self) -> bool:
        """Whether the latest step is what traffic does; told to the backend again where not."""
        seq = self._rollout.steps[-1].seq
        found = self._backend.effective(self._plan())
        is_there = found.percent == self._rollout.percent and found.is_settled
        if not is_there:
            self._capture()
            self._backend.apply(self._plan())
            found = self._backend.effective(self._plan())
            is_there = found.percent == self._rollout.percent and found.is_settled
        if not is_there:
            note = f"asked {self._rollout.percent} %, {found.source} says {_shown(found.percent)}"
            self._keep(replace(self._drive, routed_percent=found.percent, note=note))
            return False
        if self._drive.applied_seq < seq:
            now = self._clock()
            self._keep(
                replace(
                    self._drive, applied_seq=seq, applied_at=now, looked_at=now,
                    progress=self._progress(), routed_percent=found.percent, note="",
                )
            )  # fmt: skip
        return True

    def _progress(self) -> Progress:
        """A step begins its looks anew; looks at intervals are counted over the whole rollout."""
        index = 0 if self._policy is None else self._policy.index_of(self._rollout.percent)
        return self._drive.progress.at_step(index)

    def _restore(self) -> None:
        plan = Plan(self._rollout, 0, target=self._target, witness=self._witness)
        if self._drive.previous is not None:
            self._backend.restore(plan, self._drive.previous)
        # Without it nothing was ever changed.
        self._keep(
            replace(
                self._drive, applied_seq=self._rollout.steps[-1].seq, applied_at=self._clock(),
                routed_percent=0, note="",
            )
        )  # fmt: skip

    def _end_drill(self) -> None:
        before, drill = self._rollout.steps[-2], self._rollout.steps[-1]
        took = (self._drive.applied_at or self._clock()) - drill.at
        reason = f"drill: everybody was on the stable arm after {took.total_seconds():.1f} s"
        self._follow(Change("rollout.drill_ended", before.state, before.percent, reason))

    def _look(self, policy: Policy) -> None:
        now, since = self._clock(), self._drive.applied_at
        assert since is not None, "a step that is in effect has a beginning"
        window = self._window(policy, since, now)
        decision = decide(policy, self._drive.progress, window)
        has_failed = decision.verdict is not None and decision.verdict.outcome is Outcome.FAIL
        if has_failed:
            self._roll_back(decision.reason, decision)
            return
        looked_at = self._drive.looked_at if window.recent is None else now
        self._note_look(decision, looked_at)
        if self._rollout.state is RolloutState.STEPPING:
            self._move(policy, decision)

    def _window(self, policy: Policy, since: datetime, now: datetime) -> Window:
        rollout_id = self._rollout.id
        looked_at = self._drive.looked_at or since

        def read(start: datetime) -> Arms:
            with self._db.read() as session:
                return samples.arms(session, rollout_id, start)

        with self._db.read() as session:
            smaller = min(samples.counts(session, rollout_id, since).values())
        is_due = now - looked_at >= policy.interval
        return Window(
            elapsed=now - since,
            smaller=smaller,
            whole=lambda: read(since),
            recent=(lambda: read(max(looked_at, since))) if is_due else None,
        )

    def _note_look(self, decision: Decision, looked_at: datetime | None) -> None:
        if decision.verdict is not None:
            with self._db.write() as session:
                step = replace(self._rollout.steps[-1], at=self._clock())
                keep_verdict(session, self._rollout, decision.verdict, step)
        self._keep(
            replace(
                self._drive, progress=decision.progress, looked_at=looked_at, note=decision.reason
            )
        )

    def _move(self, policy: Policy, decision: Decision) -> None:
        if decision.move is Move.NEXT:
            share = policy.steps[decision.progress.step + 1].percent
            state, reason = RolloutState.STEPPING, decision.reason
            self._follow(Change("rollout.stepped", state, share, reason, is_judged=True))
        elif decision.move is Move.ROLL_BACK:
            self._roll_back(decision.reason)
        elif decision.move is Move.PAUSE:
            self._pause(decision.reason)
        elif decision.move is Move.PROMOTE:
            self._promote(policy, decision)

    def _promote(self, policy: Policy, decision: Decision) -> None:
        assert decision.progress.last is Outcome.PASS, "only a passed step promotes"
        # An empty reason leaves the gate closed where the evaluation does not open it.
        skips = f"{decision.reason}; the policy asks for no evaluation"
        reason = "" if policy.quality_gate else skips
        try:
            self._rollouts.promote(DRIVER, self._rollout.id, reason=reason, seen=self._rollout)
        except GateFailed as error:
            self._pause(error.message)

    def _pause(self, reason: str) -> None:
        share = self._rollout.percent
        self._follow(Change("rollout.paused", RolloutState.PAUSED, share, reason))

    def _roll_back(self, reason: str, decision: Decision | None = None) -> None:
        verdict = None if decision is None else decision.verdict
        self._rollouts.rollback(DRIVER, self._rollout.id, reason=reason, verdict=verdict)

    def _follow(self, change: Change) -> None:
        self._rollouts.follow(DRIVER, self._rollout, change)

    def _keep(self, drive: Drive) -> None:
        self._drive = self._notebook.keep(drive)

    def _plan(self) -> Plan:
        return Plan(
            self._rollout,
            self._rollout.percent,
            promote=self._rollout.state is RolloutState.PROMOTED,
            target=self._target,
            witness=self._witness,
        )

    def _witness(self, evidence: Evidence) -> None:
        with self._db.write() as session:
            keep_change(session, DRIVER, self._rollout, evidence, self._clock())


def _shown(percent: int | None) -> str:
    return "nothing" if percent is None else f"{percent} %"
