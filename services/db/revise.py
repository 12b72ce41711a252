"""Write the next migration: `python -m services.db.revise "what changes"`.

For developers. Compares the tables that the domains declare with the newest migration, on a
throw-away SQLite database, and writes the difference as a new file in `migrations/versions`.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData

import services
from services.db.engine import MIGRATIONS, Database
from services.db.types import Base


def declared_tables() -> MetaData:
    """The tables of all domains: every `store` module, and the audit outbox, imported."""
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if module.name.rpartition(".")[2] in {"store", "outbox"}:
            importlib.import_module(module.name)
    return Base.metadata


def differences(connection: Connection) -> list[Any]:
    """What the declared tables have that the connected database has not, and the reverse."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, declared_tables()))


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
