"""Outcomes of requests that nobody asked, and what the log says of requests."""

from __future__ import annotations

from services.bootstrap import Services
from services.db import new_id, utcnow
from services.gateway.outcome import Chosen, Model, Outcome, Status
from services.metering.models import Price
from services.rollouts.models import Arm
from services.tenants.models import Actor, Role
from tests.services.gateway.conftest import SYSTEM

ASKER = Actor("key", "key:k-1", "a key", {"acme": frozenset({Role.CUSTOMER})})


def outcome(**changes: object) -> Outcome:
    now = utcnow()
    chosen = Chosen("acme", Model("base", None, "base", ""), Arm.STABLE)
    facts: dict[str, object] = {
        "request_id": new_id(), "tenant_id": "acme", "actor": ASKER, "chosen": chosen,
        "stream": False, "received_at": now, "completed_at": now, "request_digest": b"1" * 32,
        "response_digest": b"2" * 32, "status": Status.OK, "finish_reason": "stop",
        "prompt_tokens": 3, "completion_tokens": 4, "latency_ms": 5, "ttft_ms": None,
        "policy_version": 0, "policy_digest": "ab" * 32, "findings": {"pii.email.mask": 1},
        "price": ("1", Price(1_000_000, 2_000_000)),
    }  # fmt: skip
    return Outcome(**(facts | changes))  # type: ignore[arg-type]


def requests(services: Services) -> list[str]:
    """The requests of the log, in its order."""
    entries = services.audit.entries(SYSTEM, "acme", action="inference.")
    return [entry.subject.removeprefix("request:") for entry in entries]
