"""Budgets of a month: what is spent, and what was said about it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from services.audit import record
from services.db import Clock, Database
from services.errors import NotFound
from services.metering import store
from services.metering.models import WARNED_AT, Budget, BudgetWarning, MonthLeft, Used
from services.tenants.models import Actor, Permission, Tenant
from services.tenants.scope import scope
from services.tenants.store import find_tenant

_SELF = Actor.system("metering")


class Budgets:
    """What tenants have used of their day and of their month."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def used(self, tenant: Tenant) -> Used:
        """What the usage rows of the tenant's present day and month sum up to."""
        day = self._clock().astimezone(ZoneInfo(tenant.timezone)).date().isoformat()
        with self._db.read() as session:
            by_key = store.tokens_by_key(session, tenant.id, day)
            spent = store.cost_of_month(session, tenant.id, day[:7])
        return Used(day, sum(by_key.values()), by_key, spent)

    def budget(self, actor: Actor, tenant_id: str) -> Budget:
        """Where the money of the tenant's present month stands.

        Raises:
            NotPermitted: The actor may not read the tenant's cost.
            NotFound: There is no such tenant.
        """
        scoped = scope(actor, tenant_id, Permission.READ_COST)
        with self._db.read() as session:
            tenant = find_tenant(session, scoped)
            if tenant is None:
                raise NotFound(f"tenant {scoped!r}: expected an existing tenant, found none")
            zone = ZoneInfo(tenant.timezone)
            month = self._clock().astimezone(zone).date().isoformat()[:7]
            spent = store.cost_of_month(session, scoped, month)
            warnings = store.warnings_of(session, scoped, month)
        return Budget(month, tenant.limits.monthly_micro, spent, warnings)

    def month_left(self, session: Session, tenant_id: str) -> MonthLeft | None:
        """What is left of the tenant's month; None where it has no budget.

        Raises:
            NotFound: There is no such tenant.
        """
        tenant = find_tenant(session, tenant_id)
        if tenant is None:
            raise NotFound(f"tenant {tenant_id!r}: expected an existing tenant, found none")
        if tenant.limits.monthly_micro is None:
            return None
        now = self._clock().astimezone(ZoneInfo(tenant.timezone))
        month = now.date().isoformat()[:7]
        spent = store.cost_of_month(session, tenant_id, month)
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        ends = (first + timedelta(days=32)).replace(day=1)
        return MonthLeft(month, tenant.limits.monthly_micro, spent, (ends - now).total_seconds())

    def warn(self, tenant_id: str, month: str, *, budget_micro: int, spent_micro: int) -> None:
        """Leave a warning, with its audit event, at each share of the budget that is reached.

        Each share is said once for a month and a budget, however often and from however many
        processes this is called.
        """
        reached = [share for share in WARNED_AT if 100 * spent_micro >= share * budget_micro]
        if not reached:
            return
        at = self._clock()
        with self._db.write() as session:
            for share in reached:
                warning = BudgetWarning(month, share, budget_micro, spent_micro, at)
                if store.add_warning(session, tenant_id, warning):
                    details = {name: found for name, found in vars(warning).items() if name != "at"}
                    record(
                        session, _SELF, "budget.reached", f"tenant:{tenant_id}",
                        tenant_id=tenant_id, details=details, at=at,
                    )  # fmt: skip

    def unmetered(self, session: Session, request_ids: Iterable[str]) -> set[str]:
        """Those of the requests that have no usage row, in the caller's transaction."""
        asked = set(request_ids)
        return asked - store.known_requests(session, asked)
