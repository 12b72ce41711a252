"""`param rollout` on a real database: plans, wrong plans, drills, signed history, simulation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import delete
from typer.testing import CliRunner, Result

from console.cli.app import app
from services import bootstrap
from services.attestation.statements import open_statement
from services.bootstrap import Services
from services.db.engine import MIGRATIONS
from services.db.revise import declared_tables
from services.rollouts.driving.store import StatementRow
from services.rollouts.policy import DEFAULT_SOURCE
from services.settings import load
from services.tenants.models import Actor, Limits
from tests.pages import seeds

Run = Callable[..., Result]


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setenv("PARAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (tmp_path / "home").mkdir()
    built = bootstrap.build(load())
    declared_tables().create_all(built.db.engine)
    _say_it_is_new(built)
    built.tenants.create(Actor.system("test"), "Acme", limits=Limits(5, 100, 10_000))
    yield built
    built.close()


def _say_it_is_new(built: Services) -> None:
    """Commands bring a database to the newest version; this one is there already."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with built.db.engine.begin() as connection:
        scripts = ScriptDirectory.from_config(config)
        MigrationContext.configure(connection).stamp(scripts, "head")


@pytest.fixture
def run(services: Services) -> Run:
    def run_(*words: object) -> Result:
        return CliRunner().invoke(app, ["rollout", *map(str, words)])

    return run_


def _json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_plan_is_started_paused_and_its_history_is_signed(
    run: Run, services: Services, tmp_path: Path
) -> None:
    name = seeds.adapter(services, "acme").name
    file = tmp_path / "policy.yaml"
    file.write_text(run("policy").stdout)
    assert file.read_text() == DEFAULT_SOURCE
    begun = _json(run("start", name, "--tenant", "acme", "--policy", file, "--json"))
    assert (begun["state"], begun["percent"]) == ("planned", 0)
    assert _json(run("pause", begun["id"], "--reason", "lunch", "--json"))["state"] == "paused"
    assert _json(run("resume", begun["id"], "--json"))["state"] == "planned"
    told = _json(run("history", begun["id"], "--json"))
    opened = [open_statement(one, services.keyring.jwks())[0] for one in told["statements"]]
    assert [one.predicate["state"] for one in opened] == ["planned", "paused", "planned"]
    told_in_words = run("history", begun["id"])
    assert "lunch" in told_in_words.stdout
    assert "The audit log names 3 signed steps" in told_in_words.output
    with services.db.write() as session:
        session.execute(delete(StatementRow).where(StatementRow.seq == 3))
    refused = run("history", begun["id"])
    assert refused.exit_code == 1
    assert "step 3: the log names its statement, and there is none" in refused.output


def test_a_drill_needs_a_share(run: Run, services: Services) -> None:
    name = seeds.adapter(services, "acme").name
    begun = _json(run("start", name, "--tenant", "acme", "--percent", 0, "--json"))
    assert run("drill", begun["id"]).exit_code == 2
    _json(run("step", begun["id"], 20, "--json"))
    assert _json(run("drill", begun["id"], "--json"))["state"] == "drilling"


@pytest.mark.parametrize(
    "words",
    [
        ("--policy", "default", "--percent", "5"),
        ("--backend", "llmd"),
        ("--policy", "default", "--target", "namespace"),
        ("--policy", "default", "--target", "namespace=prod"),
        ("--policy", "default", "--backend", "istio"),
        ("--policy", "default", "--backend", "kserve-standard", "--target", "name=support"),
    ],
)
def test_words_that_contradict_each_other_are_refused(
    run: Run, services: Services, words: tuple[str, ...]
) -> None:
    name = seeds.adapter(services, "acme").name
    assert run("start", name, "--tenant", "acme", *words).exit_code == 2
    assert services.rollouts.list(seeds.SYSTEM, "acme") == []


def test_a_policy_is_tried_before_it_is_used(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "quick.yaml"
    file.write_text(
        "steps: [{percent: 50, hold: 1m, min_requests: 50}]\ninterval: 60s\nmax_hold: 2h\n"
        "metrics: {error_rate: {max_increase: 0.2}}\n"
    )
    rows = _json(run("simulate", "--policy", file, "--runs", 2, "--per-second", 5, "--json"))
    found = {row["name"]: row for row in rows}
    assert found["the same"]["promoted"] == 100
    assert set(found) >= {"better", "2x errors", "30 % slower", "the same, low traffic"}


@pytest.mark.parametrize(
    "words", [("--error-rate", "-1"), ("--error-rate", "0.6"), ("--per-second", "nan")]
)
def test_traffic_that_cannot_be_made_up_is_refused(run: Run, words: tuple[str, ...]) -> None:
    refused = run("simulate", *words)
    assert refused.exit_code == 2
    assert f"Invalid value for '{words[0]}'" in refused.stderr
