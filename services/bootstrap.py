"""The one place that chooses real parts and puts them together.

`build` opens the database and constructs every domain's service; it starts no process and no
thread, imports neither torch nor a user interface, and is what pages, commands, the worker and
the gateway all call first. `worker_handlers` names what the worker does for each kind of job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from services.attestation.keys import Keyring
from services.attestation.notes import note_opener, note_signer
from services.attestation.service import Receipts
from services.audit.service import AuditLog
from services.db import Database
from services.evaluation.service import Evaluations
from services.guardrails.service import Guardrails
from services.inference.client import EngineClient
from services.jobs.service import Jobs
from services.jobs.worker import Handler
from services.metering.service import Metering
from services.preferences.gates.truncation import training_tokenizer
from services.preferences.quality import Quality
from services.preferences.service import Preferences
from services.registry.service import Registry
from services.rollouts.service import Rollouts
from services.settings import Settings
from services.tenants.service import Tenants
from services.training.service import Training

LOG_NAME = "param-console/audit"
"""Names the audit log in its checkpoints. Fixed: under another name old ones would not verify."""


@dataclass(frozen=True)
class Services:
    """Every domain's service, wired to one database and one home folder."""

    settings: Settings
    db: Database
    tenants: Tenants
    audit: AuditLog
    keyring: Keyring
    receipts: Receipts
    metering: Metering
    guardrails: Guardrails
    preferences: Preferences
    quality: Quality
    jobs: Jobs
    registry: Registry
    training: Training
    evaluations: Evaluations
    rollouts: Rollouts
    engine: EngineClient

    def close(self) -> None:
        """Give back what is open: connections to the database and to the engine."""
        self.engine.close()
        self.db.close()


def build(settings: Settings) -> Services:
    """Put the services of one process together.

    The schema is not touched: `Database.migrate` is called by whoever starts processes.

    Raises:
        WrongConfiguration: The database URL cannot be used.
    """
    db = Database(settings.database_url)
    keyring = Keyring(settings.keys_dir)
    tenants = Tenants(db, session_lifetime=timedelta(hours=settings.session_hours))
    jobs = Jobs(db)
    preferences = Preferences(
        db,
        datasets_dir=settings.datasets_dir,
        max_bytes=settings.max_upload_mb * 1024 * 1024,
        tokenizer=lambda: training_tokenizer(settings.base_model, settings.models_dir),
    )
    registry = Registry(db, settings.adapters_dir, settings.mlflow_tracking_uri)
    evaluations = Evaluations(db, jobs, registry, preferences, runs_dir=settings.runs_dir)
    return Services(
        settings=settings,
        db=db,
        tenants=tenants,
        audit=AuditLog(
            db,
            origin=LOG_NAME,
            sign_note=note_signer(keyring, LOG_NAME),
            open_note=note_opener(keyring, LOG_NAME),
        ),
        keyring=keyring,
        receipts=Receipts(db, keyring),
        metering=Metering(db),
        guardrails=Guardrails(db),
        preferences=preferences,
        quality=Quality(db, jobs, settings.home / "quality"),
        jobs=jobs,
        registry=registry,
        training=Training(
            db,
            jobs,
            preferences,
            runs_dir=settings.runs_dir,
            models_dir=settings.models_dir,
        ),
        evaluations=evaluations,
        rollouts=Rollouts(db, tenants, registry, evaluations),
        engine=EngineClient(settings.engine_url),
    )


def worker_handlers() -> Mapping[str, Handler]:
    """What the worker does for each kind of job."""
    # Only the worker pays for what these import (statistics, process supervision).
    from services.evaluation import worker as evaluation_worker
    from services.preferences import worker as preferences_worker
    from services.training import worker as training_worker

    return {
        "training.dpo": training_worker.dpo_handler,
        "evaluation.score": evaluation_worker.evaluation_handler,
        "preferences.quality": preferences_worker.quality_handler,
    }
