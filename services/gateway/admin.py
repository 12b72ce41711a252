"""The gateway as the console sees it: state, one tenant's view, drain, another try of an engine.

Guarded by the installation's admin token (`services.operations.token`), which no tenant's key is.
Answers no content and no secret: an engine's address comes without what may stand before its host.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter, Depends, Request, Response

from services.errors import InvalidInput, NotFound, NotSignedIn
from services.gateway.answers import read_body
from services.gateway.running import Gateway
from services.gateway.upstream import Engine
from services.operations.models import Upstream
from services.operations.token import HEADER, is_token

router = APIRouter(prefix="/admin/v1")


def _admitted(request: Request) -> Gateway:
    """The gateway, for whoever shows the admin token."""
    running: Callable[[], Gateway] = request.app.state.running
    gateway = running()
    if not is_token(request.headers.get(HEADER, ""), gateway.admin_token):
        raise NotSignedIn(f"expected the admin token in the header {HEADER}, found none or another")
    return gateway


Admitted = Annotated[Gateway, Depends(_admitted)]


@router.get("/state")
async def state(gateway: Admitted) -> Response:
    """The process, its engines and whether it is ready."""
    checks = await gateway.checks()
    found: dict[str, Any] = {
        "pid": os.getpid(),
        "version": metadata.version("param-console"),
        "started_at": gateway.started_at.isoformat(),
        "uptime_s": round(time.monotonic() - gateway.started, 1),
        "is_ready": all(checks.values()),
        "is_draining": gateway.chat.is_draining,
        "checks": checks,
        "in_flight": gateway.chat.in_flight,
        "waiting": gateway.writer.waiting,
        "directory_age_s": round(gateway.directory.age_s, 2),
        "dropped_lines": gateway.requests.dropped,
        "upstreams": [asdict(upstream) for upstream in _upstreams(gateway)],
    }
    return _json(found)


@router.get("/tenants/{tenant_id}")
async def tenant(gateway: Admitted, tenant_id: str) -> Response:
    """One tenant as this process sees it: limits, policy, aliases, fallback."""
    callers = gateway.directory.snapshot().seen.callers.values()
    found = next((caller[1] for caller in callers if caller[1].id == tenant_id), None)
    if found is None:
        raise NotFound("this gateway knows no live key of such a tenant")
    guards = gateway.directory.guards(tenant_id)
    fallback = gateway.fallback
    return _json(
        {
            "tenant": tenant_id,
            "limits": asdict(found.limits),
            "tokens_left_today": gateway.limiter.left_today(found),
            "policy": {"version": guards.version, "sha256": guards.digest},
            "aliases": [
                {
                    "alias": route.alias,
                    "adapter": route.stable,
                    "candidate": route.candidate,
                    "percent": route.percent,
                }
                for route in gateway.directory.aliases(tenant_id)
            ],
            "may_fall_back": fallback is not None and await fallback.is_allowed(tenant_id),
        }
    )


@router.post("/drain")
async def drain(request: Request, gateway: Admitted) -> Response:
    """Take no more chat requests, or take them again; those that run go on."""
    raw = {name.lower(): value for name, value in request.scope["headers"]}
    try:
        asked = orjson.loads(await read_body(raw, request.receive))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"body: expected JSON in UTF-8, found {error}") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("on"), bool):
        raise InvalidInput('body: expected {"on": true} or {"on": false}')
    gateway.chat.is_draining = asked["on"]
    return _json({"is_draining": gateway.chat.is_draining, "in_flight": gateway.chat.in_flight})


@router.post("/upstreams/{name}/retry")
async def retry(gateway: Admitted, name: str) -> Response:
    """Let the next request try an engine whose breaker is open."""
    for engine in gateway.engines():
        if engine.breaker.name == name:
            engine.breaker.try_soon()
            return _json({"name": name, "state": engine.breaker.state.value})
    raise NotFound("expected engine or fallback; this gateway has no other")


def _upstreams(gateway: Gateway) -> list[Upstream]:
    served = gateway.preloader.served
    own = _upstream(
        gateway.engine,
        model=served.base,
        is_up=gateway.preloader.engine_is_up,
        adapters=tuple(sorted(served.adapters)),
        context=served.context,
    )
    if gateway.fallback is None:
        return [own]
    fallback = gateway.fallback
    return [own, _upstream(fallback.engine, model=fallback.model)]


def _upstream(
    engine: Engine,
    *,
    model: str | None,
    is_up: bool | None = None,
    adapters: tuple[str, ...] = (),
    context: int | None = None,
) -> Upstream:
    breaker = engine.breaker
    return Upstream(
        name=breaker.name,
        address=_address(engine.url),
        model=model,
        state=breaker.state.value,
        failures=breaker.failures,
        times_opened=breaker.times_opened,
        retry_in_s=round(breaker.retry_in_s, 1),
        is_up=is_up,
        adapters=adapters,
        context=context,
    )


def _address(url: str) -> str:
    """Scheme, host and port: a name and password before the host stay here."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def _json(content: Any) -> Response:
    return Response(
        orjson.dumps(content), media_type="application/json", headers={"cache-control": "no-store"}
    )
