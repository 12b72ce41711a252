"""The database: one engine, one base class, migrations, and what a transaction is.

Owns connections, column types and ids; knows no table of its own. Refuses a database that a
newer version wrote. SQLite (WAL) and PostgreSQL run the same code.
"""

from services.db.engine import Database
from services.db.rows import insert_rows
from services.db.types import Base, Clock, Json, UtcDateTime, age_s, new_id, utcnow

__all__ = [
    "Base",
    "Clock",
    "Database",
    "Json",
    "UtcDateTime",
    "age_s",
    "insert_rows",
    "new_id",
    "utcnow",
]
