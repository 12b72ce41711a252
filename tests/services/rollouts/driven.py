"""A rollout that drives itself over virtual time, on a real database."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.db import Database, new_id
from services.evaluation.models import Verdict
from services.rollouts.backends import SplitBackend
from services.rollouts.backends.gateway import GatewayBackend
from services.rollouts.driving.driver import Driver
from services.rollouts.models import Arm, Planned, Rollout
from services.rollouts.samples.models import Sample, Standing
from services.rollouts.samples.service import observe
from tests.services.rollouts.conftest import ENGINEER, Stage, build_stage

POLICY = """\
steps:
  - {percent: 10, hold: 1m, min_requests: 20}
  - {percent: 50, hold: 1m, min_requests: 20}
interval: 10s
max_hold: 1h
preload: 2m
metrics:
  error_rate: {max_increase: 0.1}
  latency_p50: {max_ratio: 1.5}
"""


@dataclass
class Course:
    """One stage, one driver, one clock that only the test moves.

    Attributes:
        loaded: What the engine serves.
        others: Backends beside the gateway's.
        more: Further parts of the rollouts.
    """

    database: Database
    folder: Path
    now: datetime = datetime(2026, 11, 21, 12, tzinfo=UTC)
    loaded: set[str] = field(default_factory=set)
    is_new: bool = True
    others: tuple[SplitBackend, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stage: Stage = build_stage(
            self.database, self.folder, clock=lambda: self.now, is_new=self.is_new, **self.more
        )
        self.stage.judge.verdict = Verdict.BETTER
        self.driver = self.new_driver()

    def new_driver(self) -> Driver:
        local = GatewayBackend(lambda: frozenset(self.loaded), clock=lambda: self.now)
        backends = {one.name: one for one in (local, *self.others)}
        return Driver(self.database, self.stage.rollouts, backends, clock=lambda: self.now)

    def launch(self, policy: str = POLICY, **plan: Any) -> Rollout:
        candidate = self.stage.adapter(1)
        return self.stage.rollouts.start(
            ENGINEER, "legal", "legal", candidate, plan=Planned(policy, **plan)
        )

    def is_(self, rollout: Rollout) -> Rollout:
        return self.stage.rollouts.get(ENGINEER, rollout.id)

    def states(self, rollout: Rollout) -> list[tuple[str, int]]:
        return [(step.state.value, step.percent) for step in self.is_(rollout).steps]

    def turn(self, seconds: float = 1, times: int = 1) -> None:
        for _ in range(times):
            self.now += timedelta(seconds=seconds)
            self.driver.turn()

    def to_first_step(self, rollout: Rollout) -> None:
        self.loaded.add(rollout.candidate)
        self.turn(2, times=5)
        assert self.states(rollout)[-1] == ("stepping", 10)

    def answers(
        self,
        rollout: Rollout,
        arm: Arm,
        count: int,
        *,
        errors: int = 0,
        latency_ms: int = 100,
        standing: Standing = Standing.OK,
    ) -> list[str]:
        """Requests of this moment; their ids."""
        found = [
            Sample(
                request_id=new_id(),
                tenant_id="legal",
                rollout_id=rollout.id,
                arm=arm,
                place=number,
                standing=Standing.ERROR if number < errors else standing,
                is_refused=False,
                is_flagged=False,
                latency_ms=latency_ms + number % 7,
                ttft_ms=None,
                cost_micro=50,
                at=self.now,
            )
            for number in range(count)
        ]
        with self.database.write() as session:
            observe(session, found)
        return [one.request_id for one in found]

    def well(self, rollout: Rollout, count: int = 200) -> None:
        """Both arms answer alike."""
        for arm in (Arm.STABLE, Arm.CANARY):
            self.answers(rollout, arm, count)
