import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from sqlalchemy import text

from services.db import Database
from services.errors import InvalidInput, LimitExceeded, Unavailable
from services.gateway.answers import model_not_found
from services.gateway.intents import Journal
from services.gateway.keeping import Keeper
from services.gateway.refusals import Refusals
from services.metering.models import Price
from services.metering.service import Metering, cost_micro
from services.tenants.models import KeyLimits, Limits
from services.tenants.service import Tenants
from tests.fakes.engine import PROMPT_TOKENS
from tests.services.gateway.conftest import HELLO, PLENTY, SYSTEM, Edge, bearer, eventually

one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
DEAR = Price(3_000_000, 15_000_000)


def budget(micro: int | None) -> Limits:
    return Limits(PLENTY.tps, PLENTY.rpm, PLENTY.daily_tokens, monthly_micro=micro)


@one_database
def test_200_parallel_calls_for_the_last_cents_never_overshoot(edge: Edge) -> None:
    edge.services.metering.add_prices(SYSTEM, {"*": DEAR})
    most = 20_000
    key = edge.key("legal", budget(most))

    async def all_at_once() -> list[httpx.Response]:
        body = {"messages": HELLO, "max_tokens": 100}
        url = f"{edge.url}/v1/chat/completions"
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits()) as client:
            asked = [client.post(url, json=body, headers=bearer(key)) for _ in range(200)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(all_at_once())
    answered = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(answered) + len(refused) == 200
    assert refused
    assert {answer.json()["error"]["code"] for answer in refused} == {"budget_exceeded"}
    spent = edge.services.metering.budget(SYSTEM, "legal").spent_micro
    assert spent == sum(int(answer.headers["x-param-cost-micro"]) for answer in answered)
    assert spent <= most
    assert edge.get("/v1/whoami", key).json()["budget_left_micro"] == most - spent


@one_database
def test_the_price_of_the_admission_is_the_price_that_is_paid(edge: Edge) -> None:
    key = edge.key("legal", budget(10**6))
    cheap = int(edge.chat(key).headers["x-param-cost-micro"])
    edge.services.metering.add_prices(SYSTEM, {"*": DEAR})
    eventually(lambda: int(edge.chat(key).headers["x-param-cost-micro"]) > cheap)
    row = edge.services.metering.usage_rows(SYSTEM, "legal", limit=1)[0]
    assert (row.price_version, row.cost_micro) == ("2", cost_micro(DEAR, PROMPT_TOKENS, 5))
    spent = edge.services.metering.budget(SYSTEM, "legal").spent_micro
    assert edge.get("/v1/whoami", key).json()["budget_left_micro"] == 10**6 - spent


@one_database
def test_a_budget_warns_at_each_share_and_a_larger_one_opens_again(edge: Edge) -> None:
    edge.services.metering.add_prices(SYSTEM, {"*": Price(0, 10_000_000)})  # 50 an answer
    key = edge.key("legal", budget(100))

    def warned() -> list[int]:
        return [one.percent for one in edge.services.metering.budget(SYSTEM, "legal").warnings]

    assert edge.chat(key, max_tokens=5).status_code == 200
    eventually(lambda: warned() == [50])
    assert edge.chat(key, max_tokens=5).status_code == 200
    refused = edge.chat(key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    assert int(refused.headers["retry-after"]) > 0
    eventually(lambda: warned() == [50, 80, 100])
    eventually(lambda: edge.actions().count("budget.reached") == 3)
    edge.services.tenants.set_limits(SYSTEM, "legal", budget(1_000))
    eventually(lambda: edge.chat(key).status_code == 200)


@one_database
def test_a_keys_own_limits_hold_without_a_restart_and_for_it_alone(edge: Edge) -> None:
    narrow, wide = edge.key("legal"), edge.key("legal")
    key_id = edge.get("/v1/whoami", narrow).json()["key"]["id"]
    edge.services.tenants.set_key_limits(SYSTEM, "legal", key_id, KeyLimits(rpm=1))
    eventually(lambda: edge.get("/v1/whoami", narrow).json()["key"]["limits"]["rpm"] == 1)
    assert edge.chat(narrow).status_code == 200
    refused = edge.chat(narrow)
    assert refused.status_code == 429
    assert "for this key" in refused.json()["error"]["message"]
    assert refused.headers["x-ratelimit-limit-requests"] == "1"
    assert edge.chat(wide).status_code == 200


@one_database
def test_a_stream_names_its_receipt_at_its_beginning(edge: Edge) -> None:
    key = edge.key("legal")
    answer = edge.chat(key, stream=True)
    named = answer.headers["x-param-receipt"]
    assert f": receipt {named}\n".encode() in answer.content
    assert edge.get(f"/v1/receipts/{named}", key).status_code == 200


@one_database
def test_refusals_are_counted_and_what_is_recorded_is_not_counted_twice(edge: Edge) -> None:
    key = edge.key("legal", Limits(tps=10**6, rpm=2, daily_tokens=10**6))
    assert edge.app is not None
    gateway = edge.app.gateway
    assert gateway is not None
    gateway.refusals.take()  # what the fixture asked before
    for _ in range(2):
        assert edge.chat(key, "refuse").status_code == 400  # the engine's, recorded by itself
    for _ in range(3):
        assert edge.chat(key).status_code == 429
    edge.chat("pk_wrong")
    found, _since = gateway.refusals.take()
    assert found == {
        "legal": {"rate_limit_exceeded.tenant.rpm": 3}, None: {"invalid_api_key": 1},
    }  # fmt: skip
    assert gateway.journal.open_count == 0


@one_database
def test_an_outcome_that_could_not_be_recorded_is_known_later(careful: Edge) -> None:
    key = careful.key("legal")
    with careful.services.db.write() as session:
        session.execute(text("ALTER TABLE usage RENAME TO usage_gone"))
    streamed = careful.chat(key, stream=True)
    assert b"could not be recorded" in streamed.content
    with careful.services.db.write() as session:
        session.execute(text("ALTER TABLE usage_gone RENAME TO usage"))
    eventually(lambda: careful.actions().count("inference.interrupted") == 1, 30)
    [row] = careful.services.metering.usage_rows(SYSTEM, "legal")
    assert row.request_id == streamed.headers["x-param-receipt"]
    assert (row.status, row.prompt_tokens) == ("partial", PROMPT_TOKENS)
    assert careful.app is not None
    assert careful.app.gateway is not None
    journal = careful.app.gateway.journal
    eventually(lambda: journal.open_count == 0)
    careful.assert_log_holds()


def test_refusals_are_one_event_a_tenant_and_survive_a_failure(database: Database) -> None:
    Tenants(database).create(SYSTEM, "Acme", limits=PLENTY)
    refusals = Refusals(database)
    for error in (
        LimitExceeded("x", retry_after_s=1),
        model_not_found("secret"),
        InvalidInput("x"),
    ):
        for _ in range(2):
            refusals.note("acme", error)
    refusals.note(None, Unavailable("x"))
    with database.write() as session:
        session.execute(text("ALTER TABLE audit_outbox RENAME TO outbox_gone"))
    found, since = refusals.take()
    with pytest.raises(Exception, match="audit_outbox"):
        refusals.write(found, since)
    with database.write() as session:
        session.execute(text("ALTER TABLE outbox_gone RENAME TO audit_outbox"))
    refusals.note("acme", InvalidInput("x"))
    found, since = refusals.take()
    refusals.write(found, since)
    with database.read() as session:
        rows = session.execute(
            text("SELECT tenant_id, subject, details FROM audit_outbox WHERE action = :a"),
            {"a": "inference.refused"},
        ).all()
    told = {
        row.tenant_id: row.details if isinstance(row.details, dict) else json.loads(row.details)
        for row in rows
    }
    assert told["acme"]["counts"] == {
        "invalid_input": 3, "rate_limit_exceeded": 2, "refused_404": 2,
    }  # fmt: skip
    assert told[None]["counts"] == {"unavailable": 1}
    assert told["acme"]["since"] <= told["acme"]["until"]
    assert refusals.take()[0] == {}


@one_database
async def test_what_was_counted_is_written_before_a_gateway_stops(
    database: Database, tmp_path: Any
) -> None:
    Tenants(database).create(SYSTEM, "Acme", limits=PLENTY)
    refusals, journal = Refusals(database), Journal(tmp_path)
    refusals.note("acme", InvalidInput("x"))
    parts = cast(Any, SimpleNamespace(db=database, metering=Metering(database)))
    directory = cast(Any, SimpleNamespace(tenants=list))
    writer = cast(Any, SimpleNamespace(refused=list))
    keeper = Keeper(parts, directory, cast(Any, None), journal, writer, refusals)
    keeper.start()
    await keeper.stop()
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM audit_outbox WHERE subject = 'tenant:acme' "
                                   "AND action = 'inference.refused'")) == 1  # fmt: skip
    journal.close()
