"""Rollouts under load through a real gateway: what is bad goes back by itself, users stay put."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from services.rollouts.models import Planned, Rollout, RolloutState
from tests.services.gateway.conftest import SYSTEM, Edge, bearer, eventually
from tests.services.gateway.edges import driven

POLICY = """\
steps:
  - {percent: 40, hold: 1h, min_requests: 50}
interval: 1h
max_hold: 1h
metrics:
  error_rate: {max_increase: 0.02}
  latency_p50: {max_ratio: 1.5}
"""
USERS = 24


@dataclass
class Load:
    """Users who ask all the time; what each was answered.

    Attributes:
        arms: The arms that a user's answers came from.
        failed: Requests without an answer, by user, since the last look.
    """

    edge: Edge
    key: str
    stop: threading.Event = field(default_factory=threading.Event)
    arms: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    failed: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    answered: int = 0

    def run(self, user: int) -> None:
        headers = bearer(self.key) | {"x-param-user": f"user-{user}"}
        body = {"messages": [{"role": "user", "content": "hello"}]}
        with httpx.Client(timeout=60, headers=headers) as http:
            while not self.stop.is_set():
                answer = http.post(f"{self.edge.url}/v1/chat/completions", json=body)
                if answer.status_code == 200:
                    self.arms[user].add(answer.headers["x-param-arm"])
                    self.answered += 1
                else:
                    self.failed[user] += 1


@contextmanager
def under_load(edge: Edge, key: str) -> Iterator[Load]:
    load = Load(edge, key)
    threads = [threading.Thread(target=load.run, args=(user,)) for user in range(USERS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(60)


def _state(edge: Edge, rollout: Rollout) -> RolloutState:
    return edge.services.rollouts.get(SYSTEM, rollout.id).state


@pytest.mark.parametrize("trouble", ["failing", "slow"])
def test_a_bad_candidate_goes_back_by_itself_and_nobody_else_notices(
    edge: Edge, trouble: str
) -> None:
    key = edge.key("legal")
    stable, candidate = edge.adapter("legal", 1), edge.adapter("legal", 2)
    edge.services.tenants.set_alias(SYSTEM, "legal", "legal", stable)
    if trouble == "failing":
        edge.engine.failing.add(candidate)
    else:
        edge.engine.slow[candidate] = 0.3
    with driven(edge), under_load(edge, key) as load:
        eventually(lambda: load.answered > 50)
        assert not load.failed
        rollout = edge.services.rollouts.start(
            SYSTEM, "legal", "legal", candidate, plan=Planned(POLICY)
        )
        # The policy's interval is an hour: the step itself is judged as its requests come.
        eventually(lambda: _state(edge, rollout) is RolloutState.ROLLED_BACK, 60)
        ended = edge.services.rollouts.get(SYSTEM, rollout.id)
        eventually(lambda: edge.get("/v1/whoami", key).json()["aliases"][0]["candidate"] is None)
        # Whoever was on the candidate may still wait for an answer that it gives.
        edge.engine.slow.clear()
        failed, load.failed = load.failed, defaultdict(int)
        seen, answered = {user: set(arms) for user, arms in load.arms.items()}, load.answered
        load.arms.clear()
        eventually(lambda: load.answered > answered + 4 * USERS)
    expected = "error_rate" if trouble == "failing" else "latency_p50"
    assert expected in ended.steps[-1].reason
    assert [step.percent for step in ended.steps] == [0, 0, 40, 0]
    route = edge.services.rollouts.routes()["legal", "legal"]
    assert (route.stable, route.candidate) == (stable, None)
    on_candidate = {user for user in range(USERS) if _place(ended, user) < 4_000}
    assert on_candidate
    assert set(failed) <= on_candidate, "only the candidate's own failures reach anybody"
    for user in set(range(USERS)) - on_candidate:
        assert seen[user] == {"stable"}
    assert set().union(*load.arms.values()) <= {"stable", "canary"}
    assert sum(load.failed.values()) <= len(on_candidate), "none but those already on their way"


def _place(rollout: Rollout, user: int) -> int:
    from services.rollouts.assign import bucket
    from services.rollouts.models import Route

    route = Route(
        rollout.tenant_id, rollout.alias, rollout.stable, rollout.candidate, 40, rollout.salt,
        rollout.id,
    )  # fmt: skip
    return bucket(route, f"user-{user}")
