"""The disk under a database, which can be slow or full."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import event

from services.db import Database


class Disk:
    """Stands below the connections of one process; in place before anything else uses them.

    SQLAlchemy's listeners must not be added while another thread goes through them.

    Attributes:
        is_full: SQLite finds no room for one more page, until it is given some.
        free: Whether commits come to their end; `stall` takes it away.
        waits: Whether a commit waits for that.
    """

    def __init__(self, database: Database) -> None:
        self.is_full = False
        self.free = threading.Event()
        self.free.set()
        self.waits = threading.Event()
        if database.is_sqlite:
            event.listen(database.engine, "begin", self._begin)
        event.listen(database.engine, "commit", self._commit)

    def stall(self) -> None:
        """Let commits wait from now on."""
        self.waits.clear()
        self.free.clear()

    def _begin(self, connection: Any) -> None:
        most = 1 if self.is_full else 2**30  # SQLite never goes below what is there already
        connection.exec_driver_sql(f"PRAGMA max_page_count = {most}").close()

    def _commit(self, connection: Any) -> None:
        if connection.get_execution_options().get("param_write") and not self.free.is_set():
            self.waits.set()
            assert self.free.wait(30), "nobody let the disk go"
