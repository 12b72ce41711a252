"""Rollouts over real tenants and a real registry; only the verdict of an evaluation is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from argon2 import PasswordHasher

from services.db import Database, utcnow
from services.evaluation.models import Evaluation, Range, Summary, Verdict
from services.evaluation.policy import DEFAULT_POLICY
from services.evaluation.service import Evaluations
from services.jobs.models import Job
from services.registry.service import Registry
from services.rollouts.service import Rollouts
from services.tenants.models import Actor, Limits, Role
from services.tenants.service import Tenants
from tests.conftest import free_port
from tests.services.evaluation.measured import FINDINGS
from tests.services.registry.adapters import BASE_DIGEST, DATASET_SHA256, write_adapter

SYSTEM = Actor.system("test")
LIMITS = Limits(tps=100, rpm=1000, daily_tokens=10**6)
ENGINEER = Actor("user", "u1", "Elif", {"legal": frozenset({Role.ENGINEER})})
MANAGER = Actor("user", "u2", "Mert", {"legal": frozenset({Role.MANAGER})})
STRANGER = Actor("user", "u3", "Nil", {"medical": frozenset({Role.ENGINEER})})
_FLAT = Range(0.0, -0.01, 0.01, 1.0, "t")


class Judge:
    """Says of every adapter what it is told to say."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = None

    def latest_for(self, _actor: Actor, _tenant_id: str, _adapter: str) -> Evaluation | None:
        if self.verdict is None:
            return None
        summary = Summary(
            **{
                **dict.fromkeys(Summary.__dataclass_fields__, 0),
                "verdict": self.verdict,
                "sentence": "40 of 50 pairs.",
                "reward_margin": _FLAT,
                "chosen_shift": _FLAT,
                "rejected_shift": _FLAT,
                **FINDINGS,
            }
        )
        facts: dict[str, Any] = dict.fromkeys(Evaluation.__dataclass_fields__, "")
        job = cast(Job, None)
        return Evaluation(
            **facts
            | {
                "job": job,
                "summary": summary,
                "created_at": datetime.now(UTC),
                "policy": DEFAULT_POLICY,
            }  # fmt: skip
        )


@dataclass
class Stage:
    """One tenant's alias `legal` and what may be rolled out on it."""

    db: Database
    tenants: Tenants
    registry: Registry
    rollouts: Rollouts
    folder: Path
    judge: Judge = field(default_factory=Judge)

    def adapter(self, seed: int, *, tenant_id: str = "legal", alias: str = "legal") -> str:
        """A registered adapter."""
        source = write_adapter(self.folder / f"{tenant_id}-{alias}-{seed}", seed=seed)
        return self.registry.register(
            SYSTEM,
            tenant_id,
            alias=alias,
            folder=source,
            base_model="fake-base",
            base_digest=BASE_DIGEST,
            run_id=f"run-{tenant_id}-{alias}-{seed}",
            dataset_sha256=DATASET_SHA256,
            metrics={},
        ).name

    def means(self, alias: str = "legal") -> str | None:
        return self.tenants.alias_table()["legal", alias]


@pytest.fixture
def stage(database: Database, tmp_path: Path) -> Stage:
    return build_stage(database, tmp_path)


def build_stage(
    database: Database,
    folder: Path,
    clock: Callable[[], datetime] = utcnow,
    *,
    is_new: bool = True,
    **more: Any,
) -> Stage:
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    tenants = Tenants(database, hasher=hasher)
    for name in ("legal", "medical") if is_new else ():
        tenants.create(SYSTEM, name.title(), limits=LIMITS, tenant_id=name)
    # MLflow is a server at which nobody listens: rollouts must not need it.
    registry = Registry(database, folder / "adapters", f"http://127.0.0.1:{free_port()}")
    judge = Judge()
    evaluations = cast(Evaluations, judge)
    rollouts = Rollouts(database, tenants, registry, evaluations, clock=clock, **more)
    return Stage(database, tenants, registry, rollouts, folder / "sources", judge)
