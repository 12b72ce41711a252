"""The process that records answers: what it writes, and what is left when it or its gateway dies."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import bootstrap
from services import settings as configuration
from services.bootstrap import Services
from services.db import Database, new_id, utcnow
from services.errors import Unavailable
from services.gateway.ledger import LocalLedger, Scribe
from services.gateway.outcome import Chosen, Model, Outcome, Status
from services.rollouts.models import Arm
from services.tenants.models import Actor
from tests.services.gateway.conftest import PLENTY, SYSTEM, environment

ASKER = Actor("key", "key:k-1", "a key")


@pytest.fixture
def services(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    """An installation whose variables are those of this process, as children find them."""
    url = database.url.render_as_string(hide_password=False)
    variables = environment(tmp_path / "home", "http://127.0.0.1:9", url, 1)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = bootstrap.build(configuration.load(directory=tmp_path))
    made.tenants.create(SYSTEM, "Acme", limits=PLENTY)
    yield made
    made.close()


def outcome(**changes: object) -> Outcome:
    now = utcnow()
    chosen = Chosen("acme", Model("base", None, "base", ""), Arm.STABLE)
    facts: dict[str, object] = {
        "request_id": new_id(), "tenant_id": "acme", "actor": ASKER, "chosen": chosen,
        "stream": False, "received_at": now, "completed_at": now, "request_digest": b"1" * 32,
        "response_digest": b"2" * 32, "status": Status.OK, "finish_reason": "stop",
        "prompt_tokens": 3, "completion_tokens": 4, "latency_ms": 5, "ttft_ms": None,
        "policy_version": 0, "policy_digest": "ab" * 32, "findings": {"pii.email.mask": 1},
    }  # fmt: skip
    return Outcome(**(facts | changes))  # type: ignore[arg-type]


def requests(services: Services) -> list[str]:
    """The requests of the log, in its order."""
    entries = services.audit.entries(SYSTEM, "acme", action="inference.")
    return [entry.subject.removeprefix("request:") for entry in entries]


def test_an_outcome_travels_as_it_is() -> None:
    for one in (outcome(), outcome(status=Status.ERROR, problem="x", is_estimated=True)):
        assert pickle.loads(pickle.dumps(one)) == one


async def test_both_ledgers_write_the_same(services: Services) -> None:
    here, there = LocalLedger(services), Scribe()
    try:
        first, second = outcome(), outcome()
        (cost, seq), (cost_there, seq_there) = [
            *await here.write([first]), *await there.write([second]),
        ]  # fmt: skip
    finally:
        await here.close()
        await there.close()
    assert cost == cost_there > 0
    assert seq_there > seq
    assert requests(services) == [first.request_id, second.request_id]
    for one in (first, second):
        document = services.receipts.get(SYSTEM, one.request_id)
        assert services.receipts.verify(document.envelope).holds
    assert {row.request_id for row in services.metering.usage_rows(SYSTEM, "acme")} == {
        first.request_id, second.request_id,
    }  # fmt: skip
    services.audit.verify()


async def test_a_batch_that_cannot_be_written_leaves_nothing_and_the_next_one_is(
    services: Services,
) -> None:
    scribe = Scribe()
    try:
        good, stranger = outcome(), outcome(tenant_id="nobody")
        with pytest.raises(Unavailable):
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
