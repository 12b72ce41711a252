"""Metering: pricing requests, counting tokens, reporting cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.audit import record
from services.db import Clock, Database, insert_rows, utcnow
from services.errors import Conflict, InvalidInput, NotFound
from services.metering import store
from services.metering.budgets import Budgets
from services.metering.models import (
    CLAUDE_3_5_SONNET,
    TOKENS_PER_PRICE,
    ApiPrice,
    CostReport,
    Price,
    PriceTable,
    Savings,
    Usage,
)
from services.metering.store import PriceTableRow, UsageRow
from services.tenants.models import EVERY_TENANT, Actor, Permission, Tenant
from services.tenants.scope import scope
from services.tenants.store import find_tenant

DEFAULT_PRICES: Mapping[str, Price] = {"*": Price(100_000, 400_000)}
"""Version 1: USD 0.10 and 0.40 for a million tokens.

What a small self-hosted model costs depends on the operator's own hardware, power and load, so
this is an operator's estimate to start from, not a measurement: set your own with `add_prices`.
"""

MAX_PRICE = 10**12
MAX_ROWS = 10_000
_CACHED_S = 2.0
_SELF = Actor.system("metering")


class Metering(Budgets):
    """Usage and cost.

    Args:
        db: Where rows and prices are kept.
        clock: Gives the present time.
    """

    def __init__(self, db: Database, *, clock: Clock = utcnow) -> None:
        super().__init__(db, clock)
        self._zones: dict[str, ZoneInfo] = {}
        self._cache: tuple[float, PriceTable] | None = None
        self._lock = threading.Lock()
        self._has_first = False

    def price(self, served: str) -> tuple[str, Price]:
        """The price of a model by the newest table, and that table's version.

        The table is read again at most every two seconds.

        Raises:
            NotFound: No pattern of the table fits the name.
        """
        table = self._current_table()
        return table.version, table.price(served)

    def prices_now(self) -> PriceTable:
        """The newest prices; read again at most every two seconds."""
        return self._current_table()

    def record_usage(self, session: Session, *used: Usage) -> None:
        """Write usage rows in the caller's transaction.

        Raises:
            NotFound: There is no such tenant.
        """
        if not used:
            return
        self._keep_first_table(session)
        rows = [
            {**vars(usage), "day": _day(usage.at, self._zone(session, usage.tenant_id)).isoformat()}
            for usage in used
        ]
        insert_rows(session, UsageRow, rows)

    def tokens_today(self, tenant: Tenant | str) -> int:
        """Prompt and completion tokens since the tenant's midnight.

        Args:
            tenant: The tenant or its id.

        Raises:
            NotFound: There is no such tenant.
        """
        tenant_id = tenant if isinstance(tenant, str) else tenant.id
        with self._db.read() as session:
            today = self._clock().astimezone(self._zone(session, tenant_id)).date()
            return store.tokens_of_day(session, tenant_id, today.isoformat())

    def add_prices(self, actor: Actor, prices: Mapping[str, Price]) -> PriceTable:
        """Set all prices anew; rows that are already written keep theirs.

        Raises:
            NotPermitted: The actor does not manage every tenant.
            InvalidInput: No pattern, no `*`, or a price that is no whole number from 0 on.
            Conflict: Somebody else set prices at the same moment.
        """
        scope(actor, EVERY_TENANT, Permission.MANAGE_TENANT)
        checked = _checked_prices(prices)
        with self._db.write() as session:
            self._keep_first_table(session)
            latest = store.latest_prices(session)
            row = PriceTableRow(
                number=1 + (latest.number if latest else 1),
                prices=store.as_json(checked),
                created_at=self._clock(),
                created_by=actor.id,
            )
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise Conflict("prices: expected to be alone, found another change") from error
            record(
                session, actor, "prices.set", f"prices:{row.number}",
                tenant_id=None, details={"models": sorted(checked)}, at=row.created_at,
            )  # fmt: skip
            made = row.table()
        self._cache = None
        return made

    def price_tables(self) -> list[PriceTable]:
        """All versions of the prices, newest first; prices are no secret."""
        with self._db.read() as session:
            return store.price_tables(session) or [self._current_table()]

    def report(
        self, actor: Actor, tenant_id: str, *, since: date | datetime, until: date | datetime
    ) -> CostReport:
        """What a tenant used, both days included.

        Args:
            since: The tenant's day; a time stands for the tenant's day that it falls on.
            until: Likewise.

        Raises:
            NotPermitted: The actor may not read the tenant's cost.
            NotFound: There is no such tenant.
            InvalidInput: The days are the wrong way round.
        """
        scoped = scope(actor, tenant_id, Permission.READ_COST)
        with self._db.read() as session:
            zone = self._zone(session, scoped)
            first, last = _day(since, zone), _day(until, zone)
            if first > last:
                raise InvalidInput(f"days: expected {first} not to come after {last}").because(
                    "days_turned", first=first.isoformat(), last=last.isoformat()
                )
            span = (scoped, first.isoformat(), last.isoformat())
            total = store.lines(session, *span, None)[0]
            groups = {
                f"by_{name}": store.lines(session, *span, column)
                for name, column in (
                    ("day", UsageRow.day), ("model", UsageRow.served), ("arm", UsageRow.arm),
                    ("alias", UsageRow.alias), ("status", UsageRow.status),
                )
            }  # fmt: skip
        by_day = sorted(groups.pop("by_day"), key=lambda line: line.name)
        by_cost = {
            name: sorted(found, key=lambda line: (-line.cost_micro, line.name))
            for name, found in groups.items()
        }
        return CostReport(
            tenant_id=scoped,
            since=first,
            until=last,
            total_micro=total.cost_micro,
            requests=total.requests,
            prompt_tokens=total.prompt_tokens,
            completion_tokens=total.completion_tokens,
            by_day=by_day,
            **by_cost,
        )

    def usage_rows(self, actor: Actor, tenant_id: str, limit: int = 100) -> list[Usage]:
        """The tenant's last requests, newest first.

        Raises:
            NotPermitted: The actor may not read the tenant's cost.
            InvalidInput: The limit is out of range.
        """
        scoped = scope(actor, tenant_id, Permission.READ_COST)
        if not 1 <= limit <= MAX_ROWS:
            raise InvalidInput(f"limit: expected 1 to {MAX_ROWS}, found {limit}")
        with self._db.read() as session:
            return store.newest_usage(session, scoped, limit)

    def savings(self, report: CostReport, api: ApiPrice = CLAUDE_3_5_SONNET) -> Savings:
        """What the tokens of a report would have cost elsewhere.

        Tokens are taken one for one, although another model's tokenizer counts differently.
        """
        elsewhere = cost_micro(api.price, report.prompt_tokens, report.completion_tokens)
        saved = elsewhere - report.total_micro
        percent = (200 * saved + elsewhere) // (2 * elsewhere) if elsewhere else None
        return Savings(api.name, report.total_micro, elsewhere, saved, percent)

    def cost_micro(self, price: Price, prompt_tokens: int, completion_tokens: int) -> int:
        """See the function of the same name."""
        return cost_micro(price, prompt_tokens, completion_tokens)

    def _current_table(self) -> PriceTable:
        now, cached = time.monotonic(), self._cache
        if cached is not None and now - cached[0] < _CACHED_S:
            return cached[1]
        with self._lock:
            with self._db.read() as session:
                row = store.latest_prices(session)
            if row is not None:
                table = row.table()
            elif cached is not None:
                table = cached[1]  # Nothing was written since; it is still the same first table.
            else:
                table = PriceTable("1", DEFAULT_PRICES, self._clock(), _SELF.id)
            self._cache = (now, table)
            return table

    def _keep_first_table(self, session: Session) -> None:
        """Write version 1, unless it is there.

        Looking up a price never writes, since it may happen inside any transaction; the table
        is written with the first row that names it.
        """
        if self._has_first or session.info.get("metering.has_first"):
            return
        now = self._clock()
        if store.add_first_prices(session, DEFAULT_PRICES, _SELF.id, now):
            record(
                session, _SELF, "prices.set", "prices:1",
                tenant_id=None, details={"models": sorted(DEFAULT_PRICES)}, at=now,
            )  # fmt: skip
        session.info["metering.has_first"] = True
        event.listen(session, "after_commit", self._first_is_kept, once=True)

    def _first_is_kept(self, _session: Session) -> None:
        self._has_first = True

    def _zone(self, session: Session, tenant_id: str) -> ZoneInfo:
        if tenant_id not in self._zones:
            tenant = find_tenant(session, tenant_id)
            if tenant is None:
                raise NotFound(f"tenant {tenant_id!r}: expected an existing tenant, found none")
            self._zones[tenant_id] = ZoneInfo(tenant.timezone)
        return self._zones[tenant_id]


def cost_micro(price: Price, prompt_tokens: int, completion_tokens: int) -> int:
    """What one request costs, whole micro-USD.

    The exact sum of both parts is rounded once, half up, in whole-number arithmetic; so a
    report's total is the sum of its rows to the last micro-dollar.

    Args:
        price: Micro-USD for a million tokens.
        prompt_tokens: As the engine counted them; likewise `completion_tokens`.

    Raises:
        ValueError: A count is negative.
    """
    if prompt_tokens < 0 or completion_tokens < 0:
        raise ValueError(f"tokens: expected 0 or more, found {prompt_tokens}, {completion_tokens}")
    exact = (
        prompt_tokens * price.prompt_micro_per_mtok
        + completion_tokens * price.completion_micro_per_mtok
    )
    return (exact + TOKENS_PER_PRICE // 2) // TOKENS_PER_PRICE


def _checked_prices(prices: Mapping[str, Price]) -> dict[str, Price]:
    if "*" not in prices:
        raise InvalidInput("prices: expected one for '*', so that every model has a price")
    for pattern, price in prices.items():
        fits = pattern.isprintable() and pattern.isascii() and 1 <= len(pattern) <= 200
        if not fits or any(mark in pattern for mark in "?[]"):
            raise InvalidInput(f"prices: expected a model name with '*', found {pattern[:80]!r}")
        for number in vars(price).values():
            if type(number) is not int or not 0 <= number <= MAX_PRICE:
                raise InvalidInput(
                    f"price of {pattern!r}: expected a whole number of micro-USD for a million "
                    f"tokens, 0 to {MAX_PRICE}, found {number!r}"
                )
    return {pattern: replace(price) for pattern, price in prices.items()}


def _day(given: date | datetime, zone: ZoneInfo) -> date:
    if isinstance(given, datetime):
        return given.astimezone(zone).date()
    return given
