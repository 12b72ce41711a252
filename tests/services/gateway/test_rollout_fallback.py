"""A second engine's answer hides no failure of a candidate: the rollout counts whom it replaced."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services import bootstrap
from services.db import Database
from services.metering.models import Price
from services.rollouts.assign import bucket
from services.rollouts.models import Arm, Planned, RolloutState
from services.rollouts.overview import Overview
from services.rollouts.samples import store as samples
from tests.fakes.engine import FakeEngine
from tests.services.gateway.conftest import SYSTEM, Edge, edge_over, eventually

MODEL = "big-model"
PRICES = {"*": Price(100_000, 400_000), "fallback/*": Price(3_000_000, 15_000_000)}
POLICY = """\
steps:
  - {percent: 50, hold: 1h, min_requests: 10}
interval: 1h
max_hold: 1h
metrics:
  error_rate: {max_increase: 0.02}
"""
USERS = 40


@pytest.fixture
def edge(database: Database, engine: FakeEngine, tmp_path: Path):  # type: ignore[no-untyped-def]
    with FakeEngine(base=MODEL) as second:
        variables = {
            "PARAM_FALLBACK_URL": f"{second.url}/v1", "PARAM_FALLBACK_MODEL": MODEL,
            "PARAM_FALLBACK_KEY": "sk-of-the-second",
        }  # fmt: skip
        with edge_over(database, engine, tmp_path, **variables) as made:
            made.services.metering.add_prices(SYSTEM, PRICES)
            yield made


def _asked(edge: Edge, key: str) -> list[str]:
    """One request of each user; what answered each."""
    arms = []
    for user in range(USERS):
        answer = edge.chat(key, stream=user % 2 == 0, headers={"x-param-user": f"user-{user}"})
        assert answer.status_code == 200, "the second engine answers for the failing candidate"
        arms.append(answer.headers["x-param-arm"])
    return arms


def test_a_candidate_whose_failures_are_answered_elsewhere_goes_back(edge: Edge) -> None:
    key = edge.key("legal")
    edge.services.operations.set_fallback(SYSTEM, "legal", allowed=True, reason="contract")
    eventually(lambda: edge.app.gateway.directory.price(f"fallback/{MODEL}")[0] == "2")  # type: ignore[union-attr]
    candidate = edge.adapter("legal", 1)
    edge.engine.failing.add(candidate)
    rollout = edge.services.rollouts.start(
        SYSTEM, "legal", "legal", candidate, plan=Planned(POLICY)
    )
    driver = bootstrap.rollout_driver(edge.services)

    overview = Overview(edge.services.db, edge.services.rollouts)

    def state() -> RolloutState:
        driver.turn()
        return edge.services.rollouts.get(SYSTEM, rollout.id).state

    def is_in_effect() -> bool:
        drive = overview.drive(SYSTEM, rollout.id) if state() is RolloutState.STEPPING else None
        return drive is not None and drive.applied_seq == 3

    eventually(is_in_effect, 30)
    eventually(lambda: edge.get("/v1/whoami", key).json()["aliases"][0]["percent"] == 50)
    began = datetime.now(UTC)
    arms = _asked(edge, key)
    assert set(arms) == {"stable", "fallback"}, "both arms have users"
    with edge.services.db.read() as session:
        found = samples.arms(session, rollout.id, began)
        places = samples.places(session, rollout.id, began)
    on_candidate = arms.count("fallback")
    assert (found[Arm.CANARY].requests, found[Arm.CANARY].errors) == (on_candidate, on_candidate)
    assert (found[Arm.STABLE].requests, found[Arm.STABLE].errors) == (USERS - on_candidate, 0)
    assert found[Arm.CANARY].costs_micro == [], "another model's answer says nothing of its cost"
    route = edge.services.rollouts.routes()["legal", "legal"]
    theirs = {bucket(route, f"user-{user}") for user in range(USERS)}  # two may share one
    assert set(places) == theirs, "each user keeps the place in the split"
    assert edge.services.rollouts.traffic(SYSTEM, rollout.id).elsewhere == on_candidate
    rows = edge.services.metering.usage_rows(SYSTEM, "legal", 1_000)
    assert len(rows) == USERS, "each request is charged once, to what answered it"
    assert sum(row.arm == "fallback" and row.cost_micro > 0 for row in rows) == on_candidate
    eventually(lambda: state() is RolloutState.ROLLED_BACK, 30)
    ended = edge.services.rollouts.get(SYSTEM, rollout.id)
    assert "error_rate" in ended.steps[-1].reason
    edge.services.engine.close()
