"""How much a tenant and each of its keys may ask for, and what the gateway needs to keep it.

Limited are requests a second and a minute, requests that run at one time, tokens a day and money a
month; the day and the month are the tenant's. Tokens and money are reserved before the engine is
asked and settled after it answered, so parallel requests cannot overshoot together; what does not
fit into the rest gets a shorter answer before it is refused. A reservation is a lease: one that
nobody settles or renews comes back by itself.

`Limiter` is all that the hot route knows: one call to admit, one to settle, both asynchronous, so
that a server such as Redis can take the place of `LocalLimiter` (one script each; every number that
a script needs is in `Who`, `Ask` and `Hold`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from services.errors import BudgetExceeded, LimitExceeded
from services.metering.models import TOKENS_PER_PRICE, Price
from services.metering.service import cost_micro
from services.tenants.models import UNLIMITED, KeyLimits, Tenant

FREE = Price(0, 0)

LEASE_S = 900.0
"""How long a reservation holds without being renewed, unless told otherwise; it must be longer than
an engine may say nothing."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks.

    Attributes:
        key_id: Id of the API key; each key has counts of its own.
        key_limits: The key's own limits, within its tenant's.
    """

    tenant: Tenant
    key_id: str
    key_limits: KeyLimits = UNLIMITED


@dataclass(frozen=True, slots=True)
class Fit:
    """What can be reserved for a request.

    Attributes:
        completion: Tokens that the answer may have, one choice; 0 where nothing fits.
        is_clamped: The engine has to be told this maximum.
        is_by_money: Money was the narrower bound.
    """

    completion: int
    tokens: int
    micro: int
    is_clamped: bool
    is_by_money: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request may cost at most.

    Attributes:
        prompt_bound: Upper bound of the prompt's tokens.
        completion: Tokens that the answer may have, one choice.
        choices: Answers asked for; each may have `completion` tokens.
        ceiling: Tokens that prompt and one answer can have together (the model's context).
        price: What its tokens cost; where one of several models may answer, the dearest of each.
        is_open: The client sets no maximum, so none is told to an engine whose context may be
            too small for it: the context is the bound then.
    """

    prompt_bound: int
    completion: int
    choices: int = 1
    ceiling: int | None = None
    price: Price = FREE
    is_open: bool = False

    def tokens(self, completion: int) -> int:
        """Tokens to reserve for answers of this length."""
        one = self.prompt_bound + completion
        if self.ceiling is not None:
            one = min(one, max(self.ceiling, completion))
        return one + (self.choices - 1) * completion

    def micro(self, completion: int) -> int:
        """Money to reserve for answers of this length, micro-USD."""
        return cost_micro(self.price, self._most_prompt(), self.choices * completion)

    def fit(self, tokens_left: int, micro_left: int) -> Fit:
        """The longest answer that fits into what is left."""
        longest = self._longest()
        tokens, micro = self.tokens(longest), self.micro(longest)
        if tokens <= tokens_left and micro <= micro_left:
            return Fit(self.completion, tokens, micro, is_clamped=False, is_by_money=False)
        by_tokens = by_money = self.completion
        if self.tokens(by_tokens) > tokens_left:
            by_tokens = min(by_tokens, (tokens_left - self.prompt_bound) // self.choices)
        if self.micro(by_money) > micro_left:
            by_money = min(by_money, self._affordable(micro_left))
        completion = max(0, min(by_tokens, by_money))
        return Fit(
            completion,
            self.tokens(completion),
            self.micro(completion),
            is_clamped=True,
            is_by_money=by_money < by_tokens,
        )

    def _longest(self) -> int:
        """Tokens that an answer can have where nothing is clamped."""
        if self.ceiling is None or not self.is_open:
            return self.completion
        has_room = self.prompt_bound + self.completion <= self.ceiling
        return self.completion if has_room else max(self.completion, self.ceiling)

    def _affordable(self, micro_left: int) -> int:
        """The longest answer whose price, rounded half up, is at most this."""
        # round_half_up(exact / T) <= left  is  exact <= (left + 1) T - T/2 - 1, in whole numbers.
        most = (micro_left + 1) * TOKENS_PER_PRICE - TOKENS_PER_PRICE // 2 - 1
        rest = most - self._most_prompt() * self.price.prompt_micro_per_mtok
        one = self.price.completion_micro_per_mtok * self.choices
        return 0 if rest < 0 or not one else rest // one

    def _most_prompt(self) -> int:
        return self.prompt_bound if self.ceiling is None else min(self.prompt_bound, self.ceiling)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of the limits: what OpenAI's rate limit headers say.

    Where a key has limits of its own, the narrower of both is told.

    Attributes:
        requests: Allowed a minute.
        requests_reset_s: Until the whole minute is free again, seconds.
        tokens: Allowed a day.
        tokens_left: Neither used nor reserved.
        tokens_reset_s: Until the tenant's midnight, seconds.
        budget_left_micro: Of the month's money, micro-USD; None without a budget.
    """

    requests: int
    requests_left: int
    requests_reset_s: float
    tokens: int
    tokens_left: int
    tokens_reset_s: float
    budget_left_micro: int | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that OpenAI's clients know, and ours for the budget."""
        found = [
            (b"x-ratelimit-limit-requests", b"%d" % self.requests),
            (b"x-ratelimit-remaining-requests", b"%d" % self.requests_left),
            (b"x-ratelimit-reset-requests", _duration(self.requests_reset_s)),
            (b"x-ratelimit-limit-tokens", b"%d" % self.tokens),
            (b"x-ratelimit-remaining-tokens", b"%d" % self.tokens_left),
            (b"x-ratelimit-reset-tokens", _duration(self.tokens_reset_s)),
        ]
        if self.budget_left_micro is not None:
            found.append((b"x-param-budget-left-micro", b"%d" % self.budget_left_micro))
        return found


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: `7ms`, `12s`, `6m0s`, `5h12m0s`."""
    if seconds < 1:
        return b"%dms" % max(0, round(seconds * 1000))
    minutes, rest = divmod(math.ceil(seconds), 60)
    if not minutes:
        return b"%ds" % rest
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, rest) if hours else b"%dm%ds" % (minutes, rest)


@dataclass(slots=True, eq=False)
class Hold:
    """What is reserved for one request.

    Attributes:
        day: The tenant's day on which the request was admitted; it is charged to that day and
            to that day's month.
        tokens: How many are reserved.
        micro: Money that is reserved.
        completion: What the answer may have of the tokens, one choice.
        is_clamped: Whether the engine has to be told `completion` as its maximum.
        expires: When the lease ends, monotonic seconds.
        standing: What was left after this was taken.
        is_released: The reservation was given back, by settling it or because the lease ended.
    """

    who: Who
    day: str
    tokens: int
    micro: int
    completion: int
    is_clamped: bool
    expires: float
    standing: Standing
    is_released: bool = False
    is_settled: bool = False


def dearest(prices: Iterable[Price]) -> Price:
    """The highest of each part of some prices."""
    found = tuple(prices)
    return Price(
        max(price.prompt_micro_per_mtok for price in found),
        max(price.completion_micro_per_mtok for price in found),
    )


class OverLimit(LimitExceeded):
    """A limit is reached.

    Attributes:
        limit: Which one: `tenant` or `key`, a dot, and the limit's name.
        standing: What is left of all of them.
    """

    def __init__(
        self, message: str, *, limit: str, standing: Standing, retry_after_s: float
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limit = limit
        self.standing = standing


class OverBudget(OverLimit, BudgetExceeded):
    """The month's money is spent."""


class Limiter(Protocol):
    """Admits requests and keeps count; asynchronous, so that a server can do it."""

    async def admit(self, who: Who, ask: Ask) -> Hold:
        """Reserve all that a request may need, or refuse and take nothing.

        Raises:
            OverLimit: Some limit is reached.
        """
        ...

    async def settle(self, hold: Hold, tokens: int = 0, micro: int = 0) -> None:
        """Replace the reservation by what was used; a second call changes nothing."""
        ...

    async def renew(self, hold: Hold) -> None:
        """Let the lease begin again: its request still runs."""
        ...
