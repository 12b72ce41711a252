"""Supervises the process that trains: start it or find it, show its progress, take in its result.

The handler may be called again for a run at any time: after this worker was killed, after the
child was killed, after both were. It looks first, and acts on what it finds:

| the run's lock | `result.json` | what is done |
| --- | --- | --- |
| held | any | a child lives: attend it, whoever started it |
| free | there | it has ended: take in what it reported |
| free | not there | start a child; it goes on from the last whole checkpoint, if one is there |

Whoever starts a child holds the lock already and hands the open file on, so there is no moment
in which two children could start.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, TextIO

import psutil

from services.errors import ConsoleError
from services.jobs.claims import WORKER
from services.jobs.worker import JobContext, JobPutBack, JobStopped, JobTaken
from services.training.folder import RunFolder
from services.training.models import Run
from services.training.service import Training
from services.training.tracking import Tracker

POLL_S = 0.5
GRACE_S = 60.0
"""From the order to stop until a child that does not obey is killed, seconds."""
MAX_RESTARTS = 2
"""How often one worker starts a child again that died without a word."""

log = logging.getLogger("param.training")


class TrainingFailed(ConsoleError):
    """The run's process reported a failure, or died without a word."""

    code = "training_failed"


def dpo_handler(context: JobContext) -> None:
    """Run, or go on with, the DPO run that a job names.

    Raises:
        TrainingFailed: The run failed; the message is the child's own sentence.
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
        self._child: subprocess.Popen[bytes] | None = None
        self._restarts = -1
        self._told_at: float | None = None

    def supervise(self) -> None:
        """Bring the run to an end, whatever state it is found in."""
        self._folder.path.mkdir(parents=True, exist_ok=True)
        settings = self._context.services.settings
        tracker = Tracker(
            settings.mlflow_tracking_uri, settings.home / "mlartifacts", self._run, self._folder
        )
        outcome: str | None = "failed"
        try:
            result = self._result_of_child()
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

    def _result_of_child(self) -> dict[str, Any]:
        """Attend or start children until one has written its result."""
        while True:
            lock = self._folder.lock()
            if lock is None:
                self._attend()
                continue
            with lock:
                result = self._folder.read("result.json")
                if result is not None:
                    return result
                self._context.check()
                self._start(lock)

    def _start(self, lock: TextIO) -> None:
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise TrainingFailed(
                f"the training process ended {self._restarts} times without a word"
                f"{self._last_exit()}; too little memory is the usual cause"
            )
        self._folder.remove("child.json")
        self._folder.write("spec.json", self._order())
        self._told_at = None
        command = [sys.executable, "-m", "services.training.dpo", str(self._folder.path)]
        with self._folder.log.open("ab") as output:
            self._child = subprocess.Popen(
                [*command, "--lock-fd", str(lock.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )
        self._folder.write("child.json", {"pid": self._child.pid})
        log.info("run %s trains in process %d", self._run.id, self._child.pid)

    def _order(self) -> dict[str, Any]:
        dataset = self._training.dataset(WORKER, self._run.tenant_id, self._run.spec.dataset_id)
        return {
            "run_id": self._run.id,
            "spec": self._run.spec.as_json(),
            "base_model": self._base.name,
            "base_path": str(self._base.path),
            "base_digest": self._base.digest,
            "dataset_folder": str(dataset.folder),
            "dataset_sha256": dataset.sha256,
            "threads": self._context.services.settings.torch_threads,
        }

    def _attend(self) -> None:
        """Show the child's progress until it has ended; pass on the order to stop.

        Raises:
            JobTaken: The job is another worker's now; the child is left alone.
        """
        while self._lives():
            if self._context.is_taken:
                raise JobTaken
            if self._context.should_leave:
                self._tell_to_stop()
                time.sleep(POLL_S)
            else:
                self._show()
                self._context.wait(POLL_S)
        if self._child is not None:
            self._child.wait()

    def _lives(self) -> bool:
        if self._child is not None:
            self._child.poll()  # so that a dead child does not stay a zombie
        lock = self._folder.lock()
        if lock is not None:
            lock.close()
        return lock is None

    def _tell_to_stop(self) -> None:
        now = time.monotonic()
        if self._told_at is None:
            if self._signal(signal.SIGTERM):
                self._told_at = now
        elif now - self._told_at > GRACE_S:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> bool:
        """Signal the child's group, if it is known; only while it holds the run's lock."""
        note = self._folder.read("child.json")
        if note is None:
            return False  # its first lines have not run yet
        try:
            if str(self._folder.path) in psutil.Process(note["pid"]).cmdline():
                os.killpg(note["pid"], number)
        except (psutil.Error, ProcessLookupError):
            return False
        return True

    def _show(self) -> None:
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

    def _last_exit(self) -> str:
        code = self._child.returncode if self._child is not None else None
        return f" (signal {-code})" if code is not None and code < 0 else ""

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
        self._folder.remove("result.json")
        if result["outcome"] == "failed":
            raise TrainingFailed(str(result["error"]))
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
