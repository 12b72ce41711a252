from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import NotPermitted
from services.metering.models import CLAUDE_3_5_SONNET, CostReport, Price, PriceTable, Share
from services.metering.savings import scenarios
from services.metering.service import Metering, cost_micro
from services.tenants.models import Limits, Role
from services.tenants.service import Tenants
from tests.services.metering.test_metering import NOW, SYSTEM, keep, metering, someone, usage

__all__ = ["metering"]  # a fixture

MONTH = "2026-11"


def told(database: Database) -> list[tuple[str | None, int, int]]:
    """The warnings in the outbox: tenant, percent, spent."""
    with database.read() as session:
        rows = session.query(OutboxRow).filter_by(action="budget.reached").order_by(OutboxRow.id)
        return [(r.tenant_id, r.details["percent"], r.details["spent_micro"]) for r in rows]


def test_each_share_of_a_budget_is_told_once(metering: Metering, database: Database) -> None:
    for spent in (0, 499, 500, 501, 799, 800, 999):
        metering.warn("acme", MONTH, budget_micro=1_000, spent_micro=spent)
    assert told(database) == [("acme", 50, 500), ("acme", 80, 800)]
    metering.warn("acme", MONTH, budget_micro=1_000, spent_micro=5_000)
    Metering(database).warn("acme", MONTH, budget_micro=1_000, spent_micro=5_000)
    assert told(database)[2:] == [("acme", 100, 5_000)]
    # Another month and another budget are told of anew.
    metering.warn("acme", "2026-12", budget_micro=1_000, spent_micro=600)
    metering.warn("acme", MONTH, budget_micro=8_000, spent_micro=5_000)
    assert told(database)[3:] == [("acme", 50, 600), ("acme", 50, 5_000)]
    assert [one.percent for one in metering.budget(SYSTEM, "acme").warnings] == [50, 50, 80, 100]
    assert metering.budget(SYSTEM, "globex").warnings == []


def test_a_budget_stands_where_the_tenants_month_stands(
    metering: Metering, database: Database
) -> None:
    first_minute = datetime(2026, 10, 31, 21, 0, tzinfo=UTC)  # the 1st in Istanbul
    keep(
        metering, database,
        usage(cost_micro=100, at=first_minute),
        usage(cost_micro=30),
        usage(cost_micro=7_000, at=first_minute.replace(hour=20)),
        usage(cost_micro=500, tenant_id="globex"),
    )  # fmt: skip
    Tenants(database).set_limits(SYSTEM, "acme", Limits(1, 1, 1, monthly_micro=520))
    found = metering.budget(someone(Role.MANAGER), "acme")
    assert (found.month, found.limit_micro, found.spent_micro) == (MONTH, 520, 130)
    assert found.percent == 25
    assert metering.budget(SYSTEM, "globex").percent is None


@pytest.mark.parametrize("role", [Role.ANNOTATOR, Role.CUSTOMER])
def test_the_budget_is_for_those_who_read_cost(metering: Metering, role: Role) -> None:
    for actor in (someone(role), someone(Role.MANAGER, "globex")):
        with pytest.raises(NotPermitted):
            metering.budget(actor, "acme")


def test_what_was_used_comes_by_key(metering: Metering, database: Database) -> None:
    keep(
        metering, database,
        usage(key_id="k1"), usage(key_id="k1", cost_micro=1), usage(key_id="k2"),
        usage(key_id="k3", at=NOW.replace(day=3)), usage(tenant_id="globex"),
    )  # fmt: skip
    found = metering.used(Tenants(database).get(SYSTEM, "acme"))
    assert found.day == "2026-11-21"
    assert (found.tokens, found.tokens_by_key) == (90, {"k1": 60, "k2": 30})
    assert found.month_micro == 9 + 1 + 9 + 9


def test_a_request_is_unmetered_until_it_has_a_row(metering: Metering, database: Database) -> None:
    keep(metering, database, usage(request_id="known"))
    with database.read() as session:
        assert metering.unmetered(session, ["known", "unknown"]) == {"unknown"}


def report(requests: int, prompt: int, completion: int, own_micro: int) -> CostReport:
    return CostReport(
        tenant_id="acme", since=NOW.date(), until=NOW.date(), total_micro=own_micro,
        requests=requests, prompt_tokens=prompt, completion_tokens=completion,
        by_day=[], by_model=[], by_arm=[], by_alias=[], by_status=[],
    )  # fmt: skip


def test_the_seeds_own_example_comes_out() -> None:
    # 100,000 requests a month; 0.015 USD each at the API, 0.0001 here, 200 USD of machines.
    found = scenarios(
        report(10, 10_000, 8_000, 1_000), CLAUDE_3_5_SONNET, requests=100_000,
        fixed_micro=200_000_000,
    )  # fmt: skip
    api, hybrid, own = found.ways
    assert [way.share for way in found.ways] == [Share.API, Share.HYBRID, Share.OWN]
    assert (api.month_micro, own.month_micro) == (1_500_000_000, 210_000_000)
    assert (own.saved_micro, own.saved_percent) == (15_480_000_000, 86)
    without = scenarios(report(10, 10_000, 8_000, 1_000), CLAUDE_3_5_SONNET, requests=100_000)
    assert without.ways[1].month_micro == 606_000_000
    assert (without.ways[1].saved_micro, without.ways[1].saved_percent) == (10_728_000_000, 60)
    assert hybrid.month_micro == 806_000_000


@given(
    st.integers(1, 10**6), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**10),
    st.integers(1, 10**7), st.integers(0, 100), st.integers(0, 10**10),
)  # fmt: skip
def test_every_way_is_the_plain_sum_to_the_rounding(
    requests: int, prompt: int, completion: int, own: int, month: int, share: int, fixed: int
) -> None:
    found = scenarios(
        report(requests, prompt, completion, own), CLAUDE_3_5_SONNET,
        requests=month, own_percent=share, fixed_micro=fixed,
    )  # fmt: skip
    price = CLAUDE_3_5_SONNET.price
    elsewhere = Fraction(
        prompt * price.prompt_micro_per_mtok + completion * price.completion_micro_per_mtok,
        10**6 * requests,
    )
    for way in found.ways:
        part = Fraction(way.own_percent, 100)
        exact = month * (part * Fraction(own, requests) + (1 - part) * elsewhere)
        exact += fixed if way.own_percent else 0
        # An average is right to half a thousandth of a micro-USD, the sum to half of one.
        assert abs(way.month_micro - exact) <= Fraction(month, 2000) + 1
        assert way.year_micro == 12 * way.month_micro
        assert way.saved_micro == found.ways[0].year_micro - way.year_micro
    if found.break_even:
        gained = found.api_request_nano - found.own_request_nano
        assert (found.break_even - 1) * gained < fixed * 1000 <= found.break_even * gained


def test_prices_are_looked_up_in_a_table_without_a_database() -> None:
    table = PriceTable("3", {"*": Price(1, 1), "acme-*": Price(2, 2)}, NOW, "u")
    assert table.price("acme-1") == Price(2, 2)
    assert table.price("other") == Price(1, 1)
    assert cost_micro(table.price("acme-1"), 500_000, 0) == 1
