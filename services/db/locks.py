"""Taking turns over all processes."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session


def serialise(session: Session, name: str) -> None:
    """Let no two transactions that give the same name run at once.

    SQLite has one writer anyway. PostgreSQL gets an advisory lock that ends with the transaction.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name}
        )
