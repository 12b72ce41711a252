"""`param custody show`: the tree, its JSON, and the exit status of a broken chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import bootstrap
from services.bootstrap import Services
from services.settings import load
from tests.console.test_cli import Param, home, legal, migrated, param
from tests.pages import seeds
from tests.services.registry.adapters import BASE_DIGEST, write_adapter

__all__ = ["home", "legal", "migrated", "param"]  # fixtures


@pytest.fixture
def services(home: Path, legal: str) -> Services:
    return bootstrap.build(
        load({"PARAM_HOME": str(home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    )


def registered(services: Services, tenant_id: str, folder: Path) -> str:
    """An adapter whose run has not ended: one link of its chain is missing."""
    return services.registry.register(
        seeds.SYSTEM, tenant_id, alias="legal", folder=write_adapter(folder), base_model="tiny",
        base_digest=BASE_DIGEST, run_id="run-1", metrics={},
        dataset_sha256=seeds.dataset(services, tenant_id).sha256,
    ).name  # fmt: skip


def test_a_broken_chain_is_drawn_and_its_status_is_1(
    param: Param, services: Services, legal: str, tmp_path: Path
) -> None:
    name = registered(services, legal, tmp_path / "made")
    shown = param("custody", "show", name, status=1).out
    assert f"✓ adapter {name}" in shown
    assert "✗ run run-1" in shown
    assert "run run-1: no statement of this is there" in shown
    told = param("custody", "show", name, "--tenant", legal, "--json", status=1).json
    assert (told["ok"], told["broken"]) == (False, 1)
    [registration] = told["chain"]["parts"]
    assert (registration["kind"], registration["problem"]) == ("registration", "")


def test_a_whole_chain_has_status_0(
    param: Param, services: Services, legal: str, tmp_path: Path
) -> None:
    name = registered(services, legal, tmp_path / "made")
    with services.db.write() as session:
        adapter = services.registry.get(seeds.SYSTEM, legal, name)
        services.chains._custody.state_in_session(
            session, seeds.SYSTEM, legal, kind="run", name=name, digest=adapter.digest,
            facts={"run": "run-1"}, materials={"data set manifest": adapter.dataset_sha256},
            at=adapter.created_at,
        )  # fmt: skip
    assert param("custody", "show", name, "--json").json["ok"] is True
    assert "✗" not in param("custody", "show", name).out


def test_a_receipt_of_an_adapter_that_is_not_here_and_nothing_at_all(
    param: Param, services: Services, legal: str
) -> None:
    assert "found none of this id" in param("custody", "show", "nothing-at-all", status=2).err
    receipt_id = seeds.receipt(services, legal)
    assert "has no adapter" in param("custody", "show", receipt_id, status=2).err
