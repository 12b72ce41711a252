"""What people do with training runs: launch, look at, stop, resume. Loads no torch."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.orm import Session

from services.attestation.custody import Custody
from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, InvalidInput, NotFound
from services.inference import model_store
from services.inference.models import BaseModel
from services.jobs.service import Jobs
from services.preferences.models import Dataset, PairStatus
from services.preferences.service import Preferences
from services.registry.store import digest_of
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope
from services.training import store
from services.training.backends import LOCAL, LocalProcess, RunBackend
from services.training.estimate import Estimate, Shape, estimate, pace_of, tokens_of
from services.training.folder import TAIL_BYTES, RunFolder
from services.training.models import DpoSpec, Point, Run, RunLine, validate
from services.training.samples import lengths_in, lengths_of
from services.training.store import RunRow

KIND = "training.dpo"
SAMPLE = 200
"""Pairs that an estimate looks at."""

Resolve = Callable[[str, Path], BaseModel]


class Training:
    """The training runs of all tenants.

    Args:
        db: Where the rows live.
        jobs: The queue that runs wait in; one at a time trains.
        preferences: Where datasets come from.
        runs_dir: Folder of the run folders; the worker and the pages must see the same.
        models_dir: Folder of the pulled base models.
        backends: Where runs may live, by name; only beside the worker by default.
        resolve: Finds a base model on disk.
        custody: States what runs made; without it that is only in the log.
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
        backends: Mapping[str, RunBackend] | None = None,
        resolve: Resolve = model_store.resolve,
        custody: Custody | None = None,
        clock: Clock = utcnow,
    ) -> None:
        self.db = db
        self.runs_dir = runs_dir
        self._jobs = jobs
        self._preferences = preferences
        self._models_dir = models_dir
        self._backends = {LOCAL: LocalProcess()} if backends is None else dict(backends)
        self._resolve = resolve
        self._custody = custody
        self._clock = clock

    def launch_dpo(
        self,
        actor: Actor,
        tenant_id: str,
        spec: DpoSpec,
        *,
        backend: str = LOCAL,
        parent_id: str | None = None,
    ) -> Run:
        """Queue a run; it starts when a device is free.

        Everything that can be known to be wrong is refused now, and nothing is queued.

        Args:
            backend: Where it is to live: a name of `backend_names`.
            parent_id: The tenant's run that the settings were taken over from.

        Raises:
            NotPermitted: The actor may not train in this tenant.
            InvalidInput: A number is out of range, or the dataset holds no training pair.
            MissingModel: The base model is not on disk.
            NotFound: The tenant has no such dataset.
        """
        tenant = scope(actor, tenant_id, Permission.TRAIN)
        spec = validate(spec)
        if backend not in self._backends:
            raise InvalidInput(
                f"backend: expected one of {', '.join(self._backends)}, found {backend!r}"
            )
        if parent_id is not None and self.get(actor, parent_id).tenant_id != tenant:
            raise NotFound(f"run {parent_id!r} was not found").because("no_such_run")
        dataset = self.dataset(actor, tenant, spec.dataset_id)
        if dataset.n_train < 1:
            raise InvalidInput(
                f"dataset {dataset.id}: expected at least 1 training pair, found none; "
                "approve some pairs first"
            ).because("no_pairs_to_train")
        base = self.base(spec)
        run_id = new_id()
        with self.db.write() as session:
            job = self._jobs.enqueue_in_session(
                session, actor, tenant, KIND, {"run_id": run_id},
                queue="cluster" if self._backends[backend].stays else "training",
            )  # fmt: skip
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
                    backend=backend,
                    parent_id=parent_id,
                )
            )
            details = {
                "backend": backend,
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

    def lines(self, actor: Actor, tenant_id: str, *, limit: int = 200) -> builtins.list[RunLine]:
        """The tenant's runs as a list shows them, newest first; several times faster than `list`."""
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            return store.lines_of_tenant(session, tenant, limit)

    def standing(self, actor: Actor, tenant_id: str) -> tuple[bool, bool]:
        """Whether the tenant has any run, and whether one of them waits or trains."""
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            return store.standing(session, tenant)

    def get(self, actor: Actor, run_id: str) -> Run:
        """One run.

        Raises:
            NotFound: No run of this id exists in a tenant whose runs the actor may read.
        """
        with self.db.read() as session:
            run = store.find(session, run_id)
        if run is None or not actor.may(Permission.READ_MODELS, run.tenant_id):
            raise NotFound(f"run {run_id!r} was not found").because("no_such_run")
        return run

    def metrics(self, actor: Actor, run_id: str) -> builtins.list[Point]:
        """The run's curve so far, one point a step."""
        return self.folder(self.get(actor, run_id)).points()

    def log_tail(self, actor: Actor, run_id: str, max_bytes: int = TAIL_BYTES) -> str:
        """The end of what the run printed; may quote data, so show it as text only."""
        run = self.get(actor, run_id)
        return self.folder(run).log_tail(max_bytes) or self._remote_log(run, max_bytes)

    def _remote_log(self, run: Run, max_bytes: int) -> str:
        """What only the backend has: the log of a process that writes none into the folder."""
        found = self._backends.get(run.backend)
        if found is None or not found.stays:
            return ""
        return found.logs(self.folder(run).path, max_bytes)

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

    def estimate(self, actor: Actor, tenant_id: str, spec: DpoSpec, *, frozen: bool) -> Estimate:
        """Roughly how long a run would take, and what memory, from a sample of its pairs.

        Args:
            frozen: Whether `spec.dataset_id` names a dataset; else the approved pairs are meant.

        Raises:
            InvalidInput: A number is out of range.
            MissingModel: The base model is not on disk.
            NotFound: The tenant has no such dataset.
        """
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        spec = validate(spec)
        base = self.base(spec)
        if frozen:
            dataset = self.dataset(actor, tenant, spec.dataset_id)
            n_pairs, sample = dataset.n_train, lengths_in(dataset.folder, SAMPLE)
        else:
            page = self._preferences.pairs(actor, tenant, status=PairStatus.APPROVED, limit=SAMPLE)
            n_pairs, sample = page.total, [lengths_of(pair) for pair in page.pairs]
        with self.db.read() as session:
            results = store.results_on(session, tenant, base.digest, limit=5)
        return estimate(
            spec,
            Shape.of(base.path, base.parameters),
            [tokens_of(*chars, spec.max_length) for chars in sample],
            n_pairs,
            pace=pace_of(results),
            cores=psutil.cpu_count(logical=False) or 1,
        )

    def bases(self) -> builtins.list[str]:
        """Names of the base models that runs may begin from."""
        return [base.name for base in model_store.list_models(self._models_dir)]

    @property
    def backend_names(self) -> builtins.list[str]:
        """Where runs may live here, the worker's own host first."""
        return sorted(self._backends, key=lambda name: (name != LOCAL, name))

    def backend(self, run: Run) -> RunBackend:
        """Where a run's process lives.

        Raises:
            Conflict: The run was launched on a backend that this installation no longer has.
        """
        found = self._backends.get(run.backend)
        if found is None:
            raise Conflict(
                f"run {run.id}: expected the backend {run.backend} to be set up, found "
                f"{', '.join(self._backends)}"
            )
        return found

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
                raise NotFound(f"run {run_id!r} was not found").because("no_such_run")
            scope(actor, row.tenant_id, Permission.TRAIN)
            row.result = dict(result)
            row.adapter = adapter or row.adapter
            row.mlflow_run_id = mlflow_run_id or row.mlflow_run_id
            now = self._clock()
            details = {"outcome": str(result.get("outcome")), "adapter": adapter or ""}
            record(
                session,
                actor,
                "training.ended",
                f"run:{run_id}",
                tenant_id=row.tenant_id,
                details=details | self._stated(session, actor, row, adapter, now),
                at=now,
            )

    def _stated(
        self, session: Session, actor: Actor, row: RunRow, adapter: str | None, at: datetime
    ) -> dict[str, str]:
        """What the event says of the run's statement; a run that made nothing has none."""
        made = adapter and digest_of(session, row.tenant_id, adapter)
        if self._custody is None or not adapter or not made:
            return {}
        final = row.result.get("final") or {}
        digest = self._custody.state_in_session(
            session,
            actor,
            row.tenant_id,
            kind="run",
            name=adapter,
            digest=made,
            facts={
                "run": row.id,
                "backend": row.backend,
                "metrics": {
                    str(name): f"{value:.6g}"
                    for name, value in final.items()
                    if isinstance(value, int | float)
                },
            },
            materials={
                "data set manifest": row.dataset_sha256,
                "base model": row.base_digest,
                "settings": row.spec_sha256,
            },
            at=at,
        )
        return {"statement": digest}
