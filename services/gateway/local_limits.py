"""The limits counted in this process: exact for one gateway.

After a restart the day's tokens and the month's money come back from the usage rows; the windows
start empty, and what runs at one time starts at nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from services.gateway.limits import LEASE_S, Ask, Hold, OverBudget, OverLimit, Standing, Who
from services.gateway.windows import Window
from services.metering.models import Used
from services.tenants.models import UNLIMITED, KeyLimits, Limits, Tenant

SECOND_S = 1.0
MINUTE_S = 60.0
UNBOUND = 2**62
"""What is left where nothing is limited."""

AT_ONCE_RETRY_S = 1.0
"""When to ask again where too many requests run; nobody knows when the first of them ends."""


class LocalLimiter:
    """Limits counted in this process.

    No method waits for anything, so each is one step for the event loop that they run in.

    Args:
        lease_s: How long a reservation holds without being renewed.
        now: Seconds since the epoch; decides which day it is.
        monotonic: Seconds that never go back; times windows and leases.
    """

    def __init__(
        self,
        *,
        lease_s: float = LEASE_S,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease_s = lease_s
        self._now = now
        self._monotonic = monotonic
        self._tenants: dict[str, _Account] = {}
        self._keys: dict[str, _Account] = {}
        # In the order in which they end: every lease has the same length.
        # Ordered: the first of a plain dict is found past all that were deleted before it.
        self._leases: OrderedDict[int, Hold] = OrderedDict()

    def knows(self, tenant_id: str) -> bool:
        """Whether the tenant's use of today was given by `learn`."""
        return tenant_id in self._tenants

    def learn(self, tenant: Tenant, used: Used) -> None:
        """Begin to count for a tenant from what its usage rows say; once per process."""
        if tenant.id in self._tenants:
            return
        zone = ZoneInfo(tenant.timezone)
        for key_id, tokens in used.tokens_by_key.items():
            self._keys[key_id] = _Account(zone, used.day, used=tokens)
        self._tenants[tenant.id] = _Account(
            zone, used.day, used=used.tokens, spent=used.month_micro
        )

    async def admit(self, who: Who, ask: Ask) -> Hold:
        """Reserve for one request; see `Limiter`.

        An answer that would not fit into what is left of the day or the month gets a smaller
        maximum instead of a refusal, down to one token.

        Raises:
            OverLimit: A limit is reached; nothing was taken.
            OverBudget: The month's money is spent.
        """
        now = self._monotonic()
        self._reap(now)
        tenant, key = self._accounts(who)
        self._find_turn(who, tenant, key, now)
        fit = ask.fit(*self._left(who, tenant, key))
        if not fit.completion:
            raise self._nothing_left(who, ask, fit.is_by_money)
        for account in (tenant, key):
            account.take(now, fit.tokens, fit.micro)
        hold = Hold(
            who=who,
            day=tenant.day,
            tokens=fit.tokens,
            micro=fit.micro,
            completion=fit.completion,
            is_clamped=fit.is_clamped,
            expires=now + self._lease_s,
            standing=self._standing(who, tenant, key, now),
        )
        self._leases[id(hold)] = hold
        return hold

    async def settle(self, hold: Hold, tokens: int = 0, micro: int = 0) -> None:
        """Replace the reservation by what was used; a day or month gone by no longer counts."""
        if hold.is_settled:
            return
        hold.is_settled = True
        self._release(hold)
        for account in self._accounts(hold.who):
            account.charge(hold.day, tokens, micro)

    async def renew(self, hold: Hold) -> None:
        """Let the lease begin again; one that has ended stays ended."""
        if self._leases.pop(id(hold), None) is not None:
            hold.expires = self._monotonic() + self._lease_s
            self._leases[id(hold)] = hold

    def standing(self, who: Who) -> Standing:
        """What is left now."""
        return self._standing(who, *self._accounts(who), self._monotonic())

    def left_today(self, tenant: Tenant) -> int:
        """Tokens that the tenant may still reserve today."""
        account = self._rolled(self._tenants[tenant.id])
        return max(0, tenant.limits.daily_tokens - account.used - account.held)

    def spent_this_month(self, tenant_id: str) -> tuple[str, int]:
        """The tenant's month, and what it has cost so far, micro-USD."""
        account = self._rolled(self._tenants[tenant_id])
        return account.day[:7], account.spent

    def running(self, tenant_id: str) -> int:
        """Requests of the tenant that run now."""
        return self._tenants[tenant_id].running

    def _accounts(self, who: Who) -> tuple[_Account, _Account]:
        tenant = self._rolled(self._tenants[who.tenant.id])
        key = self._keys.get(who.key_id)
        if key is None:
            # Not among the usage rows of the day on which the tenant was learned: a fresh key.
            key = self._keys[who.key_id] = _Account(tenant.zone, tenant.day)
        return tenant, self._rolled(key)

    def _rolled(self, account: _Account) -> _Account:
        account.roll(self._now())
        return account

    def _reap(self, now: float) -> None:
        """Give back what nobody settled in time."""
        while self._leases:
            hold = next(iter(self._leases.values()))
            if hold.expires > now:
                return
            self._release(hold)

    def _release(self, hold: Hold) -> None:
        if hold.is_released:
            return
        hold.is_released = True
        del self._leases[id(hold)]
        for account in self._accounts(hold.who):
            account.give_back(hold)

    def _find_turn(self, who: Who, tenant: _Account, key: _Account, now: float) -> None:
        """Refuse what comes too often, or beside too many others."""
        for name, account, limits in (
            ("tenant", tenant, who.tenant.limits),
            ("key", key, who.key_limits),
        ):
            if limits is UNLIMITED:
                continue
            found = account.too_many(limits, now)
            if found is not None:
                limit, message, wait = found
                raise OverLimit(
                    f"{message}{' for this key' if name == 'key' else ''}",
                    limit=f"{name}.{limit}",
                    standing=self._standing(who, tenant, key, now),
                    retry_after_s=wait,
                )

    def _left(self, who: Who, tenant: _Account, key: _Account) -> tuple[int, int]:
        """Tokens of the day and money of the month that may still be reserved."""
        limits = who.tenant.limits
        tokens = limits.daily_tokens - tenant.used - tenant.held
        if who.key_limits.daily_tokens is not None:
            tokens = min(tokens, who.key_limits.daily_tokens - key.used - key.held)
        if limits.monthly_micro is None:
            return tokens, UNBOUND
        return tokens, limits.monthly_micro - tenant.spent - tenant.held_micro

    def _nothing_left(self, who: Who, ask: Ask, by_money: bool) -> OverLimit:
        tenant, key = self._accounts(who)
        standing, now = self._standing(who, tenant, key, self._monotonic()), self._now()
        if by_money:
            return OverBudget(
                f"budget of the month: at most {who.tenant.limits.monthly_micro} micro-USD, "
                f"{tenant.spent} spent and {tenant.held_micro} reserved by running requests; this "
                f"one needs up to {ask.micro(1)}",
                limit="tenant.monthly_micro",
                standing=standing,
                retry_after_s=_month_ends(now, tenant.zone) - now,
            )
        name, account, most = "tenant", tenant, who.tenant.limits.daily_tokens
        own = who.key_limits.daily_tokens
        if own is not None and own - key.used - key.held < most - tenant.used - tenant.held:
            name, account, most = "key", key, own
        return OverLimit(
            f"tokens a day{' for this key' if name == 'key' else ''}: at most {most}, "
            f"{account.used} used and {account.held} reserved by running requests; this one needs "
            f"up to {ask.prompt_bound + ask.choices}",
            limit=f"{name}.daily_tokens",
            standing=standing,
            retry_after_s=account.day_ends - now,
        )

    def _standing(self, who: Who, tenant: _Account, key: _Account, now: float) -> Standing:
        limits, own = who.tenant.limits, who.key_limits
        tokens, micro = self._left(who, tenant, key)
        requests, minute = limits.rpm, tenant.minute
        left = requests - minute.count(now)
        if own.rpm is not None and own.rpm - key.minute.count(now) < left:
            requests, minute = own.rpm, key.minute
            left = requests - minute.count(now)
        return Standing(
            requests=requests,
            requests_left=max(0, left),
            requests_reset_s=minute.empty_in(now),
            tokens=min(limits.daily_tokens, own.daily_tokens or UNBOUND),
            tokens_left=max(0, tokens),
            tokens_reset_s=tenant.day_ends - self._now(),
            budget_left_micro=None if limits.monthly_micro is None else max(0, micro),
        )


@dataclass(slots=True)
class _Account:
    """The counts of one tenant or one key; tokens are those of `day`, money of its month."""

    zone: ZoneInfo
    day: str
    used: int = 0
    spent: int = 0
    held: int = 0
    held_micro: int = 0
    running: int = 0
    day_ends: float = 0.0
    second: Window = field(default_factory=lambda: Window(SECOND_S))
    minute: Window = field(default_factory=lambda: Window(MINUTE_S))

    def too_many(self, limits: Limits | KeyLimits, now: float) -> tuple[str, str, float] | None:
        """The limit that one more request would pass, why, and for how many seconds."""
        most = limits.concurrent
        if most is not None and self.running >= most:
            running = f"requests at one time: at most {most}, {self.running} run"
            return "concurrent", running, AT_ONCE_RETRY_S
        for name, window, limit, span in (
            ("tps", self.second, limits.tps, "second"),
            ("rpm", self.minute, limits.rpm, "minute"),
        ):
            if limit is not None and (wait := window.wait(now, limit)) > 0:
                return name, f"requests a {span}: at most {limit}, this would be one more", wait
        return None

    def take(self, now: float, tokens: int, micro: int) -> None:
        """Count one request and reserve what it may need."""
        self.second.take(now)
        self.minute.take(now)
        self.running += 1
        self.held += tokens
        self.held_micro += micro

    def give_back(self, hold: Hold) -> None:
        """Undo a reservation, as far as it was made in the present day and month."""
        self.running -= 1
        if hold.day == self.day:
            self.held -= hold.tokens
        if hold.day[:7] == self.day[:7]:
            self.held_micro -= hold.micro

    def charge(self, day: str, tokens: int, micro: int) -> None:
        """Count what was used on one day."""
        if day == self.day:
            self.used += tokens
        if day[:7] == self.day[:7]:
            self.spent += micro

    def roll(self, now: float) -> None:
        """Begin a new day, and maybe a new month, where the old one has ended."""
        if now < self.day_ends:
            return
        today = datetime.fromtimestamp(now, self.zone)
        midnight = today.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        day, self.day_ends = today.date().isoformat(), midnight.timestamp()
        if day != self.day:
            self.used = self.held = 0
        if day[:7] != self.day[:7]:
            self.spent = self.held_micro = 0
        self.day = day


def _month_ends(now: float, zone: ZoneInfo) -> float:
    today = datetime.fromtimestamp(now, zone)
    first = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1).timestamp()
