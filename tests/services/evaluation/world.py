"""A tenant with frozen pairs and a registered adapter, and everything an evaluation needs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services import settings as configuration
from services.db import Database
from services.evaluation.models import AnswerPair, Evaluation, Measured, PairScore, Summary
from services.evaluation.service import Evaluations
from services.evaluation.summary import LeftOut, summarise
from services.inference.models import BaseModel
from services.jobs.service import Jobs
from services.metering.service import Metering
from services.preferences.models import Dataset
from services.preferences.service import Preferences
from services.registry.models import Adapter
from services.registry.service import Registry
from services.settings import Settings
from services.tenants.models import Actor, Role
from services.tenants.store import TenantRow
from tests.services.evaluation.measured import KEPT
from tests.services.registry.adapters import BASE_DIGEST, write_adapter
from tests.support import free_port

ENGINEER = Actor("user", "u1", "Elif", {"legal": frozenset({Role.ENGINEER})})
MANAGER = Actor("user", "u2", "Mert", {"legal": frozenset({Role.MANAGER})})
ANNOTATOR = Actor("user", "u4", "Ali", {"legal": frozenset({Role.ANNOTATOR})})
STRANGER = Actor("user", "u3", "Nil", {"medical": frozenset({Role.ENGINEER})})


@dataclass(frozen=True)
class World:
    """The assembled services of one test, as a worker sees them."""

    settings: Settings
    db: Database
    jobs: Jobs
    metering: Metering
    registry: Registry
    preferences: Preferences
    evaluations: Evaluations
    dataset: Dataset
    adapter: Adapter


def build(
    db: Database,
    home: Path,
    *,
    base: BaseModel | None = None,
    folder: Path | None = None,
    pairs: int = 30,
    mlflow: str | None = None,
) -> World:
    """Everything, in one home folder.

    Args:
        base: The base model; a name without files where it is not needed.
        folder: The adapter's folder; made-up weights by default.
        pairs: Pairs in the dataset, three in ten of them held out, more or less.
        mlflow: Its store; nobody listens there by default.
    """
    settings = configuration.load({"PARAM_HOME": str(home)}, directory=home)
    jobs = Jobs(db)
    preferences = Preferences(db, datasets_dir=settings.datasets_dir)
    registry = Registry(db, settings.adapters_dir, mlflow or f"http://127.0.0.1:{free_port()}")
    dataset = freeze(preferences, pairs)
    adapter = registry.register(
        ENGINEER,
        "legal",
        alias="legal",
        folder=folder or write_adapter(home / "made"),
        base_model=str(base.path) if base else "smollm2",
        base_digest=base.digest if base else BASE_DIGEST,
        run_id="run-1",
        dataset_sha256=dataset.sha256,
        metrics={},
        parameters={"beta": "0.25"},
    )
    evaluations = Evaluations(db, jobs, registry, preferences, runs_dir=settings.runs_dir)
    return World(
        settings, db, jobs, Metering(db), registry, preferences, evaluations, dataset, adapter
    )


def add_tenant(db: Database) -> None:
    """The tenant's own row, for what is booked to it."""
    with db.write() as session:
        session.add(
            TenantRow(
                id="legal", name="Legal", tps=5, rpm=100, daily_tokens=10_000,
                timezone="Europe/Istanbul", created_at=datetime.now(UTC),
            )
        )  # fmt: skip


def freeze(preferences: Preferences, pairs: int) -> Dataset:
    """A dataset of made-up pairs, approved."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"How much is {number} and one?"}],
            "chosen": [{"role": "assistant", "content": f"It is {number + 1}."}],
            "rejected": [{"role": "assistant", "content": f"It is {number}, or so."}],
        }
        for number in range(pairs)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    preferences.import_pairs(ENGINEER, "legal", io.BytesIO(text.encode()), source="made up")
    preferences.approve_imported(ENGINEER, "legal")
    return preferences.snapshot(ENGINEER, "legal", eval_fraction=0.3)


def score(
    number: int,
    base: tuple[float, float] = (-2.0, -1.0),
    adapter: tuple[float, float] = (-1.0, -2.0),
    *,
    prompt: str | None = None,
    tokens: tuple[int, int] = (10, 10),
) -> PairScore:
    """Scores of one pair, as (chosen, rejected); by default one that the adapter gained."""
    return PairScore(
        pair_id=f"pair-{number:04}",
        prompt_key=prompt or f"prompt-{number:04}",
        base_chosen=base[0],
        base_rejected=base[1],
        adapter_chosen=adapter[0],
        adapter_rejected=adapter[1],
        chosen_tokens=tokens[0],
        rejected_tokens=tokens[1],
    )


GAINED = ((-2.0, -1.0), (-1.0, -2.0))
LOST = ((-1.0, -2.0), (-2.0, -1.0))
RIGHT = ((-1.0, -2.0), (-1.0, -2.5))
WRONG = ((-2.0, -1.0), (-2.0, -1.0))


def scores(gained: int = 0, lost: int = 0, right: int = 0, wrong: int = 0) -> list[PairScore]:
    """So many pairs of each kind."""
    kinds = [GAINED] * gained + [LOST] * lost + [RIGHT] * right + [WRONG] * wrong
    return [score(number, *kind) for number, kind in enumerate(kinds)]


def answer(position: int, base: str = "Ankara.", adapter: str = "Ankara.") -> AnswerPair:
    """Both answers to one prompt."""
    from services.evaluation.repetition import is_degenerate, repetition

    return AnswerPair(
        position=position,
        prompt=({"role": "user", "content": "Başkent neresi?"},),
        base=base,
        adapter=adapter,
        base_tokens=3,
        adapter_tokens=3,
        base_repetition=repetition(base),
        adapter_repetition=repetition(adapter),
        base_degenerate=is_degenerate(base),
        adapter_degenerate=is_degenerate(adapter),
    )


def summary(
    found: Sequence[PairScore],
    answers: Sequence[AnswerPair] = (),
    measured: Measured = KEPT,
    **further: Any,
) -> Summary:
    """The summary of some scores; beside them nothing was lost unless told otherwise."""
    return summarise(
        found, answers, beta=0.1, left_out=LeftOut(), seconds=1.5, measured=measured, **further
    )


def finished(world: World, found: Sequence[PairScore]) -> Evaluation:
    """An evaluation that has ended with these scores."""
    evaluation = world.evaluations.launch(ENGINEER, "legal", world.adapter.name)
    answers = [answer(0), answer(1, adapter="Ankara Ankara Ankara Ankara")]
    world.evaluations.finish(ENGINEER, evaluation.id, summary(found, answers), found, answers, KEPT)
    return world.evaluations.get(ENGINEER, evaluation.id)
