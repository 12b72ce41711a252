"""Everything but the hot route: models, receipts, verification, keys, health, metrics."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from services.attestation.bundle import is_bundle
from services.attestation.files import read_file
from services.attestation.receipts import VerifiedReceipt
from services.attestation.strict import read_json
from services.db import new_id
from services.errors import ConsoleError, InvalidInput, VerificationFailed
from services.gateway import admin, evidence, feedback, hints
from services.gateway.answers import (
    MAX_BODY,
    ClientGone,
    Refused,
    error_body,
    error_headers,
    read_body,
    wrong_method,
)
from services.gateway.fresh import read_fresh
from services.gateway.limits import Who
from services.gateway.logs import request_id
from services.gateway.looking import SYSTEM
from services.gateway.running import Gateway
from services.tenants.models import Actor, Tenant

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_router = APIRouter()


def build_endpoints(running: Callable[[], Gateway]) -> FastAPI:
    """The FastAPI application.

    Args:
        running: Gives the gateway, once the server has started it.
    """
    api = FastAPI(title="Param Console gateway", docs_url=None, redoc_url=None, openapi_url=None)
    api.state.running = running
    api.include_router(_router)
    api.include_router(hints.router)
    api.include_router(evidence.router)
    api.include_router(feedback.router)
    api.include_router(admin.router)
    api.add_exception_handler(ConsoleError, _answer_error)
    api.add_exception_handler(HTTPException, _answer_routing)
    api.add_exception_handler(ClientGone, _answer_nobody)
    return api


@_router.get("/v1/models")
async def models(request: Request) -> Response:
    """The tenant's aliases and adapters, as OpenAI lists models."""
    gateway, (_actor, tenant) = _gateway(request), await _caller(request)
    adapters = await asyncio.to_thread(gateway.parts.registry.list, SYSTEM, tenant.id)
    base = gateway.directory.snapshot().seen.base
    aliases = [
        {
            **_model(route.alias, tenant, int(tenant.created_at.timestamp())),
            "root": route.stable or base.served,
            "parent": None,
        }
        for route in gateway.directory.aliases(tenant.id)
    ]
    pinned = [
        {
            **_model(adapter.name, tenant, int(adapter.created_at.timestamp())),
            "root": adapter.name,
            "parent": adapter.base_model,
        }
        for adapter in adapters
    ]
    return _json({"object": "list", "data": [*aliases, *pinned]})


@_router.get("/v1/whoami")
async def whoami(request: Request) -> Response:
    """Which tenant a key belongs to, and what its aliases mean now."""
    gateway, (actor, tenant) = _gateway(request), await _caller(request)
    base, guards = gateway.directory.snapshot().seen.base, gateway.directory.guards(tenant.id)
    aliases = [
        {
            "alias": route.alias,
            "adapter": route.stable,
            "candidate": route.candidate,
            "percent": route.percent,
        }
        for route in gateway.directory.aliases(tenant.id)
    ]
    key_id = actor.id.removeprefix("key:")
    key_limits = gateway.directory.key_limits(key_id)
    standing = gateway.limiter.standing(Who(tenant, key_id, key_limits))
    return _json(
        {
            "tenant": {"id": tenant.id, "name": tenant.name},
            "key": {"id": key_id, "name": actor.name, "limits": asdict(key_limits)},
            "default_alias": tenant.id,
            "base_model": base.served,
            "aliases": aliases,
            "limits": asdict(tenant.limits),
            "tokens_left_today": gateway.limiter.left_today(tenant),
            "key_tokens_left_today": standing.tokens_left,
            "budget_left_micro": standing.budget_left_micro,
            "running": gateway.limiter.running(tenant.id),
            "policy": {"version": guards.version, "sha256": guards.digest},
        }
    )


@_router.get("/v1/receipts/{receipt_id}")
async def receipt(request: Request, receipt_id: str) -> Response:
    """One receipt of the key's tenant; its salt only for the key that had asked."""
    gateway, (actor, _tenant) = _gateway(request), await _caller(request)
    read = partial(gateway.parts.receipts.get, actor, receipt_id)
    found = await read_fresh(gateway.writer, receipt_id, read)
    return _json(found.document())


@_router.post("/v1/verify")
async def verify(request: Request) -> Response:
    """Whether a receipt holds; no key is needed.

    The body is a proof bundle, a receipt document or a bare envelope, or an object that holds one
    of them under `receipt` beside `request` and `response`: the exact bytes to compare, base64.
    Always 200 for what can be read as such; `ok` says whether it holds.
    """
    raw = {name.lower(): value for name, value in request.scope["headers"]}
    body = await read_body(raw, request.receive)
    document, texts = _texts(body)
    try:
        found_document = read_file(document)
    except VerificationFailed as error:
        raise InvalidInput(error.message) from error
    receipts = _gateway(request).parts.receipts
    try:
        found = await asyncio.to_thread(receipts.verify_document, found_document, **texts)
    except VerificationFailed as error:
        return _json({"ok": False, "error": error.message, "checks": [], "not_established": []})
    return _json(_verdict(found))


@_router.get("/.well-known/jwks.json")
async def jwks(request: Request) -> Response:
    """The public keys that receipts are verified with."""
    found = await asyncio.to_thread(_gateway(request).parts.keyring.jwks)
    return _json(found, headers={"cache-control": "max-age=60"})


@_router.get("/healthz")
async def healthz() -> Response:
    """Whether the process answers at all."""
    return _json({"status": "ok"})


@_router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether a chat request could be answered now: database, engine, audit writer, snapshot."""
    checks = await _gateway(request).checks()
    ready = all(checks.values())
    return _json({"ready": ready, "checks": checks}, status=200 if ready else 503)


@_router.get("/metrics")
async def metrics(request: Request) -> Response:
    """All metrics, for Prometheus."""
    return Response(_gateway(request).metrics.text(), media_type=_PROMETHEUS)


def _gateway(request: Request) -> Gateway:
    running: Callable[[], Gateway] = request.app.state.running
    return running()


async def _caller(request: Request) -> tuple[Actor, Tenant]:
    header = request.headers.get("authorization")
    raw = None if header is None else header.encode("latin-1")
    return await _gateway(request).directory.caller(raw)


def _model(name: str, tenant: Tenant, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": tenant.id}


def _texts(body: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The receipt's JSON, and the texts to compare with it where they came along."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"body: expected JSON in UTF-8, found {error}") from error
    if not isinstance(found, dict) or "receipt" not in found or is_bundle(found):
        return body, {}
    if unknown := sorted(set(found) - {"receipt", "request", "response"}):
        raise InvalidInput(f"body: expected receipt, request and response, found {unknown[0]!r}")
    try:
        found = read_json(body, "body", most=MAX_BODY)  # A key twice could mean two receipts.
    except VerificationFailed as error:
        raise InvalidInput(error.message) from error
    names = [name for name in ("request", "response") if found.get(name) is not None]
    return orjson.dumps(found["receipt"]), {name: _bytes(name, found[name]) for name in names}


def _bytes(name: str, value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidInput(f"{name}: expected bytes as base64") from error


def _verdict(found: VerifiedReceipt) -> dict[str, Any]:
    return {
        "ok": found.holds,
        "kid": found.kid,
        "checks": [vars(check) for check in found.checks],
        "not_established": found.not_established,
        "statement": found.statement,
    }


def _json(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    ours = {"x-request-id": request_id.get() or new_id()}
    body = orjson.dumps(content)
    return Response(body, status, {**ours, **(headers or {})}, media_type="application/json")


async def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ConsoleError), "registered for nothing else"
    response = Response(error_body(error), error.http_status, media_type="application/json")
    response.headers["x-request-id"] = request_id.get() or new_id()
    for name, value in error_headers(error):
        response.headers[name.decode()] = value.decode()
    return response


async def _answer_routing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for nothing else"
    path = request.url.path[:200]
    if error.status_code == 405:
        return await _answer_error(request, wrong_method(request.method, path))
    message = f"{request.method} {path}: there is nothing at this path"
    refused = Refused(message, status=error.status_code, code="not_found")
    return await _answer_error(request, refused)


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; nginx's number for "client left"
