"""Usage, prices and reports. Money is in whole millionths of a US dollar (micro-USD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Literal

from services.errors import NotFound

TOKENS_PER_PRICE = 1_000_000
"""Prices are for this many tokens, so a price in micro-USD is also one in USD for 10^12."""


FIRST_VERSION = "1"
"""Of the price table that comes along and holds until somebody sets another one."""


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

    def ordered(self) -> list[tuple[str, Price]]:
        """Patterns with their prices, the most specific one first, as they are looked up."""
        return sorted(self.prices.items(), key=lambda one: _specific(one[0]), reverse=True)

    def price(self, served: str) -> Price:
        """The price of a model.

        Raises:
            NotFound: No pattern fits the name.
        """
        fitting = [pattern for pattern in self.prices if fnmatchcase(served, pattern)]
        if not fitting:
            raise NotFound(
                f"price of {served!r}: expected a fitting pattern in price table "
                f"{self.version}, found none"
            )
        return self.prices[max(fitting, key=_specific)]


def _specific(pattern: str) -> tuple[int, str]:
    return len(pattern.replace("*", "")), pattern


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
    arm: Literal["stable", "canary", "pinned", "fallback"]
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


class Share(StrEnum):
    """How traffic is shared between the own model and an API: the three ways of the seeds."""

    API = "api"
    HYBRID = "hybrid"
    OWN = "own"


@dataclass(frozen=True)
class Scenario:
    """What a month of requests costs one way, all of it derived from real rows.

    Attributes:
        own_percent: Share of the requests that the own model answers.
        month_micro: The month, fixed costs included; likewise the year, which is twelve of them.
        saved_micro: In a year, against sending everything to the API; negative where it is dearer.
        saved_percent: Of the API's year, rounded to whole percent; None where that is zero.
    """

    share: Share
    own_percent: int
    month_micro: int
    year_micro: int
    saved_micro: int
    saved_percent: int | None


@dataclass(frozen=True)
class Scenarios:
    """The three ways side by side.

    Attributes:
        requests: Of a month, to which everything is scaled.
        fixed_micro: What the own model costs a month before the first request.
        own_request_nano: What one request costs on average, thousandths of a micro-USD.
        api_request_nano: What its tokens would cost at the API, thousandths of a micro-USD.
        break_even: Requests a month from which the own model alone is cheaper than the API; None
            where it never is.
    """

    requests: int
    fixed_micro: int
    own_request_nano: int
    api_request_nano: int
    break_even: int | None
    ways: list[Scenario]


@dataclass(frozen=True)
class Used:
    """What a tenant has used at one moment, by its usage rows.

    Attributes:
        day: The tenant's day, `2026-11-21`; its first seven characters are the month.
        tokens: Prompt and completion tokens of the day.
        tokens_by_key: The same by id of the API key.
        month_micro: Cost of the month, micro-USD.
    """

    day: str
    tokens: int
    tokens_by_key: Mapping[str, int]
    month_micro: int


@dataclass(frozen=True)
class MonthLeft:
    """A tenant's money of the present month, for whoever is about to spend some.

    Attributes:
        month: `2026-11`, the tenant's.
        ends_in_s: Seconds until the next one.
    """

    month: str
    limit_micro: int
    spent_micro: int
    ends_in_s: float

    @property
    def left_micro(self) -> int:
        """Negative where more was spent than the budget allows."""
        return self.limit_micro - self.spent_micro


@dataclass(frozen=True)
class BudgetWarning:
    """A month's spending reached a share of its budget; said once for each budget and month.

    Attributes:
        percent: 50, 80 or 100.
        spent_micro: What was spent when it was noticed.
    """

    month: str
    percent: int
    budget_micro: int
    spent_micro: int
    at: datetime


@dataclass(frozen=True)
class Budget:
    """Where a tenant's money of this month stands.

    Attributes:
        month: `2026-11`, the tenant's.
        limit_micro: None where there is no budget.
        warnings: Of this month, oldest first.
    """

    month: str
    limit_micro: int | None
    spent_micro: int
    warnings: list[BudgetWarning]

    @property
    def percent(self) -> int | None:
        """Whole percent of the budget that are spent, rounded down; None without a budget."""
        return None if self.limit_micro is None else 100 * self.spent_micro // self.limit_micro


WARNED_AT = (50, 80, 100)
"""Percent of a budget at which a warning is left."""

CLAUDE_3_5_SONNET = ApiPrice("Claude 3.5 Sonnet", Price(3_000_000, 15_000_000))
"""USD 3 and 15 for a million tokens, the comparison that this project started from."""
