"""What people do with training runs: launch, look at, stop, resume. Loads no torch."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import InvalidInput, NotFound
from services.inference import model_store
from services.inference.models import BaseModel
from services.jobs.service import Jobs
from services.preferences.models import Dataset
from services.preferences.service import Preferences
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope
from services.training import store
from services.training.folder import TAIL_BYTES, RunFolder
from services.training.models import DpoSpec, Point, Run, validate
from services.training.store import RunRow

KIND = "training.dpo"

Resolve = Callable[[str, Path], BaseModel]


class Training:
    """The training runs of all tenants.

    Args:
        db: Where the rows live.
        jobs: The queue that runs wait in; one at a time trains.
        preferences: Where datasets come from.
        runs_dir: Folder of the run folders; the worker and the pages must see the same.
        models_dir: Folder of the pulled base models.
        resolve: Finds a base model on disk.
        clock: Gives the present time.
    """

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        preferences: Preferences,
        *,
        runs_dir: Path,
        models_dir: Path,
        resolve: Resolve = model_store.resolve,
        clock: Clock = utcnow,
    ) -> None:
        self.db = db
        self.runs_dir = runs_dir
        self._jobs = jobs
        self._preferences = preferences
        self._models_dir = models_dir
        self._resolve = resolve
        self._clock = clock

    def launch_dpo(self, actor: Actor, tenant_id: str, spec: DpoSpec) -> Run:
        """Queue a DPO run; it starts when no other run trains.

        Everything that can be known to be wrong is refused now, and nothing is queued.

        Raises:
            NotPermitted: The actor may not train in this tenant.
            InvalidInput: A number is out of range, or the dataset holds no training pair.
            MissingModel: The base model is not on disk.
            NotFound: The tenant has no such dataset.
        """
        tenant = scope(actor, tenant_id, Permission.TRAIN)
        spec = validate(spec)
        dataset = self.dataset(actor, tenant, spec.dataset_id)
        if dataset.n_train < 1:
            raise InvalidInput(
                f"dataset {dataset.id}: expected at least 1 training pair, found none; "
                "approve some pairs first"
            )
        base = self.base(spec)
        run_id = new_id()
        with self.db.write() as session:
            job = self._jobs.enqueue_in_session(
                session, actor, tenant, KIND, {"run_id": run_id}, queue="training"
            )
            session.add(
                RunRow(
                    id=run_id,
                    tenant_id=tenant,
                    job_id=job.id,
                    alias=spec.alias,
                    spec=spec.as_json(),
                    spec_sha256=spec.sha256,
                    dataset_id=dataset.id,
                    dataset_sha256=dataset.sha256,
                    base_digest=base.digest,
                    result={},
                    created_at=self._clock(),
                    created_by=actor.name,
                )
            )
            details = {
                "alias": spec.alias,
                "spec_sha256": spec.sha256,
                "dataset_sha256": dataset.sha256,
                "base_digest": base.digest,
            }
            record(
                session,
                actor,
                "training.launched",
                f"run:{run_id}",
                tenant_id=tenant,
                details=details,
                at=self._clock(),
            )
        return self.get(actor, run_id)

    def list(self, actor: Actor, tenant_id: str, *, limit: int = 200) -> builtins.list[Run]:
        """The tenant's runs, newest first."""
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            return store.of_tenant(session, tenant, limit)

    def get(self, actor: Actor, run_id: str) -> Run:
        """One run.

        Raises:
            NotFound: No run of this id exists in a tenant whose runs the actor may read.
        """
        with self.db.read() as session:
            run = store.find(session, run_id)
        if run is None or not actor.may(Permission.READ_MODELS, run.tenant_id):
            raise NotFound(f"run {run_id!r} was not found")
        return run

    def metrics(self, actor: Actor, run_id: str) -> builtins.list[Point]:
        """The run's curve so far, one point a step."""
        return self.folder(self.get(actor, run_id)).points()

    def log_tail(self, actor: Actor, run_id: str, max_bytes: int = TAIL_BYTES) -> str:
        """The end of what the run printed; may quote data, so show it as text only."""
        return self.folder(self.get(actor, run_id)).log_tail(max_bytes)

    def stop(self, actor: Actor, run_id: str) -> Run:
        """Ask the run to save a checkpoint and end; within seconds while it trains.

        Raises:
            Conflict: It has already ended.
        """
        self._jobs.request_stop(actor, self.get(actor, run_id).job.id)
        return self.get(actor, run_id)

    def resume(self, actor: Actor, run_id: str) -> Run:
        """Queue a stopped or failed run again; it goes on from its last checkpoint, exactly.

        Raises:
            Conflict: It waits, runs, or has succeeded.
        """
        self._jobs.resume(actor, self.get(actor, run_id).job.id)
        return self.get(actor, run_id)

    def folder(self, run: Run) -> RunFolder:
        """The folder of a run; it may not exist yet."""
        return RunFolder(store.run_dir(self.runs_dir, run.id))

    def base(self, spec: DpoSpec) -> BaseModel:
        """The base model of a specification, its bytes verified.

        Raises:
            MissingModel: It is not on disk.
            DigestMismatch: It is no longer what was pulled.
        """
        return self._resolve(spec.base_model, self._models_dir)

    def dataset(self, actor: Actor, tenant_id: str, dataset_id: str) -> Dataset:
        """A frozen dataset of the tenant.

        Raises:
            NotFound: The tenant has no such dataset.
        """
        return self._preferences.dataset(actor, tenant_id, dataset_id)

    def record_outcome(
        self,
        actor: Actor,
        run_id: str,
        *,
        result: Mapping[str, Any],
        adapter: str | None = None,
        mlflow_run_id: str | None = None,
    ) -> None:
        """Note what a run's process reported and what became of it; the worker's call.

        Args:
            result: The content of `result.json`.
            adapter: Name of the registered adapter, if the run succeeded.
            mlflow_run_id: The run in MLflow, if it was reached.
        """
        with self.db.write() as session:
            row = session.get(RunRow, run_id)
            if row is None:
                raise NotFound(f"run {run_id!r} was not found")
            scope(actor, row.tenant_id, Permission.TRAIN)
            row.result = dict(result)
            row.adapter = adapter or row.adapter
            row.mlflow_run_id = mlflow_run_id or row.mlflow_run_id
            details = {"outcome": str(result.get("outcome")), "adapter": adapter or ""}
            record(
                session,
                actor,
                "training.ended",
                f"run:{run_id}",
                tenant_id=row.tenant_id,
                details=details,
                at=self._clock(),
            )
