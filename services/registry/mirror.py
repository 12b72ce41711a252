"""The registry's mirror in MLflow, where other tools look for models.

The rows of the registry are the truth and the mirror follows them: where MLflow cannot be
reached, nothing here fails, and `Registry.sync_mlflow` catches up later.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from services.errors import Unavailable
from services.registry.models import Adapter, Champion

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
_REACH_TIMEOUT_S = 2.0
_MAX_PARAMETER_CHARS = 500
SPEC_TAG = "param.spec_sha256"


class MlflowMirror:
    """MLflow, through a client of its own: no global setting of the library is touched.

    Args:
        tracking_uri: MLflow's store or server; also its model registry.
        artifacts_dir: Where experiments made here would keep artifacts, if MLflow has no server.
    """

    def __init__(self, tracking_uri: str, artifacts_dir: Path) -> None:
        self._uri = tracking_uri
        self._artifacts_dir = artifacts_dir
        self._lock = threading.Lock()
        self._made: MlflowClient | None = None

    def add(self, adapter: Adapter, files: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Make an adapter known as a LoggedModel and as a version of `{tenant}.{alias}`.

        Doing it again finds what was made before, also where the caller died in between.

        Args:
            files: Digest of each file of the dataset that it learned from, by the file's name.

        Returns:
            The LoggedModel's URI and the version.

        Raises:
            Unavailable: MLflow does not answer or refuses.
        """
        with self._reached() as client:
            name = registered_name(adapter.tenant_id, adapter.alias)
            if found := _version_with(client, name, adapter.digest):
                return str(found.tags["param.model_uri"]), str(found.version)
            run_id = _existing_run(client, adapter.mlflow_run_id)
            model = client.create_logged_model(
                self._experiment(client, adapter.tenant_id, run_id),
                name=adapter.name,
                source_run_id=run_id,
                tags=_tags(adapter, files),
                params={key: v[:_MAX_PARAMETER_CHARS] for key, v in adapter.parameters.items()},
                model_type="lora-adapter",
            )
            client.finalize_logged_model(model.model_id, "READY")
            uri = f"models:/{model.model_id}"
            tags = _tags(adapter, files) | _settings_of(client, run_id)
            version = self._version(client, name, tags, adapter.path, uri, run_id)
            for key, value in adapter.metrics.items() if run_id else ():
                client.log_metric(run_id, key, value, model_id=model.model_id)
            return uri, version

    def set_champion(self, champion: Champion, version: str) -> None:
        """Let MLflow's alias `champion` name the same adapter.

        Raises:
            Unavailable: MLflow does not answer or refuses.
        """
        name = registered_name(champion.tenant_id, champion.alias)
        with self._reached() as client:
            aliases = client.get_registered_model(name).aliases
            if str(aliases.get(CHAMPION)) != version:
                client.set_registered_model_alias(name, CHAMPION, version)

    def log_run(
        self,
        adapter: Adapter,
        run_name: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        parameters: Mapping[str, str],
    ) -> str:
        """Log metrics of an adapter, such as an evaluation's, as an MLflow run of its own.

        Args:
            run_name: Unique; a run of this name is not made twice.
            parameters: What was measured and how; longer values are cut.

        Returns:
            The run's id in MLflow.

        Raises:
            Unavailable: MLflow does not answer or refuses.
        """
        with self._reached() as client:
            experiment = self._experiment(client, adapter.tenant_id, None)
            query = f"attributes.run_name = '{run_name}' and attributes.status = 'FINISHED'"
            if found := client.search_runs([experiment], query, max_results=1):
                return str(found[0].info.run_id)
            run = client.create_run(experiment, run_name=run_name, tags=dict(tags))
            run_id = str(run.info.run_id)
            uri = adapter.mlflow_model_uri
            model_id = uri.removeprefix("models:/") if uri else None
            for name, told in parameters.items():
                client.log_param(run_id, name, told[:_MAX_PARAMETER_CHARS])
            for key, value in metrics.items():
                client.log_metric(run_id, key, value, model_id=model_id)
            client.set_terminated(run_id)
            return run_id

    def _version(
        self,
        client: MlflowClient,
        name: str,
        tags: Mapping[str, str],
        path: Path,
        uri: str,
        run_id: str | None,
    ) -> str:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # Without a server, MLflow looks `models:/` up in whatever store is set globally, not in
        # this client's: name the folder itself there.
        is_remote = urlsplit(self._uri).scheme in {"http", "https"}
        version = client.create_model_version(
            name,
            source=uri if is_remote else path.resolve().as_uri(),
            run_id=run_id,
            tags={**tags, "param.model_uri": uri},
        )
        return str(version.version)

    def _experiment(self, client: MlflowClient, tenant_id: str, run_id: str | None) -> str:
        """The experiment of the training run, or the tenant's own."""
        from mlflow.exceptions import MlflowException

        if run_id is not None:
            return str(client.get_run(run_id).info.experiment_id)
        name = experiment_name(tenant_id)
        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)
        is_remote = urlsplit(self._uri).scheme in {"http", "https"}
        location = None if is_remote else (self._artifacts_dir / name).resolve().as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            if found := client.get_experiment_by_name(name):  # made meanwhile by another process
                return str(found.experiment_id)
            raise

    @contextmanager
    def _reached(self) -> Iterator[MlflowClient]:
        refuse_unreachable(self._uri)
        # Imported here: it takes seconds, and pages import this module.
        decline_telemetry()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            with self._lock:  # its first contact makes the tables: one thread at a time
                if self._made is None:
                    self._made = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
                yield self._made
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise Unavailable(
                f"MLflow: expected an answer, found {type(error).__name__}: {str(error)[:200]}"
            ) from error


def experiment_name(tenant_id: str) -> str:
    """The MLflow experiment of a tenant."""
    return f"param-{tenant_id}"


def registered_name(tenant_id: str, alias: str) -> str:
    """The registered model in MLflow of which an alias's adapters are versions."""
    return f"{tenant_id}.{alias}"


def refuse_unreachable(uri: str) -> None:
    """Ask a server's port first: MLflow itself would try again for minutes.

    Raises:
        Unavailable: Nobody listens there.
    """
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"}:
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_REACH_TIMEOUT_S).close()
    except OSError as error:
        raise Unavailable(
            f"MLflow: expected a server at {parts.hostname}:{port}, found none"
        ) from error


def decline_telemetry() -> None:
    """MLflow reports its use to its makers unless told otherwise before its import."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # noqa: TID251  # set, never read


def _tags(adapter: Adapter, files: Mapping[str, str] | None) -> dict[str, str]:
    of_files = {f"param.file_sha256.{name}": digest for name, digest in (files or {}).items()}
    return of_files | {
        "param.tenant": adapter.tenant_id,
        "param.adapter": adapter.name,
        "param.run_id": adapter.run_id,
        "param.adapter_sha256": adapter.digest,
        "param.config_sha256": adapter.config_sha256,
        "param.dataset_sha256": adapter.dataset_sha256,
        "param.base_model": adapter.base_model,
        "param.base_sha256": adapter.base_digest,
    }


def _settings_of(client: MlflowClient, run_id: str | None) -> dict[str, str]:
    """The digest of what the training run was told, as the run has it."""
    found = client.get_run(run_id).data.tags.get(SPEC_TAG) if run_id else None
    return {SPEC_TAG: found} if found else {}


def _version_with(client: MlflowClient, name: str, digest: str) -> Any:
    query = f"name = '{name}' and tags.`param.adapter_sha256` = '{digest}'"
    found = client.search_model_versions(query, max_results=1)
    return found[0] if found else None


def _existing_run(client: MlflowClient, run_id: str | None) -> str | None:
    """The run, unless MLflow does not know it (any more)."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        return str(client.get_run(run_id).info.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
