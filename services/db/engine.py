"""Connections and transactions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.orm import Session

from services.errors import DatabaseTooNew, StorageFull, Unavailable, WrongConfiguration

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_TIMEOUT_MS = 60_000
"""Longer than the longest single transaction: an import of 100,000 pairs holds the lock for ~18 s."""
MIGRATIONS = Path(__file__).parent / "migrations"
_LOCKED = f"the database stayed locked for {BUSY_TIMEOUT_MS // 1000} s; nothing was written"


class Database:
    """One database and its transactions.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://…`.

    Raises:
        WrongConfiguration: The URL cannot be parsed or names another kind of database.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError as error:
            raise WrongConfiguration(
                "PARAM_DATABASE_URL: expected sqlite:///FILE or postgresql+psycopg://…, "
                "found something that is not a database URL"
            ) from error
        if self.url.get_backend_name() not in {"sqlite", "postgresql"}:
            raise WrongConfiguration(
                "PARAM_DATABASE_URL: expected sqlite:///FILE or postgresql+psycopg://…, "
                f"found the backend {self.url.get_backend_name()!r}"
            )
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _engine(self.url.render_as_string(hide_password=False), self.is_sqlite)
        self._writing = self.engine.execution_options(param_write=True)
        self._turns = threading.RLock()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that may change rows; committed at the end, undone on any error.

        On SQLite it takes the write lock at once (`BEGIN IMMEDIATE`), so that a
        read-then-write never meets `database is locked` half-way.

        Raises:
            StorageFull: The disk is full; nothing was written.
            Unavailable: The database cannot be reached or stayed locked.
        """
        with (
            self._turn(),
            _reported(),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let the threads of this process write one after another where there is one writer anyway.

        SQLite lets those who wait sleep and look again, ever longer, and whoever comes at the right
        moment overtakes them: with twenty people at the review desk some wait for seconds.
        """
        if not self.is_sqlite:
            yield
            return
        if not self._turns.acquire(timeout=BUSY_TIMEOUT_MS / 1000):
            raise Unavailable(_LOCKED)
        try:
            yield
        finally:
            self._turns.release()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that only reads, from one consistent state."""
        with _reported(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema to this version.

        Args:
            revision: An older one, for tests of the way from there.

        Raises:
            DatabaseTooNew: A newer version of the program wrote this database.
        """
        from alembic import (
            command,
        )  # Takes as long to load as all else here; few processes migrate.
        from alembic.runtime.migration import MigrationContext

        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        with _reported(), self._unlinked() as connection:
            self._refuse_newer(connection)
            config = _migrations()
            config.attributes["connection"] = connection
            before = MigrationContext.configure(connection).get_current_revision()
            command.upgrade(config, revision)
            after = MigrationContext.configure(connection).get_current_revision()
            if self.is_sqlite and before != after:
                _refuse_broken_links(connection)

    @contextmanager
    def _unlinked(self) -> Iterator[Connection]:
        """One transaction in which SQLite lets tables be replaced that others refer to.

        Its foreign keys are looked at before the commit instead of at each statement, as SQLite's
        own instructions for changing tables have it (lang_altertable, section 7).
        """
        with self.engine.connect() as connection:
            if not self.is_sqlite:
                with connection.begin():
                    yield connection
                return
            driver = connection.connection.driver_connection
            assert driver is not None, "a connection that was just opened"
            driver.execute("PRAGMA foreign_keys=OFF").close()
            try:
                with connection.begin():
                    yield connection
            finally:
                driver.execute("PRAGMA foreign_keys=ON").close()

    def _refuse_newer(self, connection: Connection) -> None:
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        found = MigrationContext.configure(connection).get_current_revision()
        scripts = ScriptDirectory.from_config(_migrations())
        known = {script.revision for script in scripts.walk_revisions()}
        if found is not None and found not in known:
            newest = max(known, default="none")
            raise DatabaseTooNew(
                f"database {self.url.render_as_string(hide_password=True)}: expected schema "
                f"{newest} or older, found {found}, which a newer version wrote; "
                "start that version instead"
            )

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def _migrations() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _json(value: Any) -> str:
    """A JSON column's text; six times as fast as `json`, which the hot path waits for."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # half a surrogate pair, a number beyond 64 bits
        return json.dumps(value)


def _engine(url: str, is_sqlite: bool) -> Engine:
    if not is_sqlite:
        return create_engine(url, pool_pre_ping=True, json_serializer=_json)
    engine = create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000}, json_serializer=_json
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The driver's own BEGIN comes too late for snapshots; ours is sent below.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "foreign_keys=ON",
            "synchronous=FULL",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("param_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _refuse_broken_links(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise Unavailable(
            f"the database cannot be brought to this version: a row of {broken[0]} refers to one "
            f"of {broken[2]} that is not there; nothing was changed"
        )


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        text = str(error.orig).lower()
        if "disk is full" in text or "no space left" in text or "disk i/o error" in text:
            raise StorageFull("the disk of the database is full; nothing was written") from error
        if "locked" in text or "busy" in text:
            raise Unavailable(_LOCKED) from error
        if "unable to open" in text or "connect" in text or "server closed" in text:
            raise Unavailable("the database cannot be reached; see PARAM_DATABASE_URL") from error
        raise
    except DatabaseError as error:
        text = str(error.orig)
        if "not a database" in text or "malformed" in text:
            raise Unavailable(
                f"the database cannot be read: {text}; see PARAM_DATABASE_URL"
            ) from error
        raise
