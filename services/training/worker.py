"""Runs DPO jobs: a child process trains, this side shows its progress and takes in its result.

How the process is started once and found again is `backends`' and `attendance`'s; what it does is
`services.training.dpo`'s.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

from services.errors import DigestMismatch
from services.jobs.children import ChildFailed
from services.jobs.claims import WORKER
from services.jobs.devices import processes
from services.jobs.worker import JobContext, JobPutBack, JobStopped, JobTaken
from services.training.attendance import Attendance
from services.training.backends import BackendState, BackendStatus
from services.training.folder import STOP, RunFolder, file_sha256
from services.training.models import Run
from services.training.service import Training
from services.training.tracking import Tracker


def dpo_handler(context: JobContext) -> None:
    """Run, or go on with, the DPO run that a job names.

    Raises:
        ChildFailed: The run failed; the message is the child's own sentence.
        DigestMismatch: Base model or dataset are no longer those of the launch.
        JobStopped: A person asked for a stop, and the checkpoint is saved.
        JobPutBack: This worker is leaving, and the checkpoint is saved.
        JobTaken: Another worker holds the job.
    """
    training: Training = context.services.training
    run = training.get(WORKER, context.job.payload["run_id"])
    if run.adapter is None:
        _Supervisor(context, training, run).supervise()
    context.progress(1.0, "the adapter is registered", now=True)


class _Supervisor:
    """One worker's care for one run."""

    def __init__(self, context: JobContext, training: Training, run: Run) -> None:
        self._context = context
        self._training = training
        self._run = run
        self._folder: RunFolder = training.folder(run)
        self._base = training.base(run.spec)

    def supervise(self) -> None:
        """Bring the run to an end, whatever state it is found in."""
        self._folder.path.mkdir(parents=True, exist_ok=True)
        settings = self._context.services.settings
        tracker = Tracker(
            settings.mlflow_tracking_uri, settings.home / "mlartifacts", self._run, self._folder
        )
        attendance = Attendance(
            self._context, self._training.backend(self._run), self._folder.path,
            order=self._order, show=self._show,
        )  # fmt: skip
        outcome: str | None = "failed"
        try:
            result = attendance.result()
            outcome = str(result["outcome"])
            if outcome == "stopped" and self._context.shutting_down:
                outcome = None  # it goes on with another worker
        except JobStopped:
            outcome = "stopped"
            raise
        except (JobPutBack, JobTaken):
            outcome = None
            raise
        finally:
            tracker.end(outcome)
        self._take_in(result, tracker)

    def _order(self) -> dict[str, Any]:
        """What the child is told; that it is what the run was launched with is proven first."""
        dataset = self._training.dataset(WORKER, self._run.tenant_id, self._run.spec.dataset_id)
        train = file_sha256(dataset.folder / "train.jsonl")
        for what, launched, found in (
            ("base model", self._run.base_digest, self._base.digest),
            ("dataset", self._run.dataset_sha256, file_sha256(dataset.folder / "manifest.json")),
            ("train.jsonl", dataset.manifest["files"]["train.jsonl"]["sha256"], train),
        ):
            if found != launched:
                raise DigestMismatch(
                    f"run {self._run.id}: expected {what} {launched}, found {found}; "
                    "launch a new run instead"
                )
        return {
            "run_id": self._run.id,
            "spec": self._run.spec.as_json(),
            "base_model": self._base.name,
            "base_path": str(self._base.path),
            "base_digest": self._base.digest,
            "dataset_folder": str(dataset.folder),
            "dataset_sha256": dataset.sha256,
            "threads": self._context.services.settings.torch_threads,
            "device": self._context.device,
            "processes": processes(self._context.device),
        }

    def _show(self, status: BackendStatus) -> None:
        if status.state is BackendState.WAITING:
            self._context.progress(0.0, status.message or "waiting for a place to run")
            return
        point = self._folder.last_point()
        stage = (self._folder.read("stage.json") or {}).get("stage", "starting")
        if stage == "training" and point is not None:
            fraction = point.step / point.max_steps
            self._context.progress(
                fraction,
                f"step {point.step} of {point.max_steps}, loss {point.loss:.3f}, "
                f"about {point.eta_s:.0f} s left",
            )
        else:
            self._context.progress(point.step / point.max_steps if point else 0.0, str(stage))

    def _take_in(self, result: dict[str, Any], tracker: Tracker) -> None:
        """Register what came out, or tell why nothing did.

        The database is told before the file is removed, and the registry knows a run that has
        registered already: a worker that dies between any two lines loses and doubles nothing.
        """
        if tracker.trouble is not None:
            result = {**result, "mlflow": tracker.trouble}
        if result["outcome"] == "succeeded":
            self._context.progress(1.0, "registering the adapter", now=True)
            adapter = self._register(result, tracker.run_id)
            self._record(result, tracker, adapter)
            for checkpoint in self._folder.path.glob("checkpoint-*"):
                shutil.rmtree(checkpoint, ignore_errors=True)
            return
        self._record(result, tracker)
        self._folder.remove("result.json", STOP)
        if result["outcome"] == "failed":
            raise ChildFailed(str(result["error"]))
        if self._context.shutting_down and not self._context.stop_requested:
            raise JobPutBack
        raise JobStopped

    def _record(self, result: dict[str, Any], tracker: Tracker, adapter: str | None = None) -> None:
        self._training.record_outcome(
            WORKER, self._run.id, result=result, adapter=adapter, mlflow_run_id=tracker.run_id
        )

    def _register(self, result: dict[str, Any], mlflow_run_id: str | None) -> str:
        spec = self._run.spec
        adapter = self._context.services.registry.register(
            WORKER,
            self._run.tenant_id,
            alias=spec.alias,
            folder=self._folder.adapter,
            base_model=self._base.name,
            base_digest=self._base.digest,
            run_id=self._run.id,
            dataset_sha256=self._run.dataset_sha256,
            metrics=result.get("final", {}),
            parameters={name: json.dumps(value) for name, value in spec.as_json().items()},
            mlflow_run_id=mlflow_run_id,
        )
        return str(adapter.name)
