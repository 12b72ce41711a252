"""Tables of usage and prices, and the sums over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, mapped_column

from services.db import Base
from services.metering.models import BudgetWarning, CostLine, Price, PriceTable, Usage


class UsageRow(Base):
    """One request; `day` is the tenant's day of `at`, since no database here knows both."""

    __tablename__ = "usage"

    request_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key_id: Mapped[str]
    alias: Mapped[str]
    served: Mapped[str]
    arm: Mapped[str]
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micro: Mapped[int] = mapped_column(BigInteger)
    price_version: Mapped[str]
    latency_ms: Mapped[int] = mapped_column(BigInteger)
    ttft_ms: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[str]
    at: Mapped[datetime]
    day: Mapped[str]

    __table_args__ = (
        Index(None, "tenant_id", "day"),
        Index(None, "tenant_id", "at"),
        Index(None, "tenant_id", "alias", "at"),
    )

    def usage(self) -> Usage:
        """This row as the domain knows it."""
        return Usage(**{name: getattr(self, name) for name in Usage.__dataclass_fields__})


class PriceTableRow(Base):
    """One version of the prices; never changed."""

    __tablename__ = "price_tables"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    prices: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    created_by: Mapped[str]

    def table(self) -> PriceTable:
        """This row as the domain knows it."""
        prices = {pattern: Price(*pair) for pattern, pair in self.prices.items()}
        return PriceTable(str(self.number), prices, self.created_at, self.created_by)


class BudgetWarningRow(Base):
    """One warning; a budget that was changed meanwhile is another budget. Never changed."""

    __tablename__ = "budget_warnings"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    month: Mapped[str] = mapped_column(primary_key=True)
    budget_micro: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    percent: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    spent_micro: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]

    def warning(self) -> BudgetWarning:
        """This row as the domain knows it."""
        return BudgetWarning(self.month, self.percent, self.budget_micro, self.spent_micro, self.at)


def latest_prices(session: Session) -> PriceTableRow | None:
    """The newest price table."""
    return session.scalar(select(PriceTableRow).order_by(PriceTableRow.number.desc()).limit(1))


def add_first_prices(
    session: Session, prices: Mapping[str, Price], created_by: str, now: datetime
) -> bool:
    """Write version 1 and say so, unless it is there or being written by someone else."""
    dialect = session.connection().dialect.name
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    values = {"number": 1, "prices": as_json(prices), "created_at": now, "created_by": created_by}
    statement = insert(PriceTableRow).values(**values).on_conflict_do_nothing()
    return session.execute(statement.returning(PriceTableRow.number)).first() is not None


def as_json(prices: Mapping[str, Price]) -> dict[str, list[int]]:
    """Prices as their column keeps them: prompt and completion, by pattern."""
    return {
        pattern: [price.prompt_micro_per_mtok, price.completion_micro_per_mtok]
        for pattern, price in prices.items()
    }


def price_tables(session: Session) -> list[PriceTable]:
    """All versions, newest first."""
    rows = session.scalars(select(PriceTableRow).order_by(PriceTableRow.number.desc()))
    return [row.table() for row in rows]


_IS_SERVED = UsageRow.alias.not_like("(%")
"""Whether users were served. Generated pairs, whose aliases have brackets, cost money but take
nothing from what users may ask for in a day."""


def tokens_of_day(session: Session, tenant_id: str, day: str) -> int:
    """Prompt and completion tokens of one tenant's day."""
    tokens = func.sum(UsageRow.prompt_tokens + UsageRow.completion_tokens)
    mine = select(tokens).where(UsageRow.tenant_id == tenant_id, UsageRow.day == day, _IS_SERVED)
    return int(session.scalar(mine) or 0)


def tokens_by_key(session: Session, tenant_id: str, day: str) -> dict[str, int]:
    """Prompt and completion tokens of one tenant's day by API key."""
    tokens = func.sum(UsageRow.prompt_tokens + UsageRow.completion_tokens)
    mine = select(UsageRow.key_id, tokens).where(
        UsageRow.tenant_id == tenant_id, UsageRow.day == day, _IS_SERVED
    )
    return {key_id: int(found) for key_id, found in session.execute(mine.group_by(UsageRow.key_id))}


def cost_of_month(session: Session, tenant_id: str, month: str) -> int:
    """What one tenant's month, `2026-11`, has cost so far, micro-USD."""
    mine = select(func.sum(UsageRow.cost_micro)).where(
        UsageRow.tenant_id == tenant_id,
        UsageRow.day >= f"{month}-01",
        UsageRow.day <= f"{month}-31",
    )
    return int(session.scalar(mine) or 0)


def add_warning(session: Session, tenant_id: str, warning: BudgetWarning) -> bool:
    """Write a warning and say so, unless it is there or being written by someone else."""
    dialect = session.connection().dialect.name
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    values = {"tenant_id": tenant_id, **vars(warning)}
    statement = insert(BudgetWarningRow).values(**values).on_conflict_do_nothing()
    return session.execute(statement.returning(BudgetWarningRow.percent)).first() is not None


def warnings_of(session: Session, tenant_id: str, month: str) -> list[BudgetWarning]:
    """A tenant's warnings of one month, oldest first."""
    mine = select(BudgetWarningRow).where(
        BudgetWarningRow.tenant_id == tenant_id, BudgetWarningRow.month == month
    )
    ordered = mine.order_by(BudgetWarningRow.at, BudgetWarningRow.percent)
    return [row.warning() for row in session.scalars(ordered)]


def known_requests(session: Session, request_ids: Iterable[str]) -> set[str]:
    """Those of the requests that have a usage row."""
    mine = select(UsageRow.request_id).where(UsageRow.request_id.in_(list(request_ids)))
    return set(session.scalars(mine))


def lines(
    session: Session,
    tenant_id: str,
    since: str,
    until: str,
    shared: InstrumentedAttribute[str] | None,
) -> list[CostLine]:
    """Sums over a tenant's days, one line for each value of a column, or one line for None."""
    sums: Iterable[Any] = (
        func.count(),
        func.sum(UsageRow.prompt_tokens),
        func.sum(UsageRow.completion_tokens),
        func.sum(UsageRow.cost_micro),
        func.sum(UsageRow.latency_ms),
    )
    statement = select(*([] if shared is None else [shared]), *sums).where(
        UsageRow.tenant_id == tenant_id, UsageRow.day >= since, UsageRow.day <= until
    )
    if shared is not None:
        statement = statement.group_by(shared)
    rows = [row if shared is not None else ("all", *row) for row in session.execute(statement)]
    return [_line(*row) for row in rows]


def newest_usage(session: Session, tenant_id: str, limit: int) -> list[Usage]:
    """A tenant's last requests, newest first."""
    mine = select(UsageRow).where(UsageRow.tenant_id == tenant_id)
    newest = mine.order_by(UsageRow.at.desc(), UsageRow.request_id.desc()).limit(limit)
    return [row.usage() for row in session.scalars(newest)]


def _line(name: str, count: int, *sums: Any) -> CostLine:
    # An empty sum is null, and PostgreSQL sums big integers into decimals.
    prompt, completion, cost, latency = (int(value or 0) for value in sums)
    mean = (2 * latency + count) // (2 * count) if count else 0
    return CostLine(name, count, prompt, completion, cost, mean)
