"""`param cluster` tells before anything is changed; its exit status is a script's answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from console.cli.app import app
from services.clusters.connection import Cluster
from tests.fakes.kubernetes import SimulatedApiServer
from tests.fakes.kubernetes.fixtures import cluster, simulated
from tests.fakes.kubernetes.samples import V2, put_service

__all__ = ["cluster", "simulated"]

PROBE = ("cluster", "probe", "kserve-standard", "--namespace", "prod", "--name", "support")


@pytest.fixture
def run(simulated: SimulatedApiServer, tmp_path: Path) -> Any:
    variables = {
        "PARAM_HOME": str(tmp_path / "home"),
        "PARAM_KUBECONFIG": str(simulated.kubeconfig(tmp_path)),
    }

    def call(*arguments: str, **more: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={**variables, **more})

    return call


def test_a_target_that_would_work_is_a_yes(run: Any, cluster: Cluster) -> None:
    put_service(cluster)
    found = run(*PROBE, "--storage-uri", V2)
    assert found.exit_code == 0, found.output
    assert "yes: kserve-standard can split the traffic of prod/support" in found.output


def test_a_target_that_would_do_nothing_is_a_no_with_its_reason(run: Any, cluster: Cluster) -> None:
    put_service(cluster, mode="Knative")
    found = run(*PROBE, "--storage-uri", V2, "--json")
    assert found.exit_code == 1
    assert "use kserve-knative" in json.loads(found.stdout)["refusals"][0]


def test_wrong_use_is_told_apart(run: Any) -> None:
    assert run(*PROBE).exit_code == 2
    assert run("cluster", "show", PARAM_KUBECONFIG="").exit_code == 2
    other = [*PROBE[:2], "istio", *PROBE[3:]]
    assert run(*other, "--storage-uri", V2).exit_code == 2


def test_the_survey_names_what_is_missing(run: Any, simulated: SimulatedApiServer) -> None:
    simulated.cluster.forbidden.add(("patch", "inferenceservices"))
    found = json.loads(run("cluster", "show", "--namespace", "prod", "--json").stdout)
    assert found["version"].startswith("v1.")
    kinds = {one["kind"].split(".")[0]: one for one in found["kinds"]}
    assert kinds["inferenceservices"]["lacking"] == ["patch"]
    assert kinds["inferenceservices"]["is_installed"] is True
    assert kinds["llminferenceservices"]["is_installed"] is False
    assert kinds["jobs"] == {
        "kind": "jobs.batch/v1",
        "purpose": "runs without Kubeflow Trainer",
        "is_installed": True,
        "lacking": [],
    }
    assert "rollouts by llmd" in run("cluster", "show").stdout
