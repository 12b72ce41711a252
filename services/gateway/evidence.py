"""What anyone may ask about the log: its checkpoint, proofs, the bundle of a receipt, a verifier.

Checkpoints and proofs hold hashes only and need no key; a bundle holds what its receipt holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from services.attestation.page import verifier_page
from services.db import new_id
from services.errors import InvalidInput, NotFound
from services.gateway.fresh import read_fresh
from services.gateway.logs import request_id
from services.gateway.running import Gateway

router = APIRouter()


@router.get("/v1/audit/checkpoint")
async def checkpoint(request: Request) -> Response:
    """The newest signed checkpoint; as a bare signed note with `?format=note`."""
    found = await asyncio.to_thread(_gateway(request).parts.evidence.proofs.newest)
    if found is None:
        raise NotFound("checkpoint: expected a signed one, found none yet; one is made each minute")
    if request.query_params.get("format") == "note":
        return Response(found.note, media_type="text/plain; charset=utf-8")
    return _json(
        {"size": found.size, "root": found.root, "note": found.note, "at": found.at.isoformat()}
    )


@router.get("/v1/audit/proof")
async def proof(request: Request) -> Response:
    """A proof of inclusion (`seq`, `size`) or of consistency (`first`, `second`)."""
    asked = {name: _whole(name, text) for name, text in request.query_params.items()}
    proofs = _gateway(request).parts.evidence.proofs
    if "seq" in asked and set(asked) <= {"seq", "size"}:
        found = await asyncio.to_thread(proofs.inclusion, asked["seq"], asked.get("size"))
        return _json(found.document())
    if "first" in asked and set(asked) <= {"first", "second"}:
        grown = await asyncio.to_thread(proofs.consistency, asked["first"], asked.get("second"))
        return _json(grown.document())
    raise InvalidInput(
        "proof: expected seq (and size), or first (and second), found something else"
    )


@router.get("/v1/receipts/{receipt_id}/bundle")
async def bundle(request: Request, receipt_id: str) -> Response:
    """The proof bundle of a receipt; its salt only for the key that had asked."""
    gateway = _gateway(request)
    header = request.headers.get("authorization")
    raw = None if header is None else header.encode("latin-1")
    actor, _tenant = await gateway.directory.caller(raw)
    read = partial(gateway.parts.evidence.bundles.make, actor, receipt_id)
    found = await read_fresh(gateway.writer, receipt_id, read)
    return _json(found)


@router.get("/verify")
async def verify_page() -> Response:
    """The verifier as one file, which runs in the reader's browser and asks nobody anything."""
    page, policy = verifier_page()
    headers = {"content-security-policy": policy, "x-content-type-options": "nosniff"}
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)


def _gateway(request: Request) -> Gateway:
    running: Callable[[], Gateway] = request.app.state.running
    return running()


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidInput(f"{name[:20]}: expected a whole number, found {text[:40]!r}")
    return int(text)


def _json(content: Any) -> Response:
    headers = {"x-request-id": request_id.get() or new_id()}
    return Response(orjson.dumps(content), headers=headers, media_type="application/json")
