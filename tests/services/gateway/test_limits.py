import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.errors import BudgetExceeded, LimitExceeded
from services.gateway.limits import Ask, Hold, OverLimit, Who, dearest
from services.gateway.local_limits import LocalLimiter
from services.gateway.windows import SLOTS, Window
from services.metering.models import Price, Used
from services.metering.service import cost_micro
from services.tenants.models import UNLIMITED, KeyLimits, Limits, Tenant

NOON = datetime(2026, 11, 21, 9, 0, tzinfo=UTC).timestamp()  # 12:00 in Istanbul
DAY_S = 86_400.0
PLENTY = Limits(tps=10**6, rpm=10**6, daily_tokens=10**9)
PRICE = Price(3_000_000, 15_000_000)


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def who(key: KeyLimits = UNLIMITED, key_id: str = "k1", **limits: int | None) -> Who:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    tenant = Tenant("acme", "Acme", replace(PLENTY, **limits), "Europe/Istanbul", created)  # type: ignore[arg-type]
    return Who(tenant, key_id, key)


def limiter(clock: Clock, used: int = 0, spent: int = 0, **by_key: int) -> LocalLimiter:
    made = LocalLimiter(now=clock, monotonic=clock, lease_s=900)
    made.learn(who().tenant, Used("2026-11-21", used, by_key, spent))
    return made


async def admitted(made: LocalLimiter, asker: Who, ask: Ask) -> list[Hold]:
    try:
        return [await made.admit(asker, ask)]
    except LimitExceeded:
        return []


@given(
    st.lists(st.floats(0, 0.4), max_size=200),
    st.integers(1, 20),
)
def test_no_window_ever_holds_more_than_the_limit_and_none_is_held_back_long(
    pauses: list[float], limit: int
) -> None:
    window, now, times = Window(1.0), 1000.0, []
    for pause in pauses:
        now += pause
        wait = window.wait(now, limit)
        in_window = sum(time > now - 1.0 for time in times)
        if wait == 0:
            window.take(now)
            times.append(now)
            assert in_window < limit
        else:
            # Refused although it would fit: only where a place became free a moment ago.
            assert sum(time > now - 1.0 - 1.0 / SLOTS - 1e-6 for time in times) >= limit
            assert 0 < wait <= 1.0 + 1.0 / SLOTS
            assert window.wait(now + wait + 1e-6, limit) == 0
            window = rebuilt(times, now)


def rebuilt(times: list[float], now: float) -> Window:
    """The window as it was before somebody looked into the future."""
    window = Window(1.0)
    for time in times:
        window.take(time)
    window.count(now)
    return window


async def test_the_minute_is_limited_beside_the_second() -> None:
    clock, asker = Clock(), who(tps=100, rpm=3)
    made = limiter(clock)
    for _ in range(3):
        await made.admit(asker, Ask(1, 1))
    clock.now += 10
    with pytest.raises(OverLimit, match="requests a minute: at most 3") as caught:
        await made.admit(asker, Ask(1, 1))
    assert 50 <= caught.value.retry_after_s <= 51
    assert caught.value.limit == "tenant.rpm"
    assert caught.value.standing.requests_left == 0
    clock.now += caught.value.retry_after_s
    assert await admitted(made, asker, Ask(1, 1))


async def test_a_lowered_limit_holds_at_once() -> None:
    made = limiter(Clock())
    for _ in range(5):
        await made.admit(who(tps=10), Ask(1, 1))
    with pytest.raises(LimitExceeded):
        await made.admit(who(tps=2), Ask(1, 1))


async def test_what_is_refused_takes_nothing() -> None:
    clock = Clock()
    made = limiter(clock)
    asker = who(rpm=2, daily_tokens=10)
    for _ in range(5):
        assert not await admitted(made, asker, Ask(50, 1))
    assert made.standing(asker).requests_left == 2
    assert made.running("acme") == 0


async def test_a_key_is_limited_within_its_tenant_and_others_are_not() -> None:
    clock = Clock()
    made = limiter(clock)
    narrow = who(KeyLimits(tps=1, rpm=2, daily_tokens=300), tps=5)
    await made.admit(narrow, Ask(10, 10))
    with pytest.raises(OverLimit, match="for this key") as caught:
        await made.admit(narrow, Ask(10, 10))
    assert caught.value.limit == "key.tps"
    for _ in range(4):
        await made.admit(who(key_id="k2", tps=5), Ask(10, 10))
    with pytest.raises(OverLimit) as caught:
        await made.admit(who(key_id="k2", tps=5), Ask(10, 10))
    assert caught.value.limit == "tenant.tps"
    clock.now += 2
    hold = await made.admit(narrow, Ask(10, 1000))
    assert (hold.completion, hold.is_clamped) == (270, True)
    assert (hold.standing.tokens, hold.standing.tokens_left) == (300, 0)
    assert hold.standing.requests == 2
    clock.now += 70
    with pytest.raises(OverLimit, match="tokens a day for this key") as caught:
        await made.admit(narrow, Ask(10, 10))
    assert caught.value.limit == "key.daily_tokens"


async def test_a_keys_tokens_of_today_are_remembered() -> None:
    made = limiter(Clock(), used=500, k1=450)
    hold = await made.admit(who(KeyLimits(daily_tokens=500)), Ask(10, 100))
    assert hold.completion == 40


@pytest.mark.parametrize("key", [UNLIMITED, KeyLimits(concurrent=2)])
async def test_only_so_many_requests_run_at_one_time(key: KeyLimits) -> None:
    made = limiter(Clock())
    asker = who(key, concurrent=None if key.concurrent else 2)
    first, _second = [await made.admit(asker, Ask(1, 1)) for _ in range(2)]
    with pytest.raises(OverLimit, match="at one time: at most 2, 2 run"):
        await made.admit(asker, Ask(1, 1))
    await made.settle(first)
    await made.settle(first)
    assert await admitted(made, asker, Ask(1, 1))
    assert not await admitted(made, asker, Ask(1, 1))


async def test_parallel_requests_for_the_last_tokens_never_overshoot() -> None:
    made, asker = limiter(Clock(), used=9_000), who(daily_tokens=10_000)
    found = await asyncio.gather(*(admitted(made, asker, Ask(20, 100)) for _ in range(200)))
    holds = [hold for (hold,) in filter(None, found)]
    assert sum(hold.tokens for hold in holds) <= 1_000
    assert made.left_today(asker.tenant) < 21  # the last one was clamped to what was left
    for hold in holds:
        await made.settle(hold, hold.tokens)
    assert 9_000 + sum(hold.tokens for hold in holds) <= 10_000


async def test_parallel_requests_for_the_last_cents_never_overshoot() -> None:
    made, asker = limiter(Clock(), spent=990_000), who(monthly_micro=1_000_000)
    ask = Ask(20, 100, price=PRICE)
    found = await asyncio.gather(*(admitted(made, asker, ask) for _ in range(200)))
    holds = [hold for (hold,) in filter(None, found)]
    assert sum(hold.micro for hold in holds) <= 10_000
    assert 10_000 - sum(hold.micro for hold in holds) < cost_micro(PRICE, 20, 1)
    assert holds[-1].is_clamped
    for hold in holds:
        await made.settle(hold, hold.tokens, hold.micro)
    assert made.spent_this_month("acme") == ("2026-11", 990_000 + sum(h.micro for h in holds))
    with pytest.raises(BudgetExceeded, match="budget of the month: at most 1000000 micro-USD"):
        await made.admit(asker, ask)


async def test_money_left_shortens_an_answer_before_it_refuses_it() -> None:
    made, asker = limiter(Clock()), who(monthly_micro=1_000)
    hold = await made.admit(asker, Ask(100, 500, price=PRICE))
    assert hold.completion == (1_000 - 300) // 15
    assert hold.micro == cost_micro(PRICE, 100, hold.completion) <= 1_000
    assert hold.standing.budget_left_micro == 1_000 - hold.micro
    with pytest.raises(BudgetExceeded) as caught:
        await made.admit(asker, Ask(100, 500, price=PRICE))
    nine_days_and_a_half = 9.5 * DAY_S  # from noon of the 21st to the end of the month
    assert caught.value.retry_after_s == nine_days_and_a_half
    await made.settle(hold, 30, 90)
    assert made.standing(asker).budget_left_micro == 910


@given(
    ask=st.builds(
        Ask, st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 4),
        st.one_of(st.none(), st.integers(1, 8000)),
        st.builds(Price, st.integers(0, 10**8), st.integers(0, 10**8)), st.booleans(),
    ),
    tokens=st.integers(-10, 30_000),
    micro=st.integers(-10, 10**6),
    data=st.data(),
)  # fmt: skip
def test_what_fits_covers_whatever_the_engine_may_do(
    ask: Ask, tokens: int, micro: int, data: st.DataObject
) -> None:
    fit = ask.fit(tokens, micro)
    if not fit.completion:
        return
    assert fit.tokens <= tokens
    assert fit.micro <= micro
    # Any answer that an engine can give keeps within it: its prompt and each of its choices fit
    # into the context, and no choice is longer than what it was told, if it was told.
    told = fit.is_clamped or not ask.is_open or ask.ceiling is None
    told = told or ask.prompt_bound + ask.completion <= (ask.ceiling or 0)
    context = ask.ceiling or 10**6
    prompt = data.draw(st.integers(0, min(ask.prompt_bound, context)))
    longest = min(context - prompt, fit.completion if told else context)
    given_ = data.draw(st.integers(0, max(0, longest))) * ask.choices
    assert prompt + given_ <= fit.tokens
    assert cost_micro(ask.price, prompt, given_) <= fit.micro


async def test_one_token_more_than_the_money_allows_would_be_too_dear() -> None:
    made, asker = limiter(Clock()), who(monthly_micro=777)
    hold = await made.admit(asker, Ask(31, 10_000, price=PRICE))
    assert cost_micro(PRICE, 31, hold.completion + 1) > 777


def test_the_dearest_of_each_part_is_reserved() -> None:
    assert dearest([Price(1, 9), Price(5, 2)]) == Price(5, 9)


async def test_what_was_reserved_and_not_used_comes_back() -> None:
    made, asker = limiter(Clock()), who(daily_tokens=1_000)
    hold = await made.admit(asker, Ask(100, 500))
    assert made.left_today(asker.tenant) == 400
    await made.settle(hold, 50)
    await made.settle(hold, 0)  # a second time changes nothing
    assert made.left_today(asker.tenant) == 950


async def test_a_reservation_that_nobody_settles_comes_back_when_its_lease_ends() -> None:
    clock, asker = Clock(), who(daily_tokens=1_000, concurrent=1, monthly_micro=10_000)
    made = limiter(clock)
    lost = await made.admit(asker, Ask(100, 500, price=PRICE))
    clock.now += 899
    assert not await admitted(made, asker, Ask(100, 100))
    clock.now += 1
    second = await made.admit(asker, Ask(100, 100, price=PRICE))
    assert made.left_today(asker.tenant) == 800
    await made.settle(lost, 300, 7)  # whoever comes late is charged all the same
    assert made.left_today(asker.tenant) == 500
    await made.settle(second, 0)
    assert (made.running("acme"), made.spent_this_month("acme")[1]) == (0, 7)


async def test_a_long_stream_keeps_its_reservation() -> None:
    clock, asker = Clock(), who(concurrent=1)
    made = limiter(clock)
    hold = await made.admit(asker, Ask(1, 1))
    for _ in range(5):
        clock.now += 600
        await made.renew(hold)
        assert not await admitted(made, asker, Ask(1, 1))
    await made.settle(hold)
    await made.renew(hold)
    assert await admitted(made, asker, Ask(1, 1))


async def test_an_answer_is_shortened_before_it_is_refused() -> None:
    made, asker = limiter(Clock(), used=850), who(daily_tokens=1_000)
    hold = await made.admit(asker, Ask(100, 500))
    assert (hold.completion, hold.is_clamped) == (50, True)


async def test_a_day_used_up_says_how_long_until_the_tenants_midnight() -> None:
    made, asker = limiter(Clock(), used=1_000), who(daily_tokens=1_000)
    with pytest.raises(LimitExceeded, match="tokens a day: at most 1000") as caught:
        await made.admit(asker, Ask(10, 10))
    assert caught.value.retry_after_s == 12 * 3600


async def test_the_tenants_midnight_begins_a_new_day() -> None:
    clock, asker = Clock(), who(KeyLimits(daily_tokens=1_000), daily_tokens=1_000)
    made = limiter(clock)
    late = await made.admit(asker, Ask(100, 100))
    clock.now += 12 * 3600
    fresh = await made.admit(asker, Ask(100, 900))
    assert fresh.tokens == 1_000
    await made.settle(late, 200)  # charged to the day on which it was admitted
    assert made.left_today(asker.tenant) == 0
    await made.settle(fresh, 500)
    assert made.left_today(asker.tenant) == 500


async def test_the_tenants_first_of_the_month_begins_a_new_budget() -> None:
    clock = Clock(datetime(2026, 11, 30, 20, 59, tzinfo=UTC).timestamp())  # 23:59 in Istanbul
    made, asker = LocalLimiter(now=clock, monotonic=clock), who(monthly_micro=10_000)
    made.learn(asker.tenant, Used("2026-11-30", 0, {}, 9_000))
    late = await made.admit(asker, Ask(100, 20, price=PRICE))
    clock.now += 120
    assert made.spent_this_month("acme") == ("2026-12", 0)
    fresh = await made.admit(asker, Ask(100, 500, price=PRICE))
    await made.settle(late, 120, 600)  # November's, which is over
    await made.settle(fresh, 600, 7_800)
    assert made.spent_this_month("acme") == ("2026-12", 7_800)


async def test_yesterdays_tokens_do_not_count_where_midnight_passed_unseen() -> None:
    clock = Clock()
    made = limiter(clock, used=900, spent=5)
    clock.now += DAY_S
    assert made.left_today(who(daily_tokens=1_000).tenant) == 1_000
    assert made.spent_this_month("acme") == ("2026-11", 5)


async def test_the_context_bounds_the_reservation() -> None:
    made, asker = limiter(Clock()), who(daily_tokens=10_000)
    hold = await made.admit(asker, Ask(3_000, 1_024, ceiling=2_048))
    assert hold.tokens == 2_048


async def test_the_standing_counts_down_and_names_its_resets() -> None:
    clock, asker = Clock(), who(tps=10, rpm=3, daily_tokens=100)
    made = limiter(clock, used=10)
    hold = await made.admit(asker, Ask(prompt_bound=5, completion=15))
    assert dict(hold.standing.headers()) == {
        b"x-ratelimit-limit-requests": b"3",
        b"x-ratelimit-remaining-requests": b"2",
        b"x-ratelimit-reset-requests": b"1m1s",
        b"x-ratelimit-limit-tokens": b"100",
        b"x-ratelimit-remaining-tokens": b"70",
        b"x-ratelimit-reset-tokens": b"12h0m0s",
    }
    clock.now += 59.5
    assert made.standing(asker).requests_reset_s == 1.5
    clock.now += 1.5
    assert made.standing(asker).requests_left == 3


class Ledger(RuleBasedStateMachine):
    """Requests that come, are answered, are lost, over days and months, against plain sums."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.asker = who(
            KeyLimits(daily_tokens=4_000, concurrent=5),
            daily_tokens=6_000, monthly_micro=80_000, concurrent=8,
        )  # fmt: skip
        self.limiter = limiter(self.clock)
        self.open: list[tuple[str, Hold]] = []
        self.tokens: dict[str, int] = {}
        self.micro: dict[str, int] = {}

    def today(self) -> str:
        return self.limiter._tenants["acme"].day

    @rule(prompt=st.integers(1, 900), completion=st.integers(1, 900), mine=st.booleans())
    def ask(self, prompt: int, completion: int, mine: bool) -> None:
        asker = self.asker if mine else replace(self.asker, key_id="k2", key_limits=UNLIMITED)
        for hold in asyncio.run(
            admitted(self.limiter, asker, Ask(prompt, completion, price=PRICE))
        ):
            self.open.append((self.today(), hold))

    @rule(data=st.data(), part=st.integers(0, 100))
    def answer(self, data: st.DataObject, part: int) -> None:
        if self.open:
            day, hold = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            tokens, micro = hold.tokens * part // 100, hold.micro * part // 100
            asyncio.run(self.limiter.settle(hold, tokens, micro))
            self.tokens[day] = self.tokens.get(day, 0) + tokens
            self.micro[day[:7]] = self.micro.get(day[:7], 0) + micro

    @rule(seconds=st.sampled_from([1, 30, 300, 6 * 3600, DAY_S, 12 * DAY_S]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        # Whoever is still answered then is answered too late: its lease has ended.
        self.open = [(day, hold) for day, hold in self.open if hold.expires > self.clock.now]

    @invariant()
    def nothing_is_overshot_and_all_is_accounted_for(self) -> None:
        self.limiter._reap(self.clock.now)
        account = self.limiter._rolled(self.limiter._tenants["acme"])
        held = sum(hold.tokens for day, hold in self.open if day == account.day)
        assert account.used == self.tokens.get(account.day, 0)
        assert account.spent == self.micro.get(account.day[:7], 0)
        assert account.held == held
        assert account.running == len(self.open)
        assert account.used + account.held <= 6_000
        assert account.spent + account.held_micro <= 80_000


Ledger.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestLedger = Ledger.TestCase
