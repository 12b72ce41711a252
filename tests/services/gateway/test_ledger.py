"""The process that records answers: what it writes, and what is left when it or its gateway dies."""

from __future__ import annotations

import pickle
from dataclasses import fields
from datetime import UTC
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bootstrap import Services
from services.errors import Unavailable
from services.gateway.ledger import Ledger, LocalLedger, Scribe
from services.gateway.outcome import Chosen, Model, Outcome, Status, read_outcome
from services.gateway.recording import Unrecordable
from services.metering.models import Price
from services.rollouts.models import Arm
from services.tenants.models import Actor, Role
from tests.services.gateway.conftest import SYSTEM
from tests.services.gateway.outcomes import outcome, requests

counts = st.integers(0, 2**53)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
digests = st.binary(min_size=32, max_size=32)
times = st.datetimes(timezones=st.just(UTC))
models = st.builds(Model, words, st.none() | words, words, words)
choices = st.builds(
    Chosen, words, models, st.sampled_from(Arm), st.none() | words, st.integers(0, 100),
    st.none() | st.integers(0, 9999), st.booleans(),
    st.none() | st.builds(Chosen, words, models, st.sampled_from(Arm)),
)  # fmt: skip
outcomes = st.builds(
    Outcome, words, words,
    st.builds(
        Actor, st.sampled_from(["key", "system"]), words, words,
        st.dictionaries(words, st.frozensets(st.sampled_from(Role))),
    ),
    choices, st.booleans(), times, times, digests, digests, st.sampled_from(Status), words,
    counts, counts, counts, st.none() | counts, counts, words,
    st.dictionaries(words, counts), st.tuples(words, st.builds(Price, counts, counts)),
    st.booleans(), words,
)  # fmt: skip


@given(outcomes)
def test_a_line_says_all_of_an_outcome(one: Outcome) -> None:
    line = one.line()
    assert b"\n" not in line
    assert read_outcome(orjson.loads(line)) == one
    assert set(orjson.loads(line)) == {field.name for field in fields(Outcome)}


@given(outcomes, st.none() | st.tuples(st.binary(), st.binary(), counts))
def test_an_outcome_travels_as_it_is(one: Outcome, texts: tuple[bytes, bytes, int] | None) -> None:
    one.texts = texts
    assert pickle.loads(pickle.dumps(one)) == one


async def test_both_ledgers_write_the_same(services: Services) -> None:
    here, there = LocalLedger(services), Scribe()
    try:
        first, second = outcome(), outcome()
        await here.write([first])
        await there.write([second])
    finally:
        await here.close()
        await there.close()
    assert requests(services) == [first.request_id, second.request_id]
    for one in (first, second):
        document = services.receipts.get(SYSTEM, one.request_id)
        assert services.receipts.verify(document.envelope).holds
    rows = services.metering.usage_rows(SYSTEM, "acme")
    assert {(row.request_id, row.cost_micro) for row in rows} == {
        (first.request_id, 11), (second.request_id, 11),
    }  # fmt: skip
    services.audit.verify()


async def test_a_batch_that_cannot_be_written_leaves_nothing_and_the_next_one_is(
    services: Services,
) -> None:
    scribe = Scribe()
    try:
        good, stranger = outcome(), outcome(tenant_id="nobody")
        with pytest.raises(Unrecordable, match="nobody"):
            await scribe.write([good, stranger])
        assert requests(services) == []
        await scribe.write([good])
    finally:
        await scribe.close()
    assert requests(services) == [good.request_id]


async def test_a_scribe_that_was_killed_is_replaced(services: Services) -> None:
    scribe = Scribe()
    try:
        await scribe.tend(sign=True)
        assert scribe.pid is not None
        dead = scribe.pid
        scribe.kill()
        with pytest.raises(Unavailable):
            await scribe.write([outcome()])
        after = outcome()
        await scribe.write([after])
        assert scribe.pid != dead
    finally:
        await scribe.close()
    assert requests(services) == [after.request_id]


async def test_closing_ends_the_child(services: Services) -> None:
    scribe = Scribe()
    await scribe.tend(sign=False)
    child = scribe.pid
    await scribe.close()
    assert child is not None
    assert not Path(f"/proc/{child}").exists()


async def test_both_ledgers_see_the_same_and_tell_only_of_changes(services: Services) -> None:
    ledgers: list[Ledger] = [LocalLedger(services), Scribe()]
    try:
        await ledgers[0].write([outcome()])  # with it the first price table is written
        first = [await one.look() for one in ledgers]
        assert first[0] is not None
        assert first[0] == first[1]
        assert [await one.look() for one in ledgers] == [None, None]
        issued = services.tenants.create_key(SYSTEM, "acme", "a key")
        second = [await one.look() for one in ledgers]
        assert second[0] is not None
        assert second[0] == second[1]
        assert issued.info.id in {
            actor.id.removeprefix("key:") for actor, _ in second[0].callers.values()
        }
    finally:
        for one in ledgers:
            await one.close()


async def test_a_child_that_was_replaced_tells_all_again(services: Services) -> None:
    scribe = Scribe()
    try:
        await scribe.write([outcome()])
        seen = await scribe.look()
        assert await scribe.look() is None
        scribe.kill()
        with pytest.raises(Unavailable):
            await scribe.look()
        assert await scribe.look() == seen
    finally:
        await scribe.close()
