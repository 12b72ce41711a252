"""Rollouts under load on the real thing: gateway and embedded engine as processes, real adapters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import cast

import httpx
import pytest
from sqlalchemy import select

from services.attestation.statements import open_statement
from services.db import Database
from services.inference.models import BaseModel
from services.metering.store import UsageRow
from services.rollouts.assign import assign
from services.rollouts.models import Arm, Planned, Rollout, RolloutState, Route
from services.rollouts.overview import Overview
from tests.fakes.engine import FakeEngine
from tests.fakes.troubled import TroubledEngine
from tests.models import make_adapter
from tests.services.gateway.conftest import SYSTEM, Edge, bearer, eventually
from tests.services.gateway.edges import driven, process_over
from tests.services.inference.engines import RunningEngine, embedded
from tests.services.registry.adapters import DATASET_SHA256

POLICY = """\
steps:
  - {percent: 50, hold: 1m, min_requests: 30}
interval: 1m
max_hold: 1h
metrics:
  error_rate: {max_increase: 0.02}
  latency_p50: {max_ratio: 1.5}
"""
CONVERSATIONS = 20
THINKS_S = 1.0
"""How long a user reads an answer before the next question."""

SLOWER_S = 2.0
"""Much, so that it is much on a busy machine too."""

FAILED = "failed"


@dataclass
class Load:
    """Conversations of one tenant that go on all the time.

    Attributes:
        answers: Arm and model of each answer of a conversation, in their order; the arm is
            `FAILED` where there was none.
    """

    url: str
    key: str
    is_over: bool = False
    answers: list[list[tuple[str, str]]] = field(
        default_factory=lambda: [[] for _ in range(CONVERSATIONS)]
    )

    @property
    def count(self) -> int:
        return sum(len(one) for one in self.answers)

    def arms(self, conversation: int) -> list[str]:
        """Where its answers came from, each change once; only the candidate is made to fail."""
        arms = [arm for arm, _model in self.answers[conversation]]
        return [arm for arm, _same in groupby("canary" if one == FAILED else one for one in arms)]

    def failures(self) -> int:
        return sum(arm == FAILED for one in self.answers for arm, _model in one)

    async def talk(self, http: httpx.AsyncClient, conversation: int) -> None:
        headers = bearer(self.key) | {"x-param-conversation": f"talk-{conversation}"}
        body = {
            "messages": [{"role": "user", "content": "hello world"}],
            "max_tokens": 2, "stream": conversation % 2 == 0,
        }  # fmt: skip
        while not self.is_over:
            answer = await http.post(f"{self.url}/v1/chat/completions", json=body, headers=headers)
            is_whole = answer.status_code == 200 and b'"error"' not in answer.content
            arm = answer.headers["x-param-arm"] if is_whole else FAILED
            self.answers[conversation].append((arm, answer.headers.get("x-param-model", "")))
            await asyncio.sleep(THINKS_S)


async def _talk_all(loads: list[Load]) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as http:
        everybody = [load.talk(http, number) for load in loads for number in range(CONVERSATIONS)]
        await asyncio.gather(*everybody)


@contextmanager
def under_load(*loads: Load) -> Iterator[None]:
    thread = threading.Thread(target=lambda: asyncio.run(_talk_all(list(loads))))
    thread.start()
    try:
        yield
    finally:
        for load in loads:
            load.is_over = True
        thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def engine(tiny_model: BaseModel, tmp_path: Path) -> Iterator[RunningEngine]:
    folder = tmp_path / "engine"
    folder.mkdir()
    with embedded(tiny_model, folder, strength=0.3) as running:
        yield running


@pytest.fixture
def sqlite(tmp_path: Path, _sqlite_template: Path) -> Iterator[Database]:
    path = tmp_path / "param.db"
    path.write_bytes(_sqlite_template.read_bytes())
    found = Database(f"sqlite:///{path}")
    yield found
    found.close()


def _adapter(edge: Edge, base: BaseModel, tenant_id: str, seed: int) -> str:
    folder = make_adapter(base.path, edge.folder / f"{tenant_id}-{seed}", seed=seed)
    return edge.services.registry.register(
        SYSTEM, tenant_id, alias=tenant_id, folder=folder, base_model=base.name,
        base_digest=base.digest, run_id=f"run-{seed}", dataset_sha256=DATASET_SHA256, metrics={},
    ).name  # fmt: skip


@pytest.mark.slow
def test_a_slow_and_a_failing_adapter_go_back_by_themselves_under_load(
    sqlite: Database, engine: RunningEngine, tmp_path: Path
) -> None:
    base = engine.base
    with (
        TroubledEngine(engine.url) as troubled,
        process_over(
            sqlite, cast(FakeEngine, troubled), tmp_path, PARAM_BASE_MODEL=str(base.path)
        ) as gateway,
    ):
        edge = gateway.edge
        legal, medical = (Load(edge.url, edge.key(name)) for name in ("legal", "medical"))
        before, failing = (_adapter(edge, base, "legal", seed) for seed in (1, 2))
        slow = _adapter(edge, base, "medical", 3)
        edge.services.tenants.set_alias(SYSTEM, "legal", "legal", before)
        troubled.failing.add(failing)
        troubled.slow[slow] = SLOWER_S
        with driven(edge), under_load(legal, medical):
            eventually(lambda: min(legal.count, medical.count) >= CONVERSATIONS, 60)
            begun = {
                candidate: edge.services.rollouts.start(
                    SYSTEM, tenant_id, tenant_id, candidate, plan=Planned(POLICY)
                )
                for tenant_id, candidate in (("legal", failing), ("medical", slow))
            }
            ended = {name: _rolled_back(edge, rollout) for name, rollout in begun.items()}
            _everybody_is_answered_once_more(edge, legal, medical)
        _went_back_within_an_interval(edge, ended[failing], "error_rate")
        _went_back_within_an_interval(edge, ended[slow], "latency_p50")
        _kept_their_arms(legal, ended[failing], restored=before)
        _kept_their_arms(medical, ended[slow], restored=base.name)
        assert edge.services.tenants.alias_table() == {
            ("legal", "legal"): before, ("medical", "medical"): None,
        }  # fmt: skip
        # Whatever failed, failed on purpose: the switch itself cost nobody an answer.
        assert _failed(edge) == [("legal", "canary", failing)] * legal.failures() != []
        assert medical.failures() == 0


def _rolled_back(edge: Edge, rollout: Rollout) -> Rollout:
    def found() -> Rollout:
        return edge.services.rollouts.get(SYSTEM, rollout.id)

    eventually(lambda: found().state is RolloutState.ROLLED_BACK, 120)
    return found()


def _everybody_is_answered_once_more(edge: Edge, *loads: Load) -> None:
    """After every gateway has read the rollback."""
    for load in loads:
        eventually(
            lambda key=load.key: (
                edge.get("/v1/whoami", key).json()["aliases"][0]["candidate"] is None
            )
        )
    # Two each: the first may have been asked before.
    wanted = [len(one) + 2 for load in loads for one in load.answers]
    eventually(
        lambda: all(
            len(one) >= least
            for one, least in zip((a for load in loads for a in load.answers), wanted, strict=True)
        ),
        60,
    )


def _went_back_within_an_interval(edge: Edge, ended: Rollout, metric: str) -> None:
    """By itself, on its first share, for the reason that is true; and signed."""
    assert [(step.state.value, step.percent) for step in ended.steps] == [
        ("planned", 0), ("preloading", 0), ("stepping", 50), ("rolled_back", 0),
    ]  # fmt: skip
    assert ended.steps[-1].actor_name == "rollout-driver"
    assert metric in ended.steps[-1].reason
    overview = Overview(edge.services.db, edge.services.rollouts)
    signed = overview.signed(SYSTEM, ended.id)
    assert len(signed) == len(ended.steps)
    last, _key = open_statement(signed[-1].envelope, edge.services.keyring.jwks())
    drive = overview.drive(SYSTEM, ended.id)
    assert drive is not None
    verdict = last.predicate["verdict"]
    # No interval was over, or it was the first one that showed it.
    assert drive.progress.interval_looks == 0
    assert verdict["family"] == "step" or verdict["look"] == "1"
    assert last.predicate["state"] == "rolled_back"
    found = {one["metric"]: one["outcome"] for one in verdict["comparisons"]}
    assert found[metric] == "fail"


def _kept_their_arms(load: Load, ended: Rollout, *, restored: str) -> None:
    """Nobody went anywhere but to the arm of the split, once, and back from it."""
    route = Route(
        ended.tenant_id, ended.alias, ended.stable, ended.candidate, 50, ended.salt, ended.id
    )
    arms = [assign(route, f"talk-{number}") for number in range(CONVERSATIONS)]
    assert set(arms) == {Arm.STABLE, Arm.CANARY}, "both arms have conversations"
    stayed, moved = ["stable"], ["stable", "canary", "stable"]
    went = [load.arms(number) for number in range(CONVERSATIONS)]
    for number, arm in enumerate(arms):
        # The candidate may be gone again before one of its conversations goes on.
        assert went[number] == stayed or (arm is Arm.CANARY and went[number] == moved), number
        assert load.answers[number][-1] == ("stable", restored)
    assert moved in went


def _failed(edge: Edge) -> list[tuple[str, str, str]]:
    """Tenant, arm and model of every request that is recorded without an answer."""
    row = UsageRow
    with edge.services.db.read() as session:
        found = session.execute(
            select(row.tenant_id, row.arm, row.served).where(row.status != "ok")
        )
        return [(tenant_id, arm, served) for tenant_id, arm, served in found]
