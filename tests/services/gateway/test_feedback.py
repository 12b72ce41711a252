"""What comes back about answers: thumbs, alerts that call a rollout back, samples of each request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from services import bootstrap
from services import settings as configuration
from services.db import Database
from services.gateway.app import build_app
from services.rollouts.assign import bucket
from services.rollouts.models import Rollout, RolloutState
from services.rollouts.samples.store import FeedbackRow, SampleRow, arms
from tests.conftest import free_port
from tests.fakes.engine import FakeEngine
from tests.services.gateway.conftest import (
    SYSTEM,
    Edge,
    bearer,
    environment,
    eventually,
    served,
)

SECRET = "secret-of-the-alertmanager"


@pytest.fixture
def alerted(database: Database, engine: FakeEngine, tmp_path: Path) -> Iterator[Edge]:
    """A gateway at which an Alertmanager may call rollouts back."""
    port = free_port()
    url = database.url.render_as_string(hide_password=False)
    variables = environment(tmp_path / "home", engine.url, url, port)
    variables["PARAM_ROLLBACK_HOOK_SECRET"] = SECRET
    services = bootstrap.build(configuration.load(variables, directory=tmp_path))
    app = build_app(services)
    made = Edge(f"http://127.0.0.1:{port}", services, engine, tmp_path / "sources", app)
    with made.http, served(app, port):
        yield made
    services.db.close()


def _rollout(edge: Edge, tenant: str = "legal", percent: int = 50) -> Rollout:
    found = edge.services.rollouts.start(
        SYSTEM, tenant, tenant, edge.adapter(tenant, 1), percent=percent
    )
    key = edge.key(tenant)
    eventually(lambda: edge.get("/v1/whoami", key).json()["aliases"][0]["percent"] == percent)
    return found


def _thumb(edge: Edge, key: str | None, body: Any) -> httpx.Response:
    return edge.http.post(f"{edge.url}/v1/feedback", json=body, headers=bearer(key))


def _alert(edge: Edge, alerts: Any, secret: str | None = SECRET) -> httpx.Response:
    return edge.http.post(
        f"{edge.url}/v1/hooks/alertmanager",
        json={"version": "4", "status": "firing", "alerts": alerts},
        headers=bearer(secret),
    )


def test_each_request_of_a_rollout_is_a_sample_of_its_arm(edge: Edge) -> None:
    key = edge.key("legal")
    rollout = _rollout(edge)
    for number in range(20):
        edge.chat(key, "error" if number == 0 else "hello", headers={"x-param-user": f"u{number}"})
    edge.chat(key, "refuse", headers={"x-param-user": "u1"})
    edge.chat(key, "hello", stream=True, headers={"x-param-user": "u2"})
    with edge.services.db.read() as session:
        rows = session.scalars(select(SampleRow)).all()
        found = arms(session, rollout.id, rollout.started_at)
    assert len(rows) == 22
    assert sum(one.requests for one in found.values()) == 21
    assert sum(one.errors for one in found.values()) == 1
    assert sum(len(one.ttfts_ms) for one in found.values()) == 1
    assert {row.standing for row in rows} == {"ok", "error", "excused"}
    assert all(
        row.place is not None and (row.place < 5_000) == (row.arm == "canary") for row in rows
    )
    route = edge.services.rollouts.routes()["legal", "legal"]
    # Two of twenty users may share a place.
    assert {row.place for row in rows} == {bucket(route, f"u{number}") for number in range(20)}


def test_requests_without_a_rollout_leave_no_sample(edge: Edge) -> None:
    key = edge.key("legal")
    assert edge.chat(key).status_code == 200
    with edge.services.db.read() as session:
        assert session.scalars(select(SampleRow)).all() == []


def test_a_thumb_is_kept_for_the_answer_and_its_arm(edge: Edge) -> None:
    key = edge.key("legal")
    rollout = _rollout(edge)
    request_id = edge.chat(key).headers["x-request-id"]
    for thumb in ("up", "down"):
        answer = _thumb(edge, key, {"request_id": request_id, "thumb": thumb})
        assert answer.json() == {"request_id": request_id, "thumb": thumb}
    with edge.services.db.read() as session:
        assert len(session.scalars(select(FeedbackRow)).all()) == 2
        found = arms(session, rollout.id, rollout.started_at).values()
    assert [sum(one.thumbs for one in found), sum(one.thumbs_down for one in found)] == [1, 1]
    _thumb(edge, key, {"request_id": request_id, "thumb": "none"})
    with edge.services.db.read() as session:
        found = arms(session, rollout.id, rollout.started_at).values()
    assert sum(one.thumbs for one in found) == 0
    eventually(lambda: edge.actions().count("feedback.given") == 3)


def test_nobody_rates_the_answers_of_others(edge: Edge) -> None:
    key, colleague, stranger = edge.key("legal"), edge.key("legal"), edge.key("medical")
    request_id = edge.chat(key).headers["x-request-id"]
    body = {"request_id": request_id, "thumb": "down"}
    assert [_thumb(edge, one, body).status_code for one in (colleague, stranger, None)] == [
        404, 404, 401,
    ]  # fmt: skip
    with edge.services.db.read() as session:
        assert session.scalars(select(FeedbackRow)).all() == []


@pytest.mark.parametrize(
    "body", [{}, [], {"request_id": 1, "thumb": "up"}, {"request_id": "x", "thumb": "sideways"}]
)
def test_a_thumb_that_is_none_is_refused(edge: Edge, body: Any) -> None:
    answer = _thumb(edge, edge.key("legal"), body)
    assert answer.status_code == 400
    assert "expected" in answer.json()["error"]["message"]


def test_a_firing_alert_rolls_back_what_it_names(alerted: Edge) -> None:
    alerted.key("legal")
    rollout = _rollout(alerted)
    labels = {"alertname": "SlowAnswers", "tenant": "legal", "alias": "legal"}
    resolved = {"status": "resolved", "labels": labels}
    assert _alert(alerted, [resolved]).json() == {"rolled_back": [], "ignored": 1}
    firing = {"status": "firing", "labels": labels, "annotations": {"summary": "p95 over 2 s"}}
    assert _alert(alerted, [firing]).json() == {"rolled_back": [rollout.id], "ignored": 0}
    ended = alerted.services.rollouts.get(SYSTEM, rollout.id)
    assert ended.state is RolloutState.ROLLED_BACK
    assert ended.steps[-1].reason == "alert SlowAnswers: p95 over 2 s"
    assert ended.steps[-1].actor_id == "system:alertmanager"
    assert _alert(alerted, [firing]).json() == {"rolled_back": [], "ignored": 1}


def test_an_alert_without_the_secret_does_nothing(alerted: Edge) -> None:
    alerted.key("legal")
    rollout = _rollout(alerted)
    firing = [{"status": "firing", "labels": {"rollout": rollout.id}}]
    for secret in (None, "another", SECRET + "x"):
        assert _alert(alerted, firing, secret).status_code == 401
    assert alerted.services.rollouts.get(SYSTEM, rollout.id).is_open
    assert _alert(alerted, firing).json()["rolled_back"] == [rollout.id]


def test_without_a_secret_there_is_no_such_webhook(edge: Edge) -> None:
    assert _alert(edge, [], None).status_code == 404


@pytest.mark.parametrize(
    "alerts", [None, {}, ["x"], [{"status": "firing", "labels": {"tenant": "legal"}}]]
)
def test_an_alert_that_names_nothing_is_refused(alerted: Edge, alerts: Any) -> None:
    answer = _alert(alerted, alerts)
    assert answer.status_code == 400, json.dumps(alerts)
    assert "expected" in answer.json()["error"]["message"]
