"""Requests that are about to go to an engine; light enough for a process that only dies."""

from __future__ import annotations

from services.db import new_id
from services.gateway.intents import Intent

AT = "2026-11-21T09:00:00+00:00"


def intent(number: int = 0, *, stream: bool = True) -> Intent:
    return Intent(
        request_id=f"request-{number}" if number else new_id(), tenant_id="acme", actor_id="key:k1",
        actor_name="intranet", alias="acme", served="acme-3fa2c1d09b7e", adapter_digest="3f" * 32,
        arm="canary", rollout_id="r1", percent=10, stream=stream, policy_version=2,
        price_version="1", prompt_price=3_000_000, completion_price=15_000_000, received_at=AT,
    )  # fmt: skip
