import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import LimitExceeded
from services.gateway.limits import Ask, Hold, LocalLimiter
from services.tenants.models import Limits, Tenant

NOON = datetime(2026, 11, 21, 9, 0, tzinfo=UTC).timestamp()  # 12:00 in Istanbul


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tenant(tps: int = 10**6, rpm: int = 10**6, daily_tokens: int = 10**9) -> Tenant:
    limits = Limits(tps, rpm, daily_tokens)
    return Tenant("acme", "Acme", limits, "Europe/Istanbul", datetime(2026, 1, 1, tzinfo=UTC))


def limiter(clock: Clock, used: int = 0, who: Tenant | None = None) -> LocalLimiter:
    made = LocalLimiter(now=clock, monotonic=clock)
    made.learn(who or tenant(), used)
    return made


async def admitted(made: LocalLimiter, who: Tenant, ask: Ask) -> list[Hold]:
    try:
        return [await made.admit(who, ask)]
    except LimitExceeded:
        return []


async def test_no_window_of_a_second_ever_holds_more_than_the_limit() -> None:
    clock, who = Clock(), tenant(tps=5)
    made = limiter(clock)
    times: list[float] = []
    for _ in range(400):
        clock.now += 0.0137
        if await admitted(made, who, Ask(1, 1)):
            times.append(clock.now)
    assert all(later - earlier >= 1.0 for earlier, later in zip(times, times[5:], strict=False))
    assert len(times) >= 5 * 400 * 0.0137 * 0.9  # and what is allowed is given


async def test_the_minute_is_limited_beside_the_second() -> None:
    clock, who = Clock(), tenant(tps=100, rpm=3)
    made = limiter(clock)
    for _ in range(3):
        await made.admit(who, Ask(1, 1))
    clock.now += 10
    with pytest.raises(LimitExceeded, match="requests a minute: at most 3") as caught:
        await made.admit(who, Ask(1, 1))
    assert caught.value.retry_after_s == pytest.approx(50)


async def test_a_lowered_limit_holds_at_once() -> None:
    clock, made = Clock(), limiter(Clock())
    made = limiter(clock)
    for _ in range(5):
        await made.admit(tenant(tps=10), Ask(1, 1))
    with pytest.raises(LimitExceeded):
        await made.admit(tenant(tps=2), Ask(1, 1))


async def test_parallel_requests_for_the_last_tokens_never_overshoot() -> None:
    clock, who = Clock(), tenant(daily_tokens=10_000)
    made = limiter(clock, used=9_000)
    found = await asyncio.gather(*(admitted(made, who, Ask(20, 100)) for _ in range(200)))
    holds = [hold for (hold,) in filter(None, found)]
    assert sum(hold.tokens for hold in holds) <= 1_000
    assert made.left_today(who) < 21  # the last one was clamped to what was left
    for hold in holds:
        await made.settle(hold, hold.tokens)
    assert 9_000 + sum(hold.tokens for hold in holds) <= 10_000


async def test_what_was_reserved_and_not_used_comes_back() -> None:
    made, who = limiter(Clock()), tenant(daily_tokens=1_000)
    hold = await made.admit(who, Ask(100, 500))
    assert made.left_today(who) == 400
    await made.settle(hold, 50)
    await made.settle(hold, 0)  # a second time changes nothing
    assert made.left_today(who) == 950


async def test_an_answer_is_shortened_before_it_is_refused() -> None:
    made, who = limiter(Clock(), used=850), tenant(daily_tokens=1_000)
    hold = await made.admit(who, Ask(100, 500))
    assert (hold.completion, hold.is_clamped) == (50, True)


async def test_a_day_used_up_says_how_long_until_the_tenants_midnight() -> None:
    made, who = limiter(Clock(), used=1_000), tenant(daily_tokens=1_000)
    with pytest.raises(LimitExceeded, match="tokens a day: at most 1000") as caught:
        await made.admit(who, Ask(10, 10))
    assert caught.value.retry_after_s == 12 * 3600


async def test_the_tenants_midnight_begins_a_new_day() -> None:
    clock, who = Clock(), tenant(daily_tokens=1_000)
    made = limiter(clock)
    late = await made.admit(who, Ask(100, 100))
    clock.now += 12 * 3600
    fresh = await made.admit(who, Ask(100, 900))
    assert fresh.tokens == 1_000
    await made.settle(late, 200)  # charged to the day on which it was admitted
    assert made.left_today(who) == 0
    await made.settle(fresh, 500)
    assert made.left_today(who) == 500


async def test_the_context_bounds_the_reservation() -> None:
    made, who = limiter(Clock()), tenant(daily_tokens=10_000)
    hold = await made.admit(who, Ask(3_000, 1_024, ceiling=2_048))
    assert hold.tokens == 2_048


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 3)), max_size=30),
    st.integers(0, 2_000),
)
def test_reservations_never_exceed_what_is_left(
    asked: list[tuple[int, int, int]], limit: int
) -> None:
    async def run() -> None:
        made, who = limiter(Clock()), tenant(daily_tokens=limit)
        held = 0
        for prompt, completion, choices in asked:
            for hold in await admitted(made, who, Ask(prompt, completion, choices)):
                assert hold.completion >= 1
                assert hold.tokens >= prompt + choices * hold.completion
                held += hold.tokens
        assert held <= limit

    asyncio.run(run())


async def test_the_standing_counts_down_and_names_its_resets() -> None:
    clock, who = Clock(), tenant(tps=10, rpm=3, daily_tokens=100)
    made = limiter(clock, used=10)
    await made.admit(who, Ask(prompt_bound=5, completion=15))
    assert dict((await made.standing(who)).headers()) == {
        b"x-ratelimit-limit-requests": b"3",
        b"x-ratelimit-remaining-requests": b"2",
        b"x-ratelimit-reset-requests": b"1m0s",
        b"x-ratelimit-limit-tokens": b"100",
        b"x-ratelimit-remaining-tokens": b"70",
        b"x-ratelimit-reset-tokens": b"12h0m0s",
    }
    clock.now += 59.5
    assert (await made.standing(who)).requests_reset_s == 0.5
    clock.now += 0.5
    assert (await made.standing(who)).requests_left == 3
