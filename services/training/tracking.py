"""Tells MLflow about a run, from a thread of the worker: training never waits for it.

The metric lines in the run's folder are the truth; MLflow follows them in batches. Where it
cannot be reached the run goes on, the log says so once, and the next batch catches up. Telling
it the same line twice does no harm: MLflow keeps one of equal (name, step, time, value).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.errors import ConsoleError
from services.registry.mirror import (
    SPEC_TAG,
    decline_telemetry,
    experiment_name,
    refuse_unreachable,
)
from services.training.folder import RunFolder, points_of
from services.training.models import Point, Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

EVERY_S = 5.0
RETRY_S = 30.0
LAST_WORD_S = 60.0
"""How long the end of a run waits for MLflow at most, seconds."""
DIGEST_CHARS = 36
"""The longest dataset digest that MLflow stores; the full one goes into a tag."""
BATCH = 100
"""Points in one call: MLflow takes at most 1,000 metrics, and a point holds at most ten."""

_ENDED = {"succeeded": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class Tracker:
    """One run's way into MLflow.

    Args:
        uri: MLflow's store or server.
        artifacts_dir: Where experiments made here keep artifacts, if MLflow has no server.
        run: What is trained.
        folder: Its folder.

    Attributes:
        run_id: The run's id in MLflow, None until it was reached.
        trouble: What kept MLflow from being told, one sentence; None while all is well.
    """

    def __init__(self, uri: str, artifacts_dir: Path, run: Run, folder: RunFolder) -> None:
        self._uri = uri
        self._artifacts_dir = artifacts_dir
        self._run = run
        self._folder = folder
        self._client: MlflowClient | None = None
        self._ended = threading.Event()
        self._outcome: str | None = None
        noted = folder.read("mlflow.json") or {}
        self.run_id: str | None = noted.get("run_id")
        self._offset: int = noted.get("offset", 0)
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._follow, name=f"mlflow-{run.id}", daemon=True)
        self._thread.start()

    def end(self, outcome: str | None) -> None:
        """Tell the rest and stop following.

        Args:
            outcome: `succeeded`, `stopped` or `failed`; None if the run goes on elsewhere.
        """
        self._outcome = outcome
        self._ended.set()
        self._thread.join(LAST_WORD_S)
        if self._thread.is_alive():
            self._note_trouble(f"no answer within {LAST_WORD_S:.0f} s")

    def _follow(self) -> None:
        while not self._ended.is_set():
            self._ended.wait(EVERY_S if self._try(self._tell) else RETRY_S)
        if self._try(self._tell) and self._outcome is not None:
            self._try(self._conclude)

    def _try(self, tell: Any) -> bool:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            refuse_unreachable(self._uri)
            decline_telemetry()
            from mlflow.exceptions import MlflowException
        except (ConsoleError, ImportError) as error:
            self._note_trouble(str(error))
            return False
        try:
            tell()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._note_trouble(f"{type(error).__name__}: {str(error)[:200]}")
            return False
        self.trouble = None
        return True

    def _note_trouble(self, trouble: str) -> None:
        if self.trouble is None:
            with self._folder.log.open("a", encoding="utf-8") as log:
                log.write(f"MLflow is not told for now, training goes on: {trouble}\n")
        self.trouble = trouble

    def _tell(self) -> None:
        client = self._reached()
        for points, offset in self._new_points():
            client.log_batch(self._known_run(client), metrics=_metrics(points))
            self._note(offset)

    def _conclude(self) -> None:
        client = self._reached()
        run_id = self._known_run(client)
        if self._folder.log.exists():
            client.log_artifact(run_id, str(self._folder.log))
        client.log_dict(run_id, self._run.spec.as_json(), "spec.json")
        client.set_terminated(run_id, _ENDED[self._outcome or "failed"])

    def _reached(self) -> MlflowClient:
        if self._client is None:
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
            run_id = self._known_run(self._client)
            self._client.update_run(run_id, "RUNNING")
        return self._client

    def _known_run(self, client: MlflowClient) -> str:
        """The run in MLflow: the noted one, one that a killed worker made, or a new one."""
        if self.run_id is not None:
            return self.run_id
        experiment = _experiment(client, self._run.tenant_id, self._uri, self._artifacts_dir)
        query = f"tags.`param.run_id` = '{self._run.id}'"
        found = client.search_runs([experiment], query, max_results=1)
        run = found[0] if found else client.create_run(
            experiment, run_name=f"{self._run.spec.alias} {self._run.id[-6:]}", tags=_tags(self._run)
        )  # fmt: skip
        run_id = str(run.info.run_id)
        _describe(client, run_id, self._run)
        self.run_id = run_id
        self._note(self._offset)
        return run_id

    def _new_points(self) -> list[tuple[list[Point], int]]:
        """Points that MLflow does not know, in batches, each with the offset behind it."""
        try:
            with self._folder.metrics_file.open("rb") as file:
                size = file.seek(0, 2)
                # A resumed attempt rewrites a shorter file: tell all of it again.
                self._offset = 0 if size < self._offset else self._offset
                file.seek(self._offset)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        whole = [line for line in lines if line.endswith(b"\n")]
        batches, offset = [], self._offset
        for start in range(0, len(whole), BATCH):
            batch = whole[start : start + BATCH]
            offset += sum(map(len, batch))
            batches.append((points_of(batch), offset))
        return batches

    def _note(self, offset: int) -> None:
        self._offset = offset
        self._folder.write("mlflow.json", {"run_id": self.run_id, "offset": offset})


def _experiment(client: MlflowClient, tenant_id: str, uri: str, artifacts_dir: Path) -> str:
    from mlflow.exceptions import MlflowException

    name = experiment_name(tenant_id)
    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    is_remote = uri.startswith(("http://", "https://"))
    location = None if is_remote else (artifacts_dir / name).resolve().as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        if found := client.get_experiment_by_name(name):  # made meanwhile by another process
            return str(found.experiment_id)
        raise


def _describe(client: MlflowClient, run_id: str, run: Run) -> None:
    """What the run is told and learns from."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    params = [Param(name, str(value)) for name, value in run.spec.as_json().items()]
    client.log_batch(run_id, params=params)
    dataset = Dataset(
        name=run.spec.dataset_id,
        digest=run.dataset_sha256[:32][:DIGEST_CHARS],
        source_type="local",
        source='{"uri": "param-dataset:' + run.spec.dataset_id + '"}',
    )
    context = [
        InputTag("mlflow.data.context", "training"),
        InputTag("param.dataset_sha256", run.dataset_sha256),
    ]
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags=context)])


def _tags(run: Run) -> Mapping[str, str]:
    return {
        "param.run_id": run.id,
        "param.tenant": run.tenant_id,
        "param.alias": run.spec.alias,
        "param.dataset_sha256": run.dataset_sha256,
        "param.base_sha256": run.base_digest,
        SPEC_TAG: run.spec.sha256,
        "mlflow.user": run.created_by,
        "mlflow.source.name": "param train dpo",
    }


def _metrics(points: list[Point]) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(name, value, int(point.at * 1000), point.step)
        for point in points
        for name, value in point.curves.items()
    ]
