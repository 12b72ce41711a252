"""The one place that chooses real parts and puts them together.

`build` opens the database and constructs every domain's service; it starts no process and no
thread, imports neither torch nor a user interface, and is what pages, commands, the worker and
the gateway all call first. `worker_handlers` names what the worker does for each kind of job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from services.attestation.custody import Custody
from services.attestation.evidence import Evidence, evidence_of, keyring_of, receipts_of
from services.attestation.keys import Keyring
from services.attestation.notes import note_opener, note_signer
from services.attestation.service import Receipts
from services.attestation.statements import sign_statement
from services.audit.service import AuditLog
from services.clusters.connection import Cluster
from services.db import Database
from services.evaluation.service import Evaluations
from services.guardrails.service import Guardrails
from services.inference.client import EngineClient
from services.jobs.service import Jobs
from services.jobs.worker import Handler
from services.metering.service import Metering
from services.operations.service import Operations
from services.preferences.gates.truncation import training_tokenizer
from services.preferences.quality import Quality
from services.preferences.service import Preferences
from services.registry.custody import Chains
from services.registry.service import Registry
from services.rlaif.evaluation_judge import Quotes, bench_of
from services.rlaif.service import Rlaif
from services.rlaif.traffic import GatewayTraffic
from services.rollouts.alerts.outbox import Alerts
from services.rollouts.custody import custody_of, steps_of
from services.rollouts.samples.service import Feedback
from services.rollouts.service import Rollouts
from services.rollouts.statements import PREDICATE_TYPE as STEP_TYPE
from services.settings import Settings
from services.tenants.service import Tenants
from services.training.backends import LocalProcess, RunBackend
from services.training.cluster import ClusterRuns
from services.training.manifests import place_of
from services.training.service import Training

if TYPE_CHECKING:
    from services.rollouts.driving.driver import Driver

LOG_NAME = "param-console/audit"
"""Names the audit log in its checkpoints. Fixed: under another name old ones would not verify."""


@dataclass(frozen=True)
class Services:
    """Every domain's service, wired to one database and one home folder."""

    settings: Settings
    db: Database
    tenants: Tenants
    audit: AuditLog
    evidence: Evidence
    keyring: Keyring
    receipts: Receipts
    chains: Chains
    metering: Metering
    operations: Operations
    guardrails: Guardrails
    preferences: Preferences
    quality: Quality
    jobs: Jobs
    registry: Registry
    training: Training
    evaluations: Evaluations
    rollouts: Rollouts
    feedback: Feedback
    alerts: Alerts
    rlaif: Rlaif
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
    keyring = keyring_of(settings)
    custody = Custody(db, keyring)
    tenants = Tenants(db, session_lifetime=timedelta(hours=settings.session_hours))
    jobs = Jobs(db)
    preferences = Preferences(
        db,
        datasets_dir=settings.datasets_dir,
        max_bytes=settings.max_upload_mb * 1024 * 1024,
        tokenizer=lambda: training_tokenizer(settings.base_model, settings.models_dir),
        custody=custody,
    )
    registry = Registry(db, settings.adapters_dir, settings.mlflow_tracking_uri, custody=custody)
    metering = Metering(db)
    evaluations = Evaluations(
        db, jobs, registry, preferences, runs_dir=settings.runs_dir, custody=custody,
        quotes=Quotes(db, settings, metering),
    )  # fmt: skip
    receipts = receipts_of(db, settings, keyring)
    audit = AuditLog(
        db,
        origin=LOG_NAME,
        sign_note=note_signer(keyring, LOG_NAME),
        open_note=note_opener(keyring, LOG_NAME),
    )
    alerts = Alerts(db, settings)
    evidence = evidence_of(
        db, settings, audit, keyring, receipts,
        origin=LOG_NAME, custody=custody_of(db, custody.further),
    )  # fmt: skip
    return Services(
        settings=settings,
        db=db,
        tenants=tenants,
        audit=audit,
        evidence=evidence,
        keyring=keyring,
        receipts=receipts,
        chains=Chains(custody, registry, receipts, steps_of(db)),
        metering=metering,
        operations=Operations(db, metering, settings),
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
            backends=_run_backends(settings),
            custody=custody,
        ),
        evaluations=evaluations,
        rollouts=Rollouts(
            db,
            tenants,
            registry,
            evaluations,
            sign=partial(_sign_step, keyring),
            announce=alerts.announce,
        ),
        feedback=Feedback(db, receipts),
        alerts=alerts,
        rlaif=Rlaif(
            db,
            jobs,
            metering,
            registry,
            settings,
            traffic=GatewayTraffic(evidence.retention),
        ),
        engine=EngineClient(settings.engine_url),
    )


def _sign_step(
    keyring: Keyring, subjects: Mapping[str, str], predicate: Mapping[str, Any]
) -> dict[str, Any]:
    """A step of a rollout, signed by the key for events."""
    return sign_statement(STEP_TYPE, subjects, predicate, keyring.key("event"))


def _run_backends(settings: Settings) -> dict[str, RunBackend]:
    """Where runs may live; nothing is connected to yet."""
    found: list[RunBackend] = [LocalProcess()]
    if settings.cluster_image:
        found.append(ClusterRuns(_cluster(settings), place_of(settings)))
    return {one.name: one for one in found}


def _cluster(settings: Settings) -> Cluster:
    return Cluster(settings.kubeconfig, context=settings.kube_context)


def rollout_driver(services: Services) -> Driver:
    """What moves rollouts by their policies; one of them at a time holds each rollout."""
    # Only the worker pays for what the backends of clusters import.
    from services.rollouts.backends import SplitBackend
    from services.rollouts.backends.gateway import GatewayBackend
    from services.rollouts.driving.driver import Driver

    def loaded() -> frozenset[str]:
        return frozenset(model.id for model in services.engine.models())

    found: list[SplitBackend] = [GatewayBackend(loaded)]
    if services.settings.kubeconfig:
        from services.rollouts.backends.on_clusters import cluster_backends

        found += cluster_backends(_cluster(services.settings)).values()
    return Driver(services.db, services.rollouts, {one.name: one for one in found})


def worker_handlers() -> Mapping[str, Handler]:
    """What the worker does for each kind of job."""
    # Only the worker pays for what these import (statistics, process supervision).
    from services.evaluation import worker as evaluation_worker
    from services.preferences import worker as preferences_worker
    from services.rlaif import worker as rlaif_worker
    from services.training import worker as training_worker

    return {
        "training.dpo": training_worker.dpo_handler,
        "evaluation.score": partial(evaluation_worker.evaluation_handler, judges=bench_of),
        "preferences.quality": preferences_worker.quality_handler,
        "rlaif.run": rlaif_worker.rlaif_handler,
    }
