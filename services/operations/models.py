"""What operators see of a gateway, and what a tenant has decided about a second engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

FALLBACK_PREFIX = "fallback/"
"""Before the name of a model that a second engine serves: no adapter and no base of ours can bear
such a name, and a price table can have a pattern of its own for it."""


def fallback_served(model: str) -> str:
    """How usage rows, receipts and price tables name a second engine's model."""
    return f"{FALLBACK_PREFIX}{model}"


@dataclass(frozen=True)
class FallbackSwitch:
    """One decision of a tenant; the newest holds, and without any the answer is no.

    Attributes:
        allowed: Whether requests may go to the second engine, outside of this installation.
    """

    tenant_id: str
    seq: int
    allowed: bool
    reason: str
    actor_id: str
    actor_name: str
    at: datetime


@dataclass(frozen=True)
class Upstream:
    """One engine as a gateway sees it.

    Attributes:
        name: `engine` or `fallback`.
        address: Its URL without anything secret.
        state: Of the breaker: `closed`, `half_open` or `open`.
        failures: In a row.
        times_opened: Since the gateway started.
        retry_in_s: Until it is tried again, where the breaker is open.
        is_up: Whether it answered the latest look; None where nobody looks.
    """

    name: str
    address: str
    model: str | None
    state: str
    failures: int
    times_opened: int
    retry_in_s: float
    is_up: bool | None
    adapters: tuple[str, ...]
    context: int | None


@dataclass(frozen=True)
class GatewayState:
    """One gateway process at one moment.

    Attributes:
        checks: What it needs to be ready, and whether that is there.
        uptime_s: Since it started, seconds.
        in_flight: Chat requests that run.
        waiting: Outcomes that wait for their commit.
        dropped_lines: Lines of the request log that were given up because nobody took them.
    """

    pid: int
    version: str
    started_at: datetime
    uptime_s: float
    is_ready: bool
    is_draining: bool
    checks: Mapping[str, bool]
    in_flight: int
    waiting: int
    directory_age_s: float
    dropped_lines: int
    upstreams: tuple[Upstream, ...]


@dataclass(frozen=True)
class TenantView:
    """One tenant as a gateway sees it now.

    Attributes:
        limits: By name, as the gateway applies them.
        aliases: What each alias means: alias, adapter, candidate, percent.
    """

    tenant_id: str
    limits: Mapping[str, Any]
    tokens_left_today: int | None
    policy_version: int
    policy_sha256: str
    aliases: tuple[Mapping[str, Any], ...]
    may_fall_back: bool
