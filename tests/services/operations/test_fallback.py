"""Who may let a second engine answer, under which conditions, and what stays of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from services import settings as configuration
from services.audit.service import AuditLog
from services.db import Database
from services.errors import InvalidInput, NotFound, NotPermitted
from services.metering.models import Price
from services.metering.service import Metering
from services.operations.service import Operations
from services.tenants.models import EVERY_TENANT, Actor, Limits, Role
from services.tenants.service import Tenants

SYSTEM = Actor.system("test")
LIMITS = Limits(tps=5, rpm=100, daily_tokens=10_000)
PRICES = {"*": Price(1, 1), "fallback/*": Price(3_000_000, 15_000_000)}


def someone(role: Role, tenant_id: str) -> Actor:
    return Actor("user", f"u-{role}", str(role), {tenant_id: frozenset({role})})


ADMIN = someone(Role.ADMIN, "legal")
Make = Callable[..., Operations]


@pytest.fixture
def make(database: Database, tmp_path: Path) -> Make:
    """The domain over two tenants; priced and configured unless told otherwise."""

    def made(*, model: str = "claude-sonnet", priced: bool = True) -> Operations:
        variables = {"PARAM_HOME": str(tmp_path / "home")}
        if model:
            variables |= {
                "PARAM_FALLBACK_URL": "http://127.0.0.1:9",
                "PARAM_FALLBACK_MODEL": model,
            }
        tenants, metering = Tenants(database), Metering(database)
        for name in ("legal", "medical"):
            tenants.create(SYSTEM, name, limits=LIMITS, tenant_id=name)
        if priced:
            metering.add_prices(SYSTEM, PRICES)
        return Operations(database, metering, configuration.load(variables, directory=tmp_path))

    return made


def test_nobody_falls_back_until_an_administrator_says_so(make: Make, database: Database) -> None:
    operations = make()
    assert not operations.allows_fallback("legal")
    operations.set_fallback(ADMIN, "legal", allowed=True, reason="contract 12 allows it")
    assert operations.allows_fallback("legal")
    assert not operations.allows_fallback("medical")
    operations.set_fallback(ADMIN, "legal", allowed=False, reason="contract ended")
    assert not operations.allows_fallback("legal")
    found = operations.fallback(someone(Role.MANAGER, "legal"), "legal")
    assert [(one.seq, one.allowed, one.reason) for one in found] == [
        (2, False, "contract ended"), (1, True, "contract 12 allows it"),
    ]  # fmt: skip
    log = AuditLog(database, origin="test")
    log.sequence()
    actions = [
        entry.action
        for entry in log.entries(SYSTEM, "legal", limit=100)
        if entry.action.startswith("tenant.fallback")
    ]
    assert actions == ["tenant.fallback_allowed", "tenant.fallback_denied"]


@pytest.mark.parametrize(
    "actor",
    [someone(Role.ENGINEER, "legal"), someone(Role.MANAGER, "legal"),
     someone(Role.ADMIN, "medical")],
)  # fmt: skip
def test_the_wrong_role_and_the_wrong_tenant_change_nothing(make: Make, actor: Actor) -> None:
    operations = make()
    with pytest.raises(NotPermitted):
        operations.set_fallback(actor, "legal", allowed=True, reason="because")
    assert operations.fallback(ADMIN, "legal") == []


def test_history_is_the_tenants_own(make: Make) -> None:
    with pytest.raises(NotPermitted):
        make().fallback(someone(Role.ADMIN, "medical"), "legal")


def test_a_second_engine_must_be_there_and_have_its_own_price(make: Make) -> None:
    operations = make(priced=False)
    with pytest.raises(InvalidInput, match="expected a price of its own for 'fallback/claude"):
        operations.set_fallback(ADMIN, "legal", allowed=True, reason="because")
    operations.set_fallback(ADMIN, "legal", allowed=False, reason="stays forbidden")


def test_without_a_second_engine_it_cannot_be_allowed(make: Make) -> None:
    with pytest.raises(InvalidInput, match="PARAM_FALLBACK_URL and PARAM_FALLBACK_MODEL"):
        make(model="").set_fallback(ADMIN, "legal", allowed=True, reason="because")


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_decision_needs_a_reason(make: Make, reason: str) -> None:
    with pytest.raises(InvalidInput, match="reason: expected 1 to 500 characters"):
        make().set_fallback(ADMIN, "legal", allowed=True, reason=reason)


def test_a_tenant_that_is_not_there_is_told(make: Make) -> None:
    with pytest.raises(NotFound):
        make().set_fallback(SYSTEM, "nobody", allowed=True, reason="because")


def test_only_who_manages_every_tenant_may_touch_the_process(make: Make) -> None:
    operations = make()
    for act in (
        lambda: operations.drain(ADMIN, True, reason="upgrade"),
        lambda: operations.retry(ADMIN, "engine"),
        lambda: operations.state(someone(Role.MANAGER, "legal"), "legal"),
        lambda: operations.view(ADMIN, "medical"),
    ):
        with pytest.raises(NotPermitted):
            act()
    with pytest.raises(InvalidInput, match="expected engine or fallback"):
        operations.retry(someone(Role.ADMIN, EVERY_TENANT), "database")
