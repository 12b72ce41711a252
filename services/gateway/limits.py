"""How much a tenant may ask for: requests a second and a minute, tokens a day.

Windows are exact sliding windows at amortised O(1): the times of at most `limit` admitted
requests are kept, nothing else. Tokens are reserved before the engine is asked and settled after
it answered, so parallel requests cannot overshoot the day together.

`Limiter` is what the gateway needs; `LocalLimiter` keeps the counts in this process and is exact
for one gateway. After a restart the day's tokens come back from the usage rows, the windows start
empty.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from services.errors import LimitExceeded
from services.tenants.models import Limits, Tenant

SECOND_S = 1.0
MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request may cost at most.

    Attributes:
        prompt_bound: Upper bound of the prompt's tokens.
        completion: Tokens that the answer may have, one choice.
        choices: Answers asked for; each may have `completion` tokens.
        ceiling: Tokens that prompt and one answer can have together (the model's context).
    """

    prompt_bound: int
    completion: int
    choices: int = 1
    ceiling: int | None = None

    def total(self) -> int:
        """Tokens to reserve."""
        one = self.prompt_bound + self.completion
        if self.ceiling is not None:
            one = min(one, max(self.ceiling, self.completion))
        return one + (self.choices - 1) * self.completion


@dataclass(slots=True)
class Hold:
    """Tokens reserved for one request.

    Attributes:
        day: The tenant's day on which the request was admitted; it is charged to that day.
        tokens: How many are reserved.
        completion: What the answer may have of them, one choice.
        is_clamped: Whether `completion` is less than was asked for.
    """

    tenant_id: str
    day: str
    tokens: int
    completion: int
    is_clamped: bool
    is_settled: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of its limits a tenant has left: what OpenAI's rate limit headers say.

    Attributes:
        requests: Allowed a minute.
        requests_reset_s: Until the whole minute is free again, seconds.
        tokens: Allowed a day.
        tokens_left: Neither used nor reserved.
        tokens_reset_s: Until the tenant's midnight, seconds.
    """

    requests: int
    requests_left: int
    requests_reset_s: float
    tokens: int
    tokens_left: int
    tokens_reset_s: float

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that OpenAI's clients know."""
        return [
            (b"x-ratelimit-limit-requests", b"%d" % self.requests),
            (b"x-ratelimit-remaining-requests", b"%d" % self.requests_left),
            (b"x-ratelimit-reset-requests", _duration(self.requests_reset_s)),
            (b"x-ratelimit-limit-tokens", b"%d" % self.tokens),
            (b"x-ratelimit-remaining-tokens", b"%d" % self.tokens_left),
            (b"x-ratelimit-reset-tokens", _duration(self.tokens_reset_s)),
        ]


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: `7ms`, `12s`, `6m0s`, `5h12m0s`."""
    if seconds < 1:
        return b"%dms" % max(0, round(seconds * 1000))
    minutes, rest = divmod(math.ceil(seconds), 60)
    if not minutes:
        return b"%ds" % rest
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, rest) if hours else b"%dm%ds" % (minutes, rest)


class Limiter(Protocol):
    """Admits requests and keeps the day's tokens; asynchronous, so that a server can do it."""

    async def admit(self, tenant: Tenant, ask: Ask) -> Hold:
        """Reserve, or refuse with `LimitExceeded`."""
        ...

    async def settle(self, hold: Hold, tokens: int) -> None:
        """Replace the reservation by what was used; a second call changes nothing."""
        ...

    async def standing(self, tenant: Tenant) -> Standing:
        """What the tenant has left."""
        ...


class LocalLimiter:
    """Limits counted in this process.

    Args:
        now: Seconds since the epoch; decides which day it is.
        monotonic: Seconds that never go back; times the windows.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._accounts: dict[str, _Account] = {}

    def knows(self, tenant_id: str) -> bool:
        """Whether the tenant's tokens of today were given by `learn`."""
        return tenant_id in self._accounts

    def learn(self, tenant: Tenant, tokens_today: int) -> None:
        """Begin to count for a tenant from what its usage rows say; once per process."""
        if tenant.id not in self._accounts:
            self._accounts[tenant.id] = _Account(ZoneInfo(tenant.timezone), used=tokens_today)

    async def admit(self, tenant: Tenant, ask: Ask) -> Hold:
        """Reserve tokens for one request.

        An answer that would not fit into what is left of the day gets a smaller maximum instead
        of a refusal, down to one token.

        Raises:
            LimitExceeded: Too many requests in a second or minute, or no token is left today.
        """
        account = self._accounts[tenant.id]
        self._take_turn(account, tenant.limits)
        account.roll(self._now())
        left = tenant.limits.daily_tokens - account.used - account.held
        completion = ask.completion
        tokens = ask.total()
        if tokens > left:
            completion = min(completion, (left - ask.prompt_bound) // ask.choices)
            tokens = ask.prompt_bound + ask.choices * completion
        if completion < 1:
            raise LimitExceeded(
                f"tokens a day: at most {tenant.limits.daily_tokens}, {account.used} used and "
                f"{account.held} reserved by running requests; this one needs up to "
                f"{ask.prompt_bound + ask.choices}",
                retry_after_s=account.day_ends - self._now(),
            )
        account.held += tokens
        return Hold(tenant.id, account.day, tokens, completion, completion < ask.completion)

    async def settle(self, hold: Hold, tokens: int) -> None:
        """Replace the reservation by the tokens used; those of a day gone by no longer count."""
        if hold.is_settled:
            return
        hold.is_settled = True
        account = self._accounts[hold.tenant_id]
        account.roll(self._now())
        if hold.day == account.day:
            account.held -= hold.tokens
            account.used += tokens

    def left_today(self, tenant: Tenant) -> int:
        """Tokens that the tenant may still reserve today."""
        account = self._accounts[tenant.id]
        account.roll(self._now())
        return max(0, tenant.limits.daily_tokens - account.used - account.held)

    async def standing(self, tenant: Tenant) -> Standing:
        """What the tenant has left, the requests that run now counted."""
        account, limits = self._accounts[tenant.id], tenant.limits
        now = self._monotonic()
        account.minute.wait(now, limits.rpm, MINUTE_S)
        times = account.minute.times
        return Standing(
            requests=limits.rpm,
            requests_left=max(0, limits.rpm - len(times)),
            requests_reset_s=times[-1] + MINUTE_S - now if times else 0.0,
            tokens=limits.daily_tokens,
            tokens_left=self.left_today(tenant),
            tokens_reset_s=account.day_ends - self._now(),
        )

    def _take_turn(self, account: _Account, limits: Limits) -> None:
        now = self._monotonic()
        for window, limit, span, name in (
            (account.second, limits.tps, SECOND_S, "second"),
            (account.minute, limits.rpm, MINUTE_S, "minute"),
        ):
            wait = window.wait(now, limit, span)
            if wait > 0:
                raise LimitExceeded(
                    f"requests a {name}: at most {limit}, this would be one more",
                    retry_after_s=wait,
                )
        account.second.times.append(now)
        account.minute.times.append(now)


@dataclass(slots=True)
class _Window:
    times: deque[float] = field(default_factory=deque)

    def wait(self, now: float, limit: int, span: float) -> float:
        """Seconds until one more request fits; 0 if it fits now."""
        times = self.times
        while times and times[0] <= now - span:
            times.popleft()
        if len(times) < limit:
            return 0.0
        return times[len(times) - limit] + span - now if limit > 0 else span


@dataclass(slots=True)
class _Account:
    """One tenant's counts; `held` and `used` are those of `day`."""

    zone: ZoneInfo
    used: int
    held: int = 0
    day: str = ""
    day_ends: float = 0.0
    second: _Window = field(default_factory=_Window)
    minute: _Window = field(default_factory=_Window)

    def roll(self, now: float) -> None:
        """Begin a new day where the old one has ended."""
        if now < self.day_ends:
            return
        today = datetime.fromtimestamp(now, self.zone)
        midnight = today.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        is_first = not self.day
        self.day, self.day_ends = today.date().isoformat(), midnight.timestamp()
        if not is_first:
            self.used = self.held = 0
