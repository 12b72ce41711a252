"""When an engine is left alone, and when it is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.gateway.answers import error_headers
from services.gateway.breaker import Breaker, State, Ticket, UpstreamFailed

FAILURES, OPEN_S = 3, 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock) -> Breaker:
    return Breaker("engine", failures=FAILURES, open_s=OPEN_S, monotonic=clock)


def broken(made: Breaker) -> None:
    for _ in range(FAILURES):
        made.enter().failed()


def answered(made: Breaker) -> None:
    ticket = made.enter()
    ticket.begun()
    ticket.ended()


def test_failures_in_a_row_open_it_and_an_answer_between_them_does_not() -> None:
    made = breaker(Clock())
    for _ in range(10):
        made.enter().failed()
        made.enter().failed()
        answered(made)
    assert made.state is State.CLOSED
    broken(made)
    assert (made.state, made.times_opened) == (State.OPEN, 1)
    with pytest.raises(UpstreamFailed, match="failed 3 times in a row") as refused:
        made.enter()
    assert (refused.value.reason, refused.value.counts) == ("open", False)


def test_who_is_refused_is_told_when_to_come_again() -> None:
    clock = Clock()
    made = breaker(clock)
    broken(made)
    began, said = clock.now, []
    for waited in (0.0, OPEN_S - 1.5, OPEN_S - 0.01):
        clock.now = began + waited
        with pytest.raises(UpstreamFailed) as refused:
            made.enter()
        said += error_headers(refused.value)
    clock.now = began + OPEN_S
    made.enter()  # While this one tries the engine, the others are to come back soon.
    with pytest.raises(UpstreamFailed) as refused:
        made.enter()
    said += error_headers(refused.value)
    whole = str(int(OPEN_S)).encode()
    assert said == [(b"retry-after", seconds) for seconds in (whole, b"2", b"1", b"1")]
    assert error_headers(UpstreamFailed("x", "connect")) == []


def test_one_request_tries_it_and_the_others_wait_for_what_it_finds() -> None:
    clock = Clock()
    made = breaker(clock)
    broken(made)
    clock.now += OPEN_S - 0.1
    assert made.state is State.OPEN
    clock.now += 0.1
    assert made.state is State.HALF_OPEN
    probe = made.enter()
    with pytest.raises(UpstreamFailed):
        made.enter()
    probe.begun()
    assert made.state is State.CLOSED
    made.enter()


def test_a_probe_that_fails_opens_it_for_the_whole_time_again() -> None:
    clock = Clock()
    made = breaker(clock)
    broken(made)
    clock.now += OPEN_S
    made.enter().failed()
    assert (made.retry_in_s, made.times_opened) == (OPEN_S, 2)


def test_a_probe_whose_client_leaves_lets_the_next_request_try() -> None:
    clock = Clock()
    made = breaker(clock)
    broken(made)
    clock.now += OPEN_S
    made.enter().abandoned()
    assert made.state is State.HALF_OPEN
    answered(made)
    assert made.state is State.CLOSED


def test_answers_that_begin_but_never_end_do_not_keep_it_closed() -> None:
    clock = Clock()
    made = breaker(clock)
    broken(made)
    clock.now += OPEN_S
    probe = made.enter()
    probe.begun()
    probe.failed()  # broke off in the middle: one failure is enough after a breakdown
    assert made.state is State.OPEN


def test_requests_from_before_it_opened_change_nothing() -> None:
    clock = Clock()
    made = breaker(clock)
    late = [made.enter() for _ in range(5)]
    broken(made)
    clock.now += OPEN_S / 2
    for ticket in late[:3]:
        ticket.failed()
    late[3].ended()
    late[4].abandoned()
    assert (made.state, made.retry_in_s) == (State.OPEN, OPEN_S / 2)


def test_a_sign_of_life_lets_the_next_request_try_at_once() -> None:
    made = breaker(Clock())
    made.try_soon()
    assert made.state is State.CLOSED
    broken(made)
    made.try_soon()
    assert made.state is State.HALF_OPEN
    answered(made)
    assert made.state is State.CLOSED


@pytest.mark.parametrize(
    ("reason", "counts"),
    [("connect", True), ("silence", True), ("status_503", True), ("status_500", False),
     ("busy", False)],
)  # fmt: skip
def test_what_one_request_brings_about_does_not_count(reason: str, counts: bool) -> None:
    assert UpstreamFailed("x", reason).counts is counts


@given(st.integers(1, 6), st.lists(st.booleans(), max_size=40))
def test_it_opens_at_the_first_row_of_failures_that_is_long_enough(
    limit: int, ends_well: list[bool]
) -> None:
    made = Breaker("engine", failures=limit, open_s=1e9)
    row, opened = 0, False
    for well in ends_well:
        if opened:
            break
        ticket = made.enter()
        if well:
            ticket.begun()
            ticket.ended()
        else:
            ticket.failed()
        row = 0 if well else row + 1
        opened = row >= limit
    assert (made.state is State.OPEN) is opened


class Traffic(RuleBasedStateMachine):
    """Requests in any order: whatever happens, an engine that is tried gets one request."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = breaker(self.clock)
        self.running: list[Ticket] = []
        self.probes: list[Ticket] = []

    @rule()
    def ask(self) -> None:
        state = self.breaker.state
        try:
            ticket = self.breaker.enter()
        except UpstreamFailed:
            assert state is not State.CLOSED
            return
        self.running.append(ticket)
        if state is State.HALF_OPEN:
            assert not self.probes
            self.probes.append(ticket)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), end=st.sampled_from(["ended", "failed", "abandoned"]))
    def end(self, data: st.DataObject, end: str) -> None:
        ticket = data.draw(st.sampled_from(self.running))
        getattr(ticket, end)()
        ticket.failed()  # a second end changes nothing
        self.running.remove(ticket)
        if ticket in self.probes:
            self.probes.remove(ticket)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.running))
        ticket.begun()
        if ticket in self.probes:
            self.probes.remove(ticket)

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def is_in_one_state(self) -> None:
        assert self.breaker.failures >= 0
        assert (self.breaker.state is State.OPEN) == (self.breaker.retry_in_s > 0)


TestTraffic = Traffic.TestCase
