"""Fixtures that every test may use: databases, tenants, time."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings as hypothesis_settings
from sqlalchemy import create_engine, text

from services.db import Database
from services.db.revise import declared_tables
from tests.models import base_model, tiny_model  # noqa: F401 - fixtures for all tests
from tests.support import REQUIRE_ALL, SHARED_DATA, free_port, require

__all__ = ["SHARED_DATA", "free_port", "require"]

# A test never times: a slow machine is no failure. Where a change is judged, properties are tried on
# the same examples each time, so that no change is refused for what it did not touch; everywhere
# else on new ones.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.register_profile("judged", deadline=None, derandomize=True)
hypothesis_settings.load_profile("judged" if REQUIRE_ALL else "untimed")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A throw-away PostgreSQL server; the URL names its maintenance database."""
    require(shutil.which("initdb") is not None, "PostgreSQL (initdb)")
    folder = Path(tempfile.mkdtemp(prefix="param-pg-"))
    port = free_port()
    as_user = _unprivileged(folder)
    data = str(folder / "data")
    options = (
        f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off"
    )
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*as_user, "initdb", "-D", data, "-U", "param", "-A", "trust"], **quiet)
    start = ["pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"]
    subprocess.run([*as_user, *start], **quiet)
    try:
        yield f"postgresql+psycopg://param@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*as_user, "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root: name another user there."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in names else "nobody"
    shutil.chown(folder, user)
    return ["runuser", "-u", user, "--"]


@pytest.fixture(scope="session")
def _postgres_template(postgres_url: str) -> str:
    maintenance = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with maintenance.connect() as connection:
        connection.execute(text("CREATE DATABASE param_template"))
    maintenance.dispose()
    template = Database(postgres_url.rpartition("/")[0] + "/param_template")
    declared_tables().create_all(template.engine)
    template.close()
    return "param_template"


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "param.db"
    template = Database(f"sqlite:///{path}")
    declared_tables().create_all(template.engine)
    template.close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with the full schema: each test that takes it runs on both kinds."""
    if request.param == "sqlite":
        path = tmp_path / "param.db"
        shutil.copyfile(request.getfixturevalue("_sqlite_template"), path)
        found = Database(f"sqlite:///{path}")
        yield found
        found.close()
    else:
        yield from _postgres_database(request, request.getfixturevalue("_postgres_template"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without any table, of both kinds."""
    if request.param == "sqlite":
        found = Database(f"sqlite:///{tmp_path / 'empty.db'}")
        yield found
        found.close()
    else:
        yield from _postgres_database(request, "template0")


def _postgres_database(request: pytest.FixtureRequest, template: str) -> Iterator[Database]:
    url: str = request.getfixturevalue("postgres_url")
    name = f"t{uuid4().hex}"
    maintenance = create_engine(url, isolation_level="AUTOCOMMIT")
    with maintenance.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    found = Database(url.rpartition("/")[0] + f"/{name}")
    try:
        yield found
    finally:
        found.close()
        with maintenance.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        maintenance.dispose()
