"""A tenant with an engine that answers and a judge that judges: all that a run needs, but small."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from sqlalchemy import select

from services import settings as configuration
from services.db import Database
from services.jobs.service import Jobs
from services.jobs.worker import run_worker
from services.metering.service import Metering
from services.metering.store import UsageRow
from services.preferences.models import Pair, Turn
from services.preferences.service import Preferences
from services.registry.service import Registry
from services.rlaif.batches import Pace
from services.rlaif.models import Kind, Run, Spec
from services.rlaif.service import Rlaif
from services.rlaif.store import CallRow
from services.rlaif.worker import run_rlaif
from services.settings import Settings
from services.tenants.models import Actor, Role
from services.tenants.store import TenantRow
from tests.fakes.anthropic import KEY, MODEL, FakeAnthropic
from tests.fakes.engine import BASE, FakeEngine

TENANT = "acme"
CLI = Actor.system("cli")
ENGINEER = Actor("user", "user-engineer", "Engineer", {TENANT: frozenset({Role.ENGINEER})})
FAST = Pace(first_s=0.02, longest_s=0.05, arrives_within=timedelta(seconds=0.3))
PATIENCE_S = 60.0


class Candidates(FakeEngine):
    """An engine whose answers are the longer the warmer they are; `[same]` and `[empty]` are not."""

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        asked = body["messages"][-1]["content"]
        if "[slow]" in asked:
            await asyncio.sleep(0.05)
        text = f"Answer{' and more' * round(10 * body['temperature'])} to {asked[:20]}"
        if "[same]" in asked:
            text = "Always the same."
        if "[empty]" in asked:
            text = "  "
        usage = {"prompt_tokens": 12, "completion_tokens": 2 + len(text) // 4}
        return web.json_response(
            {
                "id": "x", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [
                    {
                        "index": 0, "finish_reason": "stop",
                        "message": {"role": "assistant", "content": text},
                    }
                ],
                "usage": {**usage, "total_tokens": sum(usage.values())},
            }
        )  # fmt: skip


def prompts(count: int, words: str = "") -> list[tuple[Turn, ...]]:
    return [(Turn("user", f"Question {number}? {words}"),) for number in range(count)]


@dataclass(frozen=True)
class World:
    """The services that the worker is given."""

    db: Database
    settings: Settings
    jobs: Jobs
    metering: Metering
    registry: Registry
    preferences: Preferences
    rlaif: Rlaif
    judge: FakeAnthropic
    engine: Candidates

    def launch(self, count: int = 2, words: str = "", **changes: Any) -> Run:
        return self.rlaif.launch(ENGINEER, TENANT, spec(**changes), prompts(count, words))

    def work(self, run: Run, *, until: Callable[[Run], bool] | None = None) -> Run:
        """Let a worker run until the run has ended, or something else is true of it."""
        stop = threading.Event()
        handlers = {"rlaif.run": partial(run_rlaif, pace=FAST, first_pause_s=0.02)}
        worker = threading.Thread(
            target=run_worker, args=(self, handlers, stop), kwargs={"poll_s": 0.02}
        )
        worker.start()
        try:
            return self.until(run, until or (lambda found: found.job.status.is_final))
        finally:
            stop.set()
            worker.join(PATIENCE_S)
            assert not worker.is_alive(), "the worker left"

    def until(self, run: Run, fact: Callable[[Run], bool]) -> Run:
        deadline = time.monotonic() + PATIENCE_S
        while not fact(found := self.rlaif.get(CLI, run.id)):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return self.rlaif.get(CLI, run.id)

    def done(self, count: int = 2, words: str = "", **changes: Any) -> Run:
        return self.work(self.launch(count, words, **changes))

    def pairs(self) -> list[Pair]:
        listed = self.preferences.pairs(CLI, TENANT, limit=1_000).pairs
        return [self.preferences.pair(CLI, TENANT, one.id) for one in listed]

    def calls(self) -> list[CallRow]:
        with self.db.read() as session:
            return list(session.scalars(select(CallRow).order_by(CallRow.custom_id)))

    def usage(self) -> list[UsageRow]:
        with self.db.read() as session:
            return list(session.scalars(select(UsageRow)))

    def import_pairs(self, count: int, *, source: str = "made", **more: Any) -> None:
        rows = "".join(
            json.dumps(
                {
                    "prompt": f"Imported {n}? {more.get('words', '')}",
                    "chosen": "A long answer, which is better.", "rejected": f"No {n}.",
                }
            )
            + "\n"
            for n in range(count)
        )  # fmt: skip
        self.preferences.import_pairs(
            CLI, TENANT, io.BytesIO(rows.encode()), source=source,
            purpose=more.get("purpose", "training"),
        )  # fmt: skip


def spec(**changes: Any) -> Spec:
    values: dict[str, Any] = {
        "kind": Kind.GENERATE, "cap_micro": 50_000_000, "max_new_tokens": 64, "model": "base",
        **changes,
    }  # fmt: skip
    return Spec(**values)


def build_world(database: Database, home: Path, judge_url: str, engine_url: str) -> dict[str, Any]:
    """The services, without the servers: what a process of its own builds too."""
    settings = configuration.load(
        {
            "PARAM_HOME": str(home), "PARAM_ENGINE_URL": engine_url, "PARAM_JUDGE_URL": judge_url,
            "PARAM_JUDGE_MODEL": MODEL, "PARAM_JUDGE_API_KEY": KEY, "PARAM_JUDGE_PRICE": "2/10",
            "PARAM_BASE_MODEL": BASE,
        },
        directory=home,
    )  # fmt: skip
    jobs, metering = Jobs(database), Metering(database)
    registry = Registry(database, settings.adapters_dir, settings.mlflow_tracking_uri)
    return {
        "db": database,
        "settings": settings,
        "jobs": jobs,
        "metering": metering,
        "registry": registry,
        "preferences": Preferences(database, datasets_dir=settings.datasets_dir),
        "rlaif": Rlaif(database, jobs, metering, registry, settings),
    }


def add_tenant(database: Database, tenant_id: str = TENANT) -> None:
    with database.write() as session:
        session.add(
            TenantRow(
                id=tenant_id, name=tenant_id.title(), tps=5, rpm=100, daily_tokens=10_000,
                timezone="Europe/Istanbul", created_at=datetime.now(UTC),
            )
        )  # fmt: skip
