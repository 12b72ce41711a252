"""The tracker against a real MLflow on SQLite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.db import Database
from services.training.folder import RunFolder
from services.training.models import Run
from services.training.tracking import Tracker
from tests.services.training.test_folder import point
from tests.services.training.world import CLI, NOBODY, TENANT, World, build_world

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = [
    pytest.mark.slow,  # importing MLflow and making its tables
    # MLflow's own tables use what SQLAlchemy 2.1 calls deprecated.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def client(mlflow_uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)


@pytest.fixture
def world(tmp_path: Path, _sqlite_template: Path) -> Iterator[World]:
    (tmp_path / "param.db").write_bytes(_sqlite_template.read_bytes())
    database = Database(f"sqlite:///{tmp_path / 'param.db'}")
    yield build_world(database, tmp_path)
    database.close()


@pytest.fixture
def run(world: World) -> Run:
    return world.training.launch_dpo(CLI, TENANT, world.spec())


@pytest.fixture
def folder(world: World, run: Run) -> RunFolder:
    found = world.training.folder(run)
    found.path.mkdir(parents=True)
    return found


def write_steps(folder: RunFolder, first: int, last: int) -> None:
    with folder.metrics_file.open("a") as file:
        for step in range(first, last + 1):
            file.write(json.dumps(asdict(point(step, loss=1 / step))) + "\n")


def test_a_run_is_told_whole_and_once_though_its_tracker_was_killed_in_between(
    run: Run, folder: RunFolder, mlflow_uri: str, client: MlflowClient, tmp_path: Path
) -> None:
    folder.log.write_text("trained\n")
    write_steps(folder, 1, 150)
    first = Tracker(mlflow_uri, tmp_path / "artifacts", run, folder)
    first.end(None)
    assert first.trouble is None
    # A killed worker may have told MLflow without noting it: the next one tells it again.
    folder.write("mlflow.json", {"run_id": first.run_id, "offset": 0})
    write_steps(folder, 151, 160)
    second = Tracker(mlflow_uri, tmp_path / "artifacts", run, folder)
    second.end("succeeded")
    assert second.run_id == first.run_id
    assert second.run_id is not None
    history = client.get_metric_history(second.run_id, "loss")
    assert [(found.step, found.value) for found in history] == [
        (step, 1 / step) for step in range(1, 161)
    ]
    told = client.get_run(second.run_id)
    assert told.info.status == "FINISHED"
    assert told.data.params["beta"] == "0.1"
    assert told.data.tags["param.dataset_sha256"] == run.dataset_sha256
    (dataset,) = told.inputs.dataset_inputs
    assert dataset.dataset.digest == run.dataset_sha256[:32]
    assert {tag.key: tag.value for tag in dataset.tags}["param.dataset_sha256"] == (
        run.dataset_sha256
    )
    assert {file.path for file in client.list_artifacts(second.run_id)} == {
        "train.log",
        "spec.json",
    }


def test_a_run_that_mlflow_knows_already_is_found_again_though_nothing_was_noted(
    run: Run, folder: RunFolder, mlflow_uri: str, tmp_path: Path
) -> None:
    write_steps(folder, 1, 2)
    first = Tracker(mlflow_uri, tmp_path / "artifacts", run, folder)
    first.end(None)
    folder.remove("mlflow.json")
    second = Tracker(mlflow_uri, tmp_path / "artifacts", run, folder)
    second.end("stopped")
    assert second.run_id == first.run_id is not None


def test_an_mlflow_that_is_away_is_named_in_the_log_once_and_keeps_nobody_waiting(
    run: Run, folder: RunFolder, tmp_path: Path
) -> None:
    write_steps(folder, 1, 3)
    tracker = Tracker(NOBODY, tmp_path / "artifacts", run, folder)
    tracker.end("succeeded")
    assert tracker.run_id is None
    assert tracker.trouble == "MLflow: expected a server at 127.0.0.1:9, found none"
    assert folder.log.read_text().count("training goes on") == 1
