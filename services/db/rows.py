"""Many rows at once, past the statement builder: what the hot path inserts for each answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Dialect, Table, insert
from sqlalchemy.orm import Session

from services.db.types import Base

_Prepared = tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]], list[Any]]


def insert_rows(session: Session, kind: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of one table in the caller's transaction.

    The same statement and the same conversions as `insert(kind)`, made once for each table instead
    of once for each call, which takes longer than the database does.

    Args:
        rows: Every column of the table by its name; other keys are passed over.

    Raises:
        KeyError: A row lacks a column.
    """
    if not rows:
        return
    connection = session.connection()
    statement, take, processors = _prepared(kind, connection.dialect)
    connection.exec_driver_sql(
        statement,
        [
            tuple(
                value if process is None else process(value)
                for value, process in zip(take(row), processors, strict=True)
            )
            for row in rows
        ],
    )


@lru_cache(maxsize=64)
def _prepared(kind: type[Base], dialect: Dialect) -> _Prepared:
    """The statement with its placeholders in the columns' order, and what converts each value."""
    table = cast(Table, kind.__table__)
    names = [column.name for column in table.columns]
    statement = str(insert(table).compile(dialect=dialect, column_keys=names))
    for name in names:
        statement = statement.replace(f"%({name})s", "%s")
    processors = [
        column.type.dialect_impl(dialect).bind_processor(dialect) for column in table.columns
    ]
    return statement, itemgetter(*names), processors
