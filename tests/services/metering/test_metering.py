from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from services.audit.outbox import OutboxRow
from services.db import Database, new_id
from services.errors import InvalidInput, NotFound, NotPermitted
from services.metering.models import ApiPrice, Price, Usage
from services.metering.service import DEFAULT_PRICES, Metering, cost_micro
from services.metering.store import PriceTableRow, UsageRow
from services.tenants.models import EVERY_TENANT, Actor, Limits, Role
from services.tenants.service import Tenants

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
SYSTEM = Actor.system("test")


def usage(**changed: object) -> Usage:
    fields: dict[str, object] = {
        "request_id": new_id(), "tenant_id": "acme", "key_id": "k", "alias": "acme",
        "served": "base", "arm": "stable", "prompt_tokens": 10, "completion_tokens": 20,
        "cost_micro": 9, "price_version": "1", "latency_ms": 100, "ttft_ms": None,
        "status": "ok", "at": NOW,
    }  # fmt: skip
    return Usage(**{**fields, **changed})  # type: ignore[arg-type]


def someone(role: Role, tenant_id: str = "acme") -> Actor:
    return Actor(kind="user", id="u", name="someone", grants={tenant_id: frozenset({role})})


def keep(metering: Metering, database: Database, *rows: Usage) -> None:
    with database.write() as session:
        for row in rows:
            metering.record_usage(session, row)


@pytest.fixture
def metering(database: Database) -> Metering:
    tenants = Tenants(database)
    limits = Limits(tps=1, rpm=1, daily_tokens=1)
    tenants.create(SYSTEM, "Acme", limits=limits)
    tenants.create(SYSTEM, "Globex", limits=limits, timezone="America/Los_Angeles")
    return Metering(database, clock=lambda: NOW)


def test_the_cost_of_another_tenant_is_refused(metering: Metering) -> None:
    stranger = someone(Role.MANAGER, "globex")
    with pytest.raises(NotPermitted):
        metering.report(stranger, "acme", since=NOW, until=NOW)
    with pytest.raises(NotPermitted):
        metering.usage_rows(stranger, "acme")


@pytest.mark.parametrize("role", [Role.ANNOTATOR, Role.CUSTOMER])
def test_annotators_and_customers_do_not_read_cost(metering: Metering, role: Role) -> None:
    with pytest.raises(NotPermitted):
        metering.report(someone(role), "acme", since=NOW, until=NOW)


def test_only_administrators_of_every_tenant_set_prices(metering: Metering) -> None:
    for actor in (someone(Role.ADMIN), someone(Role.MANAGER, EVERY_TENANT)):
        with pytest.raises(NotPermitted):
            metering.add_prices(actor, {"*": Price(1, 1)})
    assert metering.add_prices(someone(Role.ADMIN, EVERY_TENANT), {"*": Price(1, 1)}).version == "2"


@pytest.mark.parametrize(
    ("price", "prompt", "completion", "expected"),
    [
        (Price(3_000_000, 15_000_000), 1_000_000, 1_000_000, 18_000_000),
        (Price(3_000_000, 15_000_000), 1, 1, 18),
        (Price(500_000, 0), 1, 0, 1),
        (Price(499_999, 0), 1, 0, 0),
        # Both halves together make one; rounded apart they would make two.
        (Price(500_000, 500_000), 1, 1, 1),
        (Price(250_000, 250_000), 1, 1, 1),
        (Price(10**12, 10**12), 10**9, 10**9, 2 * 10**15),
        (Price(0, 0), 5, 5, 0),
        (Price(7, 7), 0, 0, 0),
    ],
)
def test_cost_is_exact_and_rounds_half_up(
    price: Price, prompt: int, completion: int, expected: int
) -> None:
    assert cost_micro(price, prompt, completion) == expected


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 or more"):
        cost_micro(Price(1, 1), -1, 0)


def test_the_first_table_is_written_with_the_first_row(
    metering: Metering, database: Database
) -> None:
    assert metering.price("anything") == ("1", DEFAULT_PRICES["*"])
    assert [table.version for table in metering.price_tables()] == ["1"]
    with database.read() as session:
        assert session.scalars(select(PriceTableRow)).all() == []
    for process in (metering, metering, Metering(database)):
        keep(process, database, usage())
    with database.read() as session:
        assert session.scalars(select(PriceTableRow)).one().table().prices == DEFAULT_PRICES
        events = session.scalars(select(OutboxRow).where(OutboxRow.action == "prices.set")).all()
    assert [event.subject for event in events] == ["prices:1"]


def test_a_price_can_be_looked_up_inside_a_writing_transaction(
    metering: Metering, database: Database
) -> None:
    with database.write() as session:
        version, price = metering.price("base")
        metering.record_usage(session, usage(price_version=version))
    assert (version, price) == ("1", DEFAULT_PRICES["*"])


def test_an_undone_row_leaves_no_table_and_the_next_writes_it(
    metering: Metering, database: Database
) -> None:
    with pytest.raises(RuntimeError), database.write() as session:
        metering.record_usage(session, usage())
        raise RuntimeError("half-way")
    keep(metering, database, usage())
    with database.read() as session:
        assert len(session.scalars(select(PriceTableRow)).all()) == 1


def test_the_most_specific_pattern_prices_a_model(metering: Metering) -> None:
    prices = {"*": Price(1, 1), "legal-*": Price(2, 2), "legal-0123*": Price(3, 3)}
    assert metering.add_prices(SYSTEM, prices).version == "2"
    assert metering.price("smollm2")[1] == Price(1, 1)
    assert metering.price("legal-ffff")[1] == Price(2, 2)
    assert metering.price("legal-0123456789ab") == ("2", Price(3, 3))


def test_a_new_price_is_a_new_version_and_old_ones_stay(metering: Metering) -> None:
    metering.add_prices(SYSTEM, {"*": Price(5, 6)})
    metering.add_prices(SYSTEM, {"*": Price(7, 8)})
    tables = metering.price_tables()
    assert [(table.version, table.prices["*"]) for table in tables] == [
        ("3", Price(7, 8)),
        ("2", Price(5, 6)),
        ("1", DEFAULT_PRICES["*"]),
    ]
    assert metering.price("x") == ("3", Price(7, 8))


@pytest.mark.parametrize(
    "prices",
    [
        {},
        {"legal-*": Price(1, 1)},
        {"*": Price(-1, 1)},
        {"*": Price(1, 10**12 + 1)},
        {"*": Price(True, 1)},
        {"*": Price(0.5, 1)},  # type: ignore[arg-type]
        {"*": Price(1, 1), "": Price(1, 1)},
        {"*": Price(1, 1), "[a]": Price(1, 1)},
        {"*": Price(1, 1), "ş": Price(1, 1)},
    ],
)
def test_bad_prices_are_refused(metering: Metering, prices: dict[str, Price]) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        metering.add_prices(SYSTEM, prices)
    assert metering.price("x")[0] == "1"


def test_each_tenant_sees_only_its_own_spend(metering: Metering, database: Database) -> None:
    keep(metering, database, usage(cost_micro=5), usage(tenant_id="globex", cost_micro=7))
    found = metering.report(someone(Role.MANAGER), "acme", since=NOW, until=NOW)
    assert (found.total_micro, found.requests) == (5, 1)
    assert [row.tenant_id for row in metering.usage_rows(someone(Role.MANAGER), "acme")] == ["acme"]


def test_days_are_the_tenants_own(metering: Metering, database: Database) -> None:
    # 22:30 UTC is half past one of the next day in Istanbul, and 14:30 in Los Angeles.
    late = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)
    keep(metering, database, usage(at=late), usage(at=late, tenant_id="globex"))
    keep(metering, database, usage(at=late - timedelta(hours=2)))
    report = metering.report(SYSTEM, "acme", since=date(2026, 11, 20), until=date(2026, 11, 21))
    assert [(line.name, line.requests) for line in report.by_day] == [
        ("2026-11-20", 1),
        ("2026-11-21", 1),
    ]
    assert metering.tokens_today("acme") == 30
    assert metering.tokens_today(Tenants(database).get(SYSTEM, "acme")) == 30
    # It is eight o'clock UTC: midnight has just passed in Los Angeles.
    assert metering.tokens_today("globex") == 0
    only = metering.report(SYSTEM, "globex", since=late, until=late)
    assert [line.name for line in only.by_day] == ["2026-11-20"]


def test_a_report_of_nothing_is_zero(metering: Metering) -> None:
    report = metering.report(SYSTEM, "acme", since=NOW, until=NOW)
    assert (report.total_micro, report.requests, report.by_day) == (0, 0, [])
    assert metering.savings(report).saved_percent is None


def test_reports_refuse_what_makes_no_sense(metering: Metering, database: Database) -> None:
    with pytest.raises(InvalidInput, match="not to come after"):
        metering.report(SYSTEM, "acme", since=NOW, until=NOW - timedelta(days=1))
    with pytest.raises(NotFound):
        metering.report(SYSTEM, "nowhere", since=NOW, until=NOW)
    with pytest.raises(InvalidInput, match="expected 1 to"):
        metering.usage_rows(SYSTEM, "acme", limit=0)
    with pytest.raises(NotFound):
        keep(metering, database, usage(tenant_id="nowhere"))


def test_savings_compare_the_same_tokens(metering: Metering, database: Database) -> None:
    keep(
        metering,
        database,
        usage(prompt_tokens=1_000_000, completion_tokens=0, cost_micro=100_000),
        usage(prompt_tokens=0, completion_tokens=1_000_000, cost_micro=400_000),
    )
    report = metering.report(SYSTEM, "acme", since=NOW, until=NOW)
    saved = metering.savings(report)
    assert (saved.own_micro, saved.api_micro) == (500_000, 18_000_000)
    assert (saved.saved_micro, saved.saved_percent) == (17_500_000, 97)
    dearer = metering.savings(report, ApiPrice("cheap", Price(100_000, 100_000)))
    assert (dearer.saved_micro, dearer.saved_percent) == (-300_000, -150)


_rows = st.lists(
    st.builds(
        usage,
        prompt_tokens=st.integers(0, 10**6),
        completion_tokens=st.integers(0, 10**6),
        served=st.sampled_from(["base", "a-1", "a-2"]),
        arm=st.sampled_from(["stable", "canary", "pinned"]),
        alias=st.sampled_from(["acme", "support"]),
        status=st.sampled_from(["ok", "partial", "error"]),
        latency_ms=st.integers(0, 10**5),
        at=st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 9), timezones=st.just(UTC)),
    ),
    max_size=12,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=_rows, price=st.builds(Price, st.integers(0, 10**8), st.integers(0, 10**8)))
def test_the_total_is_the_sum_of_its_lines(
    metering: Metering, database: Database, rows: list[Usage], price: Price
) -> None:
    with database.write() as session:
        session.execute(delete(UsageRow))
    priced = [
        usage(**{
            **vars(row),
            "request_id": new_id(),
            "cost_micro": cost_micro(price, row.prompt_tokens, row.completion_tokens),
        })
        for row in rows
    ]  # fmt: skip
    keep(metering, database, *priced)
    report = metering.report(SYSTEM, "acme", since=date(2025, 12, 1), until=date(2026, 2, 1))
    assert report.total_micro == sum(row.cost_micro for row in priced)
    assert report.requests == len(priced)
    kept = metering.usage_rows(SYSTEM, "acme")
    assert sorted(kept, key=lambda row: row.request_id) == sorted(
        priced, key=lambda row: row.request_id
    )
    for lines in (report.by_day, report.by_model, report.by_arm, report.by_alias, report.by_status):
        assert sum(line.cost_micro for line in lines) == report.total_micro
        assert sum(line.requests for line in lines) == report.requests
        assert sum(line.prompt_tokens for line in lines) == report.prompt_tokens
        assert sum(line.completion_tokens for line in lines) == report.completion_tokens
