"""What comes back about answers: thumbs of those who got them, and alerts that call a rollout back.

The alert webhook takes Alertmanager's format, version 4. Each firing alert names a rollout by the
labels `tenant` and `alias`, or `rollout`; the alert's own name and summary become the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from hmac import compare_digest
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from services.errors import Conflict, InvalidInput, NotFound, NotSignedIn
from services.gateway.answers import read_body
from services.gateway.fresh import read_fresh
from services.gateway.running import Gateway
from services.rollouts.models import Rollout
from services.rollouts.service import Rollouts
from services.tenants.models import Actor

ALERTS = Actor.system("alertmanager")
MAX_ALERTS = 200
_SECRET = "expected the secret of the alert webhook as a bearer token, found none or another"

router = APIRouter()


@router.post("/v1/feedback")
async def feedback(request: Request) -> Response:
    """Note a thumb: `{"request_id": …, "thumb": "up" | "down" | "none"}`, with the asker's key."""
    gateway = _gateway(request)
    header = request.headers.get("authorization")
    actor, _ = await gateway.directory.caller(None if header is None else header.encode())
    body = await _object(request)
    request_id, thumb = body.get("request_id"), body.get("thumb")
    if not isinstance(request_id, str) or not isinstance(thumb, str):
        raise InvalidInput("body: expected the texts request_id and thumb, found something else")
    give = partial(gateway.parts.feedback.give, actor, request_id, thumb)
    await read_fresh(gateway.writer, request_id, give)
    return _json({"request_id": request_id, "thumb": thumb})


@router.post("/v1/hooks/alertmanager")
async def alertmanager(request: Request) -> Response:
    """Roll back what firing alerts name; 404 where no secret is set, so that nothing is promised."""
    gateway = _gateway(request)
    secret = gateway.parts.settings.rollback_hook_secret
    if not secret:
        raise NotFound(f"POST {request.url.path}: there is nothing at this path")
    found = request.headers.get("authorization", "")
    if not compare_digest(found.encode(), f"Bearer {secret}".encode()):
        raise NotSignedIn(_SECRET)
    body = await _object(request)
    alerts = body.get("alerts")
    if not isinstance(alerts, list) or len(alerts) > MAX_ALERTS:
        raise InvalidInput(f"alerts: expected a list of at most {MAX_ALERTS}, found something else")
    firing = [_firing(one, number) for number, one in enumerate(alerts)]
    wanted = [one for one in firing if one is not None]
    done = await asyncio.to_thread(_roll_back, gateway.parts.rollouts, wanted)
    return _json({"rolled_back": done, "ignored": len(alerts) - len(done)})


def _firing(alert: Any, number: int) -> tuple[dict[str, Any], str] | None:
    """Labels and reason of an alert that fires; None for one that is over."""
    if not isinstance(alert, dict) or not isinstance(alert.get("labels"), dict):
        raise InvalidInput(
            f"alerts[{number}]: expected an object with labels, found something else"
        )
    if alert.get("status") != "firing":
        return None
    labels = alert["labels"]
    notes = alert.get("annotations")
    summary = notes.get("summary", "") if isinstance(notes, dict) else ""
    reason = f"alert {labels.get('alertname', 'without a name')}: {summary}".rstrip(": ")
    has_names = "rollout" in labels or {"tenant", "alias"} <= set(labels)
    if not has_names:
        raise InvalidInput(
            f"alerts[{number}]: expected the labels tenant and alias, or rollout, found neither"
        )
    return labels, reason.replace("\x00", "")[:1_000]


def _roll_back(rollouts: Rollouts, firing: list[tuple[dict[str, Any], str]]) -> list[str]:
    """Roll back the open rollouts that are named; those that have ended are left as they are."""
    done = []
    for labels, reason in firing:
        for rollout in _named(rollouts, labels):
            try:
                rollouts.rollback(ALERTS, rollout.id, reason=reason)
            except Conflict:
                continue  # Somebody was faster; what was asked for holds.
            done.append(rollout.id)
    return done


def _named(rollouts: Rollouts, labels: dict[str, Any]) -> list[Rollout]:
    if "rollout" in labels:
        try:
            found = rollouts.get(ALERTS, str(labels["rollout"]))
        except NotFound:
            return []
        return [found] if found.is_open else []
    tenant, alias = str(labels["tenant"]), str(labels["alias"])
    return [one for one in rollouts.list(ALERTS, tenant) if one.is_open and one.alias == alias]


async def _object(request: Request) -> dict[str, Any]:
    raw = {name.lower(): value for name, value in request.scope["headers"]}
    try:
        found = orjson.loads(await read_body(raw, request.receive))
    except orjson.JSONDecodeError as error:
        raise InvalidInput("body: expected a JSON object, found no JSON") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"body: expected a JSON object, found {type(found).__name__}")
    return found


def _gateway(request: Request) -> Gateway:
    running: Callable[[], Gateway] = request.app.state.running
    return running()


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
