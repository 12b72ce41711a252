"""Usage, prices and reports. Money is in whole millionths of a US dollar (micro-USD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

TOKENS_PER_PRICE = 1_000_000
"""Prices are for this many tokens, so a price in micro-USD is also one in USD for 10^12."""


@dataclass(frozen=True)
class Price:
    """What tokens of one model cost, micro-USD for a million tokens."""

    prompt_micro_per_mtok: int
    completion_micro_per_mtok: int


@dataclass(frozen=True)
class PriceTable:
    """One version of all prices.

    Attributes:
        version: Names the version in rows and receipts: `1`, `2` and so on.
        prices: By pattern of the served model's name; `*` stands for any characters. The most
            specific pattern that fits counts: the one with most characters beside `*`.
    """

    version: str
    prices: Mapping[str, Price]
    created_at: datetime
    created_by: str


@dataclass(frozen=True)
class Usage:
    """One request, as it is billed.

    Attributes:
        key_id: Id of the API key; a user or system id where no key was used.
        served: Adapter name, or the base model's.
        latency_ms: From arrival to the last byte.
        ttft_ms: To the first token, for streams.
        at: When it was admitted; decides the tenant's day that it counts to.
    """

    request_id: str
    tenant_id: str
    key_id: str
    alias: str
    served: str
    arm: Literal["stable", "canary", "pinned"]
    prompt_tokens: int
    completion_tokens: int
    cost_micro: int
    price_version: str
    latency_ms: int
    ttft_ms: int | None
    status: Literal["ok", "partial", "error"]
    at: datetime


@dataclass(frozen=True)
class CostLine:
    """Sums over the usage rows that share something.

    Attributes:
        name: What they share: a day (`2026-11-21`), a model, an arm, an alias, a status.
        mean_latency_ms: Rounded to whole milliseconds.
    """

    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_micro: int
    mean_latency_ms: int


@dataclass(frozen=True)
class CostReport:
    """What one tenant used in some of its days.

    Attributes:
        since: First day, in the tenant's time zone; likewise `until`, the last one.
        by_day: In order of time, days without a request left out; the others by cost.
    """

    tenant_id: str
    since: date
    until: date
    total_micro: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    by_day: list[CostLine]
    by_model: list[CostLine]
    by_arm: list[CostLine]
    by_alias: list[CostLine]
    by_status: list[CostLine]


@dataclass(frozen=True)
class ApiPrice:
    """The published price of somebody else's API."""

    name: str
    price: Price


@dataclass(frozen=True)
class Savings:
    """The same tokens, served here and bought elsewhere.

    Attributes:
        saved_micro: Negative where the own model costs more.
        saved_percent: Of the API's cost, rounded to whole percent; None where that is zero.
    """

    api: str
    own_micro: int
    api_micro: int
    saved_micro: int
    saved_percent: int | None


CLAUDE_3_5_SONNET = ApiPrice("Claude 3.5 Sonnet", Price(3_000_000, 15_000_000))
"""USD 3 and 15 for a million tokens, the comparison that this project started from."""
