"""Puts alerts into the outbox with the step they tell of, and delivers them beside everything."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from services.audit.merkle import timestamp
from services.db import Clock, Database, new_id, utcnow
from services.errors import ConsoleError
from services.rollouts.alerts import sinks
from services.rollouts.alerts import store as alerts
from services.rollouts.models import Rollout, RolloutState
from services.settings import Settings

log = logging.getLogger("param.rollouts")

TOLD = frozenset({RolloutState.PROMOTED, RolloutState.ROLLED_BACK, RolloutState.PAUSED})
TIMEOUT_S = 10.0
EVERY_S = 2.0
AT_ONCE = 20
MAX_ATTEMPTS = 14
"""With doubled pauses from 5 s to 3 h this is about a day."""

_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(hours=3)
_IN_HAND = timedelta(minutes=2)
"""How long an alert stays with whoever took it: longer than a sink may take to answer."""


@dataclass(frozen=True)
class AlertState:
    """What became of one alert.

    Attributes:
        next_at: When it is tried again; None once it was sent or given up.
        problem: Why the last attempt failed.
    """

    sink: str
    seq: int
    attempts: int
    next_at: datetime | None
    sent_at: datetime | None
    problem: str


class Alerts:
    """The outbox of one installation.

    Args:
        http: What sends; a client of its own by default.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        *,
        http: httpx.Client | None = None,
        clock: Clock = utcnow,
    ) -> None:
        self._db = db
        self._settings = settings
        self._http = http or httpx.Client(timeout=TIMEOUT_S)
        self._clock = clock

    def announce(self, session: Session, rollout: Rollout) -> None:
        """Put the latest step into the outbox, in its own transaction, if outsiders hear of it."""
        step = rollout.steps[-1]
        if step.state not in TOLD:
            return
        facts = {
            "rollout": rollout.id,
            "tenant": rollout.tenant_id,
            "alias": rollout.alias,
            "stable": rollout.stable,
            "candidate": rollout.candidate,
            "seq": step.seq,
            "state": step.state.value,
            "percent": step.percent,
            "reason": step.reason,
            "actor": step.actor_name,
            "at": timestamp(step.at),
        }
        for sink in sinks.configured(self._settings):
            session.add(
                alerts.AlertRow(
                    id=new_id(), tenant_id=rollout.tenant_id, rollout_id=rollout.id, seq=step.seq,
                    sink=sink, facts=facts, attempts=0, next_at=step.at, sent_at=None, problem="",
                    created_at=step.at,
                )
            )  # fmt: skip

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Deliver until told to stop."""
        while not stop.is_set():
            try:
                self.deliver()
            except (ConsoleError, SQLAlchemyError) as error:
                log.warning("alerts cannot be read, trying again: %s", error)
            stop.wait(every_s)

    def deliver(self) -> int:
        """Send what is due; how many alerts reached their sink.

        Each is taken first and sent outside of any transaction, so a slow sink holds nobody up;
        whoever dies in between leaves it to be sent again, with the same id.
        """
        sent = 0
        for alert_id, sink, facts, attempts in self._take():
            problem = self._send(sink, alert_id, facts)
            self._note(alert_id, attempts, problem)
            sent += not problem
        return sent

    def _take(self) -> list[tuple[str, str, dict[str, object], int]]:
        now = self._clock()
        with self._db.read() as session:
            if not alerts.due(session, now, 1):
                return []  # An idle worker takes no write lock.
        with self._db.write() as session:
            taken = alerts.due(session, now, AT_ONCE)
            for row in taken:
                row.attempts += 1
                row.next_at = now + _IN_HAND
            return [(row.id, row.sink, row.facts, row.attempts) for row in taken]

    def _send(self, sink: str, alert_id: str, facts: dict[str, object]) -> str:
        """Send one alert; why it did not arrive, or nothing. Addresses may be secrets: not told."""
        if sink not in sinks.configured(self._settings):
            return "no address is set for it any more"
        request = sinks.request(self._settings, sink, alert_id, facts)
        try:
            answer = self._http.post(request.url, content=request.body, headers=request.headers)
        except httpx.HTTPError as error:
            return f"no answer: {type(error).__name__}"
        return "" if answer.is_success else f"it answered {answer.status_code}"

    def _note(self, alert_id: str, attempts: int, problem: str) -> None:
        now = self._clock()
        with self._db.write() as session:
            row = session.get(alerts.AlertRow, alert_id)
            assert row is not None, "alerts are never deleted"
            row.problem = problem
            if not problem:
                row.sent_at, row.next_at = now, None
                return
            is_over = attempts >= MAX_ATTEMPTS
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempts - 1))
            row.next_at = None if is_over else now + pause
        if is_over:
            log.error("alert %s to %s is given up: %s", alert_id, row.sink, problem)


def states(db: Database, rollout_id: str) -> list[AlertState]:
    """What became of a rollout's alerts, oldest first; the caller has checked who asks."""
    with db.read() as session:
        return [
            AlertState(row.sink, row.seq, row.attempts, row.next_at, row.sent_at, row.problem)
            for row in alerts.of_rollout(session, rollout_id)
        ]
