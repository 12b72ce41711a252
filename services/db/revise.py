"""Write the next migration: `python -m services.db.revise "what changes"`.

For developers. Compares the tables that the domains declare with the newest migration, on a
throw-away SQLite database, and writes the difference as a new file in `migrations/versions`.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData

from services.db.engine import MIGRATIONS, Database
from services.db.types import Base

ROOMS = ("services", "labeling")
"""The packages that declare tables."""


def declared_tables() -> MetaData:
    """The tables of all domains: every `store` module, and the audit outbox, imported."""
    for room in ROOMS:
        folder = importlib.import_module(room).__path__
        for module in pkgutil.walk_packages(folder, f"{room}."):
            if module.name.rpartition(".")[2] in {"store", "outbox"}:
                importlib.import_module(module.name)
    return Base.metadata


def differences(connection: Connection) -> list[Any]:
    """What the declared tables have that the connected database has not, and the reverse."""
    metadata = declared_tables()
    opts = {"compare_type": True, "include_name": is_declared}
    context = MigrationContext.configure(connection, opts=opts)
    return list(compare_metadata(context, metadata))


def is_declared(name: str | None, kind: str, _parents: Mapping[str, Any]) -> bool:
    """Whether a table is one that classes can declare.

    A full-text index is not: a domain that makes one itself names the beginning of its tables in
    `Base.metadata.info["made_by_hand"]`.
    """
    by_hand = tuple(Base.metadata.info.get("made_by_hand", ()))
    return kind != "table" or name is None or not name.startswith(by_hand)


def main(message: str) -> None:
    """Write one migration file and print its name."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'empty.db'}")
        database.migrate()
        with database.engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            config.attributes["metadata"] = declared_tables()
            existing = len(list((MIGRATIONS / "versions").glob("[0-9]*.py")))
            command.revision(config, message, autogenerate=True, rev_id=f"{existing + 1:04}")
        database.close()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "change tables")
