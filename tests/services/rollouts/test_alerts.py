"""Alerts go out with their step, reach their sinks, are tried again, and delay nothing."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from services.db import Database
from services.errors import WrongConfiguration
from services.rollouts.alerts.outbox import MAX_ATTEMPTS, Alerts, states
from services.settings import Settings, load
from tests.services.rollouts.conftest import ENGINEER, Stage, build_stage


@dataclass
class Sinks:
    """One server that is Slack, Jira and a webhook at once.

    Attributes:
        status: What it answers.
        got: Path, headers and body of each request.
    """

    url: str = ""
    status: int = 200
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def bodies(self, path: str) -> list[Any]:
        return [orjson.loads(body) for where, _, body in self.got if where == path]


@pytest.fixture
def sinks() -> Iterator[Sinks]:
    found = Sinks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.got.append((self.path, headers, body))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Told:
    """A stage whose steps are announced."""

    stage: Stage
    alerts: Alerts
    settings: Settings
    now: datetime = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def told(database: Database, tmp_path: Path, sinks: Sinks) -> Iterator[Told]:
    settings = load(
        {
            "PARAM_HOME": str(tmp_path / "home"),
            "PARAM_ALERT_SLACK_URL": f"{sinks.url}/slack",
            "PARAM_ALERT_JIRA_URL": f"{sinks.url}/jira",
            "PARAM_ALERT_JIRA_PROJECT": "OPS",
            "PARAM_ALERT_JIRA_TOKEN": "ops@example.org:t0ken",
            "PARAM_ALERT_WEBHOOK_URL": f"{sinks.url}/hook",
            "PARAM_ALERT_WEBHOOK_SECRET": "a-shared-secret",
        },
        directory=tmp_path,
    )
    with httpx.Client(timeout=10, trust_env=False) as http:
        made = Told.__new__(Told)
        made.now, made.settings = Told.now, settings
        made.alerts = Alerts(database, settings, http=http, clock=lambda: made.now)
        made.stage = build_stage(
            database, tmp_path, clock=lambda: made.now, announce=made.alerts.announce
        )
        yield made


def _rolled_back(told: Told, reason: str = "slow <@channel>") -> str:
    rollouts = told.stage.rollouts
    rollout = rollouts.start(ENGINEER, "legal", "legal", told.stage.adapter(1), percent=10)
    rollouts.rollback(ENGINEER, rollout.id, reason=reason)
    return rollout.id


def test_each_sink_hears_of_the_end_in_its_own_words(told: Told, sinks: Sinks) -> None:
    rollout_id = _rolled_back(told)
    assert told.alerts.deliver() == 3
    [slack] = sinks.bodies("/slack")
    assert "was rolled back on legal of legal (by Elif)\nslow &lt;@channel&gt;" in slack["text"]
    [issue] = sinks.bodies("/jira/rest/api/2/issue")
    assert issue["fields"]["project"] == {"key": "OPS"}
    assert rollout_id in issue["fields"]["description"]
    [(_, headers, body)] = [one for one in sinks.got if one[0] == "/hook"]
    signature = hmac.new(b"a-shared-secret", body, sha256).hexdigest()
    assert headers["x-param-signature"] == f"sha256={signature}"
    assert orjson.loads(body)["type"] == "rollout.rolled_back"
    assert told.alerts.deliver() == 0
    assert all(one.sent_at == told.now for one in states(told.stage.db, rollout_id))


def test_steps_on_the_way_are_told_to_nobody(told: Told, sinks: Sinks) -> None:
    rollouts = told.stage.rollouts
    rollout = rollouts.start(ENGINEER, "legal", "legal", told.stage.adapter(1), percent=10)
    rollouts.step(ENGINEER, rollout.id, 50)
    assert told.alerts.deliver() == 0
    rollouts.pause(ENGINEER, rollout.id)
    assert told.alerts.deliver() == 3


def test_a_sink_that_fails_is_tried_again_with_the_same_id(told: Told, sinks: Sinks) -> None:
    sinks.status = 503
    rollout_id = _rolled_back(told)
    assert told.alerts.deliver() == 0
    assert told.alerts.deliver() == 0
    assert len(sinks.got) == 3, "the pause is kept"
    told.now += timedelta(seconds=6)
    sinks.status = 200
    assert told.alerts.deliver() == 3
    ids = {headers["x-param-delivery"] for path, headers, _ in sinks.got if path == "/hook"}
    assert len(ids) == 1
    assert {one.attempts for one in states(told.stage.db, rollout_id)} == {2}


def test_a_sink_that_is_gone_for_good_is_given_up(told: Told, sinks: Sinks) -> None:
    sinks.status = 404
    rollout_id = _rolled_back(told)
    for _ in range(MAX_ATTEMPTS + 3):
        told.alerts.deliver()
        told.now += timedelta(hours=4)
    assert len(sinks.got) == 3 * MAX_ATTEMPTS
    for one in states(told.stage.db, rollout_id):
        assert (one.attempts, one.next_at, one.problem) == (MAX_ATTEMPTS, None, "it answered 404")


def test_a_sink_nobody_answers_at_delays_no_rollback(told: Told, sinks: Sinks) -> None:
    silent = Alerts(
        told.stage.db, told.settings,
        http=httpx.Client(transport=httpx.MockTransport(_nobody)), clock=lambda: told.now,
    )  # fmt: skip
    rollout_id = _rolled_back(told)
    assert silent.deliver() == 0
    assert {one.problem for one in states(told.stage.db, rollout_id)} == {"no answer: ConnectError"}


def _nobody(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody there", request=request)


def test_secrets_are_shown_nowhere(told: Told) -> None:
    shown = repr(told.settings)
    for secret in ("/slack", "t0ken", "a-shared-secret"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PARAM_ALERT_SLACK_URL", "hooks.slack.example/T0/secret"),
        ("PARAM_ROLLBACK_HOOK_SECRET", "short"),
        ("PARAM_ALERT_JIRA_URL", "https://jira.example"),
    ],
)
def test_wrong_settings_are_refused_without_being_shown(
    tmp_path: Path, variable: str, value: str
) -> None:
    with pytest.raises(WrongConfiguration) as refused:
        load({"PARAM_HOME": str(tmp_path), variable: value}, directory=tmp_path)
    assert value not in refused.value.message
