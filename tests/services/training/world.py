"""Everything that a training run needs, real but small: services, one tenant, one dataset."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services import settings as configuration
from services.db import Database
from services.inference.models import BaseModel
from services.jobs.service import Jobs
from services.preferences.models import Dataset
from services.preferences.service import Preferences
from services.registry.service import Registry
from services.settings import Settings
from services.tenants.models import Actor
from services.training.models import DpoSpec
from services.training.service import Training

CLI = Actor.system("cli")
TENANT = "acme"
NOBODY = "http://127.0.0.1:9"
"""An address where no MLflow answers."""


def named_only(name: str, models_dir: Path) -> BaseModel:
    """A base model for tests that never load it."""
    return BaseModel(name, models_dir / name, "b" * 64, 60_000, "Apache-2.0")


@dataclass(frozen=True)
class World:
    """The services that the worker is given."""

    settings: Settings
    preferences: Preferences
    jobs: Jobs
    registry: Registry
    training: Training

    def dataset(self) -> Dataset:
        """Eleven pairs, approved and frozen."""
        rows = "".join(
            json.dumps(
                {
                    "prompt": f"What is {i} plus {i}?",
                    "chosen": f"It is {2 * i}." + " Yes." * (i % 4),
                    "rejected": f"It is {2 * i + 1}.",
                }
            )
            + "\n"
            for i in range(11)
        )
        self.preferences.import_pairs(CLI, TENANT, io.BytesIO(rows.encode()), source="test")
        self.preferences.approve_imported(CLI, TENANT)
        return self.preferences.snapshot(CLI, TENANT)

    def spec(self, **changes: Any) -> DpoSpec:
        """A specification for the dataset."""
        values = {
            "alias": "sums", "dataset_id": self.dataset().id, "base_model": "tiny",
            "max_steps": 6, "batch_size": 2, "lora_r": 4, "learning_rate": 1e-3, **changes,
        }  # fmt: skip
        return DpoSpec(**values)


def build_world(
    database: Database,
    home: Path,
    *,
    real_base: bool = False,
    mlflow: str = NOBODY,
    host: str = "",
) -> World:
    """The services over one database and one home.

    Args:
        real_base: Take base models from disk, not only their names.
        mlflow: MLflow's store or server; none by default.
        host: Name of the worker's machine.
    """
    variables = {
        "PARAM_HOME": str(home), "PARAM_TORCH_THREADS": "1", "MLFLOW_TRACKING_URI": mlflow,
        "PARAM_WORKER_HOST": host, "PARAM_TRAINING_DEVICES": "cpu",
    }  # fmt: skip
    found = configuration.load(variables, directory=home)
    jobs = Jobs(database)
    preferences = Preferences(database, datasets_dir=found.datasets_dir)
    keywords: dict[str, Any] = {} if real_base else {"resolve": named_only}
    return World(
        settings=found,
        preferences=preferences,
        jobs=jobs,
        registry=Registry(database, found.adapters_dir, found.mlflow_tracking_uri),
        training=Training(
            database, jobs, preferences, runs_dir=found.runs_dir, models_dir=found.models_dir,
            **keywords,
        ),
    )  # fmt: skip
