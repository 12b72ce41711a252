"""A tenants service with cheap password hashes, a clock that is set by hand, and its people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher

from services.db import Database
from services.tenants.models import Actor, Limits, Role
from services.tenants.service import Tenants

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
LIMITS = Limits(tps=3, rpm=100, daily_tokens=1000)


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **units: float) -> None:
        self.now += timedelta(**units)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def system() -> Actor:
    return Actor.system("test")


@pytest.fixture
def tenants(database: Database, clock: SetClock, system: Actor) -> Tenants:
    service = Tenants(database, clock=clock, hasher=CHEAP)
    service.create(system, "Acme", limits=LIMITS)
    service.create(system, "Globex", limits=LIMITS)
    return service


def roles(**by_tenant: Role) -> dict[str, frozenset[Role]]:
    return {tenant: frozenset({role}) for tenant, role in by_tenant.items()}


def person(service: Tenants, username: str, **by_tenant: Role) -> Actor:
    """A fresh user as an actor."""
    user, _password = service.create_user(
        Actor.system("test"), username, display_name=username, grants=roles(**by_tenant)
    )
    return user.actor()
