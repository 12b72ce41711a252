"""The mirror against a real MLflow on SQLite."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.db import Database
from services.errors import Unavailable
from services.registry.mirror import refuse_unreachable
from services.registry.models import Admission
from services.registry.service import Registry
from services.tenants.models import Actor
from tests.conftest import free_port
from tests.services.registry.adapters import BASE_DIGEST, DATASET_SHA256, write_adapter

if TYPE_CHECKING:
    from mlflow import MlflowClient

PASSED = Admission.by_gate(passed=True, shortfalls=(), reason="")
CLI = Actor.system("cli")

# MLflow's own tables use what SQLAlchemy 2.1 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.slow,  # importing MLflow and making its tables
]


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def sqlite(tmp_path: Path, _sqlite_template: Path) -> Database:
    (tmp_path / "param.db").write_bytes(_sqlite_template.read_bytes())
    return Database(f"sqlite:///{tmp_path / 'param.db'}")


@pytest.fixture
def client(mlflow_uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)


def register(registry: Registry, folder: Path, run_id: str, **changes: object) -> str:
    facts = {
        "alias": "legal", "folder": folder, "base_model": "smollm2", "base_digest": BASE_DIGEST,
        "run_id": run_id, "dataset_sha256": DATASET_SHA256, "metrics": {"loss": 0.25},
        "parameters": {"beta": "0.1"},
    } | changes  # fmt: skip
    tenant = str(facts.pop("tenant_id"))
    return registry.register(CLI, tenant, **facts).name  # type: ignore[arg-type]


def test_an_adapter_is_a_model_version_with_every_full_digest(
    sqlite: Database, tmp_path: Path, mlflow_uri: str, client: MlflowClient
) -> None:
    registry = Registry(sqlite, tmp_path / "adapters", mlflow_uri)
    told = {"param.spec_sha256": "5" * 64}
    run = client.create_run(client.create_experiment("runs"), tags=told)
    name = register(
        registry, write_adapter(tmp_path / "a"), "r1", tenant_id="t1", mlflow_run_id=run.info.run_id
    )
    adapter = registry.get(CLI, "t1", name)
    (version,) = client.search_model_versions("name = 't1.legal'")
    expected = {
        "param.adapter_sha256": adapter.digest,
        "param.config_sha256": adapter.config_sha256,
        "param.dataset_sha256": DATASET_SHA256,
        "param.base_sha256": BASE_DIGEST,
        "param.run_id": "r1",
        **told,
    }
    assert expected.items() <= version.tags.items()
    assert all(len(value) == 64 for key, value in expected.items() if key.endswith("sha256"))
    assert adapter.mlflow_model_uri == version.tags["param.model_uri"]
    model = client.get_logged_model(adapter.mlflow_model_uri.removeprefix("models:/"))
    assert (model.name, model.source_run_id, model.params) == (
        name,
        run.info.run_id,
        {"beta": "0.1"},
    )
    assert [(metric.key, metric.value) for metric in model.metrics] == [("loss", 0.25)]


def test_no_global_setting_of_mlflow_is_touched(
    sqlite: Database, tmp_path: Path, mlflow_uri: str
) -> None:
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()
    registry = Registry(sqlite, tmp_path / "adapters", mlflow_uri)
    register(registry, write_adapter(tmp_path / "a"), "r1", tenant_id="t2")
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()) == before


def test_the_champion_is_mlflows_alias(
    sqlite: Database, tmp_path: Path, mlflow_uri: str, client: MlflowClient
) -> None:
    registry = Registry(sqlite, tmp_path / "adapters", mlflow_uri)
    register(registry, write_adapter(tmp_path / "a"), "r1", tenant_id="t3")
    name = register(registry, write_adapter(tmp_path / "b", seed=1), "r2", tenant_id="t3")
    registry.set_champion(CLI, "t3", name, PASSED)
    chosen = client.get_model_version_by_alias("t3.legal", "champion")
    assert chosen.tags["param.adapter"] == name


def test_what_mlflow_missed_is_caught_up_once(
    sqlite: Database, tmp_path: Path, mlflow_uri: str, client: MlflowClient
) -> None:
    away = Registry(sqlite, tmp_path / "adapters", f"http://127.0.0.1:{free_port()}")
    name = register(away, write_adapter(tmp_path / "a"), "r1", tenant_id="t4")
    away.set_champion(CLI, "t4", name, PASSED)
    assert away.get(CLI, "t4", name).mlflow_model_uri is None
    with pytest.raises(Unavailable, match="MLflow: expected a server"):
        away.sync_mlflow()

    back = Registry(sqlite, tmp_path / "adapters", mlflow_uri)
    assert back.sync_mlflow() == 1
    assert back.sync_mlflow() == 0
    assert back.get(CLI, "t4", name).mlflow_model_uri is not None
    assert len(client.search_model_versions("name = 't4.legal'")) == 1
    assert client.get_model_version_by_alias("t4.legal", "champion").tags["param.adapter"] == name


def test_a_mirror_that_died_before_its_row_makes_no_second_version(
    sqlite: Database, tmp_path: Path, mlflow_uri: str, client: MlflowClient
) -> None:
    away = Registry(sqlite, tmp_path / "adapters", f"http://127.0.0.1:{free_port()}")
    name = register(away, write_adapter(tmp_path / "a"), "r1", tenant_id="t5")
    registry = Registry(sqlite, tmp_path / "adapters", mlflow_uri)
    uri, version = registry.mlflow.add(registry.get(CLI, "t5", name))
    assert registry.sync_mlflow() == 1
    assert registry.get(CLI, "t5", name).mlflow_model_uri == uri
    (found,) = client.search_model_versions("name = 't5.legal'")
    assert str(found.version) == version


def test_metrics_of_an_evaluation_stand_at_the_model(
    sqlite: Database, tmp_path: Path, mlflow_uri: str, client: MlflowClient
) -> None:
    registry = Registry(sqlite, tmp_path / "adapters", mlflow_uri)
    name = register(registry, write_adapter(tmp_path / "a"), "r1", tenant_id="t6")
    adapter = registry.get(CLI, "t6", name)
    told = {"beta": "0.1", "tasks": "True", "long": "x" * 501}
    run = registry.mlflow.log_run(
        adapter, "evaluation-1", {"accuracy": 0.75}, {"verdict": "better"}, told
    )
    assert registry.mlflow.log_run(adapter, "evaluation-1", {"accuracy": 0.75}, {}, {}) == run
    assert client.get_run(run).data.params == told | {"long": "x" * 500}
    assert adapter.mlflow_model_uri is not None
    model = client.get_logged_model(adapter.mlflow_model_uri.removeprefix("models:/"))
    assert [(metric.key, metric.value) for metric in model.metrics] == [("accuracy", 0.75)]


def test_a_store_that_cannot_be_opened_is_unavailable_not_a_crash(
    sqlite: Database, tmp_path: Path
) -> None:
    registry = Registry(sqlite, tmp_path / "adapters", "sqlite:////proc/nowhere/mlflow.db")
    name = register(registry, write_adapter(tmp_path / "a"), "r1", tenant_id="t7")
    assert registry.get(CLI, "t7", name).mlflow_model_uri is None


def test_threads_that_meet_an_empty_mlflow_together_make_its_tables_once(
    sqlite: Database, tmp_path: Path
) -> None:
    registry = Registry(sqlite, tmp_path / "adapters", f"sqlite:///{tmp_path}/fresh.db")
    folders = [write_adapter(tmp_path / f"a{seed}", seed=seed) for seed in range(3)]
    threads = [
        threading.Thread(
            target=register, args=(registry, folder, folder.name), kwargs={"tenant_id": "t8"}
        )
        for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(adapter.mlflow_model_uri for adapter in registry.list(CLI, "t8"))


def test_only_servers_are_asked_before_use() -> None:
    refuse_unreachable("sqlite:////anywhere/mlflow.db")
    with pytest.raises(Unavailable, match=r"expected a server at 127\.0\.0\.1"):
        refuse_unreachable(f"http://127.0.0.1:{free_port()}/mlflow")
