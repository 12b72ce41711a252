"""Fixtures that every test may use: databases, tenants, time."""

from __future__ import annotations

import importlib
import os
import pkgutil
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import services
from services.db import Base, Database

REQUIRE_ALL = os.environ.get("PARAM_REQUIRE_ALL") == "1"
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def require(found: bool, what: str) -> None:
    """Skip by name where something is missing; fail instead under `PARAM_REQUIRE_ALL=1`."""
    if found:
        return
    if REQUIRE_ALL:
        pytest.fail(f"PARAM_REQUIRE_ALL=1 and {what} is missing")
    pytest.skip(f"{what} is missing")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def import_tables() -> None:
    """Import every module that declares tables."""
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if module.name.rpartition(".")[2] in {"store", "outbox"}:
            importlib.import_module(module.name)


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
    import_tables()
    Base.metadata.create_all(template.engine)
    template.close()
    return "param_template"


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "param.db"
    template = Database(f"sqlite:///{path}")
    import_tables()
    Base.metadata.create_all(template.engine)
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
        return
    url: str = request.getfixturevalue("postgres_url")
    template: str = request.getfixturevalue("_postgres_template")
    name = f"t{os.getpid()}_{abs(hash(request.node.nodeid)) % 10**12}"
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
