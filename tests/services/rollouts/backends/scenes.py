"""A rollout of the alias `support`, and plans of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from services.rollouts.backends import Plan, SplitBackend
from services.rollouts.models import Rollout, RolloutState, Step
from tests.fakes.kubernetes.fixtures import AnyCluster
from tests.fakes.kubernetes.samples import CANDIDATE, STABLE, V2

AT = datetime(2026, 11, 21, tzinfo=UTC)
TARGET = {"namespace": "prod", "name": "support", "storage_uri": V2}
VARIANT = "v-3fa2c1d09b7e"


def rollout(*, stable: str | None = STABLE, candidate: str = CANDIDATE) -> Rollout:
    step = Step(1, RolloutState.STEPPING, 0, "", "user:ada", "Ada", AT)
    return Rollout("r1", "acme", "support", stable, candidate, "salt", AT, (step,))


def plan(
    percent: int,
    *,
    promote: bool = False,
    target: Mapping[str, str] = TARGET,
    stable: str | None = STABLE,
) -> Plan:
    return Plan(rollout(stable=stable), percent, promote, target)


def a_whole_rollout(backend: SplitBackend, where: AnyCluster, target: Mapping[str, str]) -> None:
    """The contract: every share asked for is in effect, and a rollback restores everything."""
    previous = backend.capture(plan(0, target=target))
    for percent in (0, 5, 50):
        asked = plan(percent, target=target)
        backend.apply(asked)
        found = where.until(lambda asked=asked: backend.effective(asked), lambda s: s.is_settled)
        assert (found.percent, found.is_ready) == (percent, True)
        assert not backend.apply(asked).changed
    promoted = plan(100, promote=True, target=target)
    backend.apply(promoted)
    where.until(lambda: backend.effective(promoted), lambda s: s.is_settled and s.percent == 100)
    where.insist(lambda: backend.restore(promoted, previous))
    restored = backend.capture(plan(0, target=target)).state
    changing = {"revision"}  # Knative makes a new one of the old model
    assert {k: v for k, v in restored.items() if k not in changing} == {
        k: v for k, v in previous.state.items() if k not in changing
    }
    where.insist(lambda: backend.restore(promoted, previous))
