"""What is sent where: a Slack message, a Jira issue, a signed webhook."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from services.settings import Settings

SLACK, JIRA, WEBHOOK = "slack", "jira", "webhook"
SIGNATURE = "x-param-signature"
_SIGNS = {"promoted": "✅", "rolled_back": "↩️", "paused": "⏸️"}


@dataclass(frozen=True)
class Request:
    """One HTTP POST."""

    url: str
    body: bytes
    headers: Mapping[str, str]


def configured(settings: Settings) -> tuple[str, ...]:
    """The sinks that have an address."""
    addresses = {
        SLACK: settings.alert_slack_url,
        JIRA: settings.alert_jira_url,
        WEBHOOK: settings.alert_webhook_url,
    }
    return tuple(name for name, url in addresses.items() if url)


def request(settings: Settings, sink: str, alert_id: str, facts: Mapping[str, Any]) -> Request:
    """The alert as a sink reads it.

    Args:
        alert_id: Stays the same when it is sent again, so that receivers can tell.
        facts: Of the step, as the outbox keeps them.
    """
    if sink == SLACK:
        return _request(settings.alert_slack_url, {"text": slack_text(facts)}, {})
    if sink == JIRA:
        return _jira(settings, alert_id, facts)
    body = {"id": alert_id, "type": f"rollout.{facts['state']}", **facts}
    encoded = orjson.dumps(body)
    signature = hmac.new(settings.alert_webhook_secret.encode(), encoded, sha256).hexdigest()
    signed = {SIGNATURE: f"sha256={signature}"} if settings.alert_webhook_secret else {}
    return _request(settings.alert_webhook_url, body, {"x-param-delivery": alert_id, **signed})


def sentence(facts: Mapping[str, Any]) -> str:
    """What happened, in one sentence."""
    what = {"promoted": "was promoted", "rolled_back": "was rolled back", "paused": "is paused"}
    return (
        f"{facts['candidate']} {what.get(facts['state'], facts['state'])} "
        f"on {facts['alias']} of {facts['tenant']}"
    )


def slack_text(facts: Mapping[str, Any]) -> str:
    """A Slack message; what people wrote cannot mention anybody or link anywhere.

    Source: docs.slack.dev, formatting message text: &, < and > are escaped.
    """
    reason = facts["reason"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    lines = [f"{_SIGNS.get(facts['state'], '•')} {sentence(facts)} (by {facts['actor']})"]
    return "\n".join([*lines, reason] if reason else lines)


def _jira(settings: Settings, alert_id: str, facts: Mapping[str, Any]) -> Request:
    fields = {
        "project": {"key": settings.alert_jira_project},
        "issuetype": {"name": "Task"},
        "summary": sentence(facts)[:254],
        "description": f"{facts['reason']}\n\nRollout {facts['rollout']}, step {facts['seq']}, "
        f"by {facts['actor']}, {facts['at']}.",
        "labels": ["param-console", f"rollout-{facts['rollout']}"],
    }
    token = settings.alert_jira_token
    # Jira Cloud takes `e-mail:token` as a password, Jira Data Center a personal token.
    kind = (
        f"Basic {base64.b64encode(token.encode()).decode()}" if ":" in token else f"Bearer {token}"
    )
    headers = {"authorization": kind, "x-param-delivery": alert_id}
    return _request(f"{settings.alert_jira_url}/rest/api/2/issue", {"fields": fields}, headers)


def _request(url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Request:
    return Request(url, orjson.dumps(body), {"content-type": "application/json", **headers})
