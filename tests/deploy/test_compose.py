"""The files for running it elsewhere name only what is there: commands, settings, metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from console.processes.programs import NAMES
from services.gateway.breaker import Breaker
from services.gateway.metrics import Metrics
from services.gateway.outcome import Chosen, Model, Outcome, Status
from services.metering.models import Price
from services.rollouts.models import Arm
from services.settings import Settings
from services.tenants.models import Actor
from tests.support import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, one in SERVICES.items() if one.get("image") == "param-console"]
WORDS = {
    "sum", "rate", "by", "le", "max", "histogram_quantile", "humanizePercentage",
}  # fmt: skip


def names_in(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)", " ", expression)
    return {word for word in re.findall(r"[a-z_][a-z0-9_]*", bare) if word not in WORDS}


def labels_in(expression: str) -> set[str]:
    """The labels that an expression relies on."""
    matched = re.findall(r'([a-z_]+)=~?"', expression)
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    return {*matched, *(one.strip() for group in grouped for one in group.split(","))}


def expressions() -> Iterator[str]:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "gateway.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


@pytest.fixture(scope="module")
def told() -> tuple[set[str], set[str]]:
    """Names and labels of all that a gateway tells Prometheus."""
    metrics = Metrics()
    metrics.watch_breaker(Breaker("engine", failures=1, open_s=1))
    metrics.failed("engine", "connect")
    metrics.fell_back("legal")
    metrics.committed(1, 0.1)
    outcome = Outcome(
        request_id="1", tenant_id="legal", actor=Actor.system("test"),
        chosen=Chosen("legal", Model("base", None, "base", ""), Arm.STABLE), stream=True,
        received_at=datetime.now(UTC), completed_at=datetime.now(UTC), request_digest=b"",
        response_digest=b"", status=Status.OK, finish_reason="stop", prompt_tokens=1,
        completion_tokens=3, latency_ms=10, ttft_ms=5, policy_version=0, policy_digest="",
        findings={"pii.email.mask": 1}, price=("1", Price(1_000_000, 1_000_000)),
    )  # fmt: skip
    metrics.answered(outcome)
    # Gauges that the running gateway adds (services/gateway/running.py).
    source = (ROOT / "services" / "gateway" / "running.py").read_text(encoding="utf-8")
    names = set(re.findall(r'"(param_gateway_[a-z_]+)"', source))
    text = metrics.text().decode()
    names |= set(re.findall(r"^([a-z_]+)[{ ]", text, re.MULTILINE))
    names |= set(re.findall(r"^# TYPE ([a-z_]+) ", text, re.MULTILINE))
    labels = set(re.findall(r'([a-z_]+)="', text))
    return names | {"up"}, labels | {"job", "instance", "code"}


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_rules_and_panels_read_metrics_that_the_gateway_has(
    told: tuple[set[str], set[str]], expression: str
) -> None:
    names, labels = told
    read = {name for name in names_in(expression) if not name.isdigit()}
    assert read
    assert read <= names
    assert labels_in(expression) <= labels


def test_a_metric_that_is_not_there_would_be_found(told: tuple[set[str], set[str]]) -> None:
    assert names_in('sum by (x) (rate(param_gateway_nothing_total{a="b"}[1m])) > 5') == {
        "param_gateway_nothing_total"
    }
    assert "param_gateway_nothing_total" not in told[0]


def test_every_program_has_a_container_that_starts_it() -> None:
    started = {
        one["command"][1] for one in SERVICES.values() if one.get("command", [""])[0] == "serve"
    }
    assert started == set(NAMES)


@pytest.mark.parametrize("name", OURS)
def test_containers_set_only_settings_that_exist(name: str) -> None:
    known = {f"PARAM_{one.name.upper()}" for one in fields(Settings)} | {"MLFLOW_TRACKING_URI"}
    assert set(SERVICES[name].get("environment", {})) <= known


def test_what_containers_wait_for_and_keep_is_declared() -> None:
    for one in SERVICES.values():
        assert set(one.get("depends_on", {})) <= set(SERVICES)
        for volume in one.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), volume


def test_nothing_is_published_beyond_this_machine_and_no_secret_is_written_down() -> None:
    for one in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", []))
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(PASSWORD|KEY|TOKEN|SECRET)\w*: +[^$\s]", text)
    assert "/deploy/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8")


def test_the_image_copies_folders_that_are_there() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_prometheus_reads_the_rules_and_grafana_the_dashboard() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert config["rule_files"] == ["/etc/prometheus/alerts.yml"]
    assert "./prometheus:/etc/prometheus:ro" in SERVICES["prometheus"]["volumes"]
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.split(":")[0] in SERVICES
    folder = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "gateway.json").read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {
        source["datasources"][0]["uid"]
    }
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
