"""A real gateway on loopback, over real services and a fake engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from services import bootstrap
from services import settings as configuration
from services.bootstrap import Services
from services.db import Database
from services.gateway.app import GatewayApp, build_app
from services.tenants.models import Actor, Limits
from tests.conftest import free_port
from tests.fakes.engine import FakeEngine
from tests.services.gateway.disk import Disk
from tests.services.registry.adapters import BASE_DIGEST, DATASET_SHA256, write_adapter

SYSTEM = Actor.system("test")
PLENTY = Limits(tps=10**6, rpm=10**6, daily_tokens=10**9)
HOOK_SECRET = "secret-of-the-installation"
WAITING = "param_gateway_waiting_commits"
HELLO = [{"role": "user", "content": "hello"}]


def eventually(holds: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something holds; fail if it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


@dataclass
class Edge:
    """A running gateway with what it stands on.

    Attributes:
        parts: The services, as they are at any moment.
        app: The application, where it runs in this process; likewise `disk`.
    """

    url: str
    parts: Services
    engine: FakeEngine
    folder: Path
    app: GatewayApp | None = None
    below: Disk | None = None
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    @property
    def disk(self) -> Disk:
        """The disk under the database of a gateway in this process."""
        assert self.below is not None
        return self.below

    @property
    def services(self) -> Services:
        """The services, when everything that was answered until now is committed."""
        if self.app is None:
            eventually(lambda: self._waiting() == 0)
        elif (gateway := self.app.gateway) is not None:
            writer, answered = gateway.writer, gateway.writer.uncommitted
            eventually(lambda: answered.isdisjoint(writer.uncommitted) or not writer.is_healthy)
        return self.parts

    def _waiting(self) -> int:
        """How many answers a gateway in a process of its own has not committed; 0 if it is gone."""
        try:
            text = self.http.get(f"{self.url}/metrics").text
        except httpx.TransportError:
            return 0
        [line] = [one for one in text.splitlines() if one.startswith(f"{WAITING} ")]
        return int(float(line.split()[1]))

    def key(self, tenant_id: str, limits: Limits = PLENTY) -> str:
        """A key of a tenant, which is made if it is not there; usable at once."""
        if tenant_id not in {tenant.id for tenant in self.services.tenants.list(SYSTEM)}:
            self.services.tenants.create(SYSTEM, tenant_id, limits=limits, tenant_id=tenant_id)
        key = self.services.tenants.create_key(SYSTEM, tenant_id, "test").key
        eventually(lambda: self.get("/v1/whoami", key).status_code == 200)
        return key

    def follow_policy(self, tenant_id: str, source: str) -> None:
        """Give a tenant a policy and wait until the gateway follows it."""
        saved = self.services.guardrails.save(SYSTEM, tenant_id, source)
        key = self.key(tenant_id)
        eventually(lambda: self.get("/v1/whoami", key).json()["policy"]["version"] == saved.version)

    def adapter(self, tenant_id: str, seed: int, alias: str | None = None) -> str:
        """A registered adapter."""
        alias = alias or tenant_id
        source = write_adapter(self.folder / f"{tenant_id}-{alias}-{seed}", seed=seed)
        return self.services.registry.register(
            SYSTEM,
            tenant_id,
            alias=alias,
            folder=source,
            base_model="fake-base",
            base_digest=BASE_DIGEST,
            run_id=f"run-{tenant_id}-{alias}-{seed}",
            dataset_sha256=DATASET_SHA256,
            metrics={},
        ).name

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        return self.http.get(self.url + path, headers=bearer(key))

    def chat(self, key: str | None, said: str = "hello", **fields: Any) -> httpx.Response:
        headers = bearer(key) | fields.pop("headers", {})
        body = {"messages": [{"role": "user", "content": said}], **fields}
        return self.http.post(f"{self.url}/v1/chat/completions", json=body, headers=headers)

    def actions(self) -> list[str]:
        """The actions of the log, oldest first."""
        return [entry.action for entry in self.services.audit.entries(SYSTEM, None, limit=5000)]

    def assert_log_holds(self) -> None:
        """Verified to its end, which may move on meanwhile, and no place in it is left out."""
        size = self.services.audit.verify().size
        seqs: list[int] = []
        while len(seqs) < size:
            after = seqs[-1] if seqs else 0
            page = self.services.audit.entries(SYSTEM, None, after=after, limit=5000)
            assert page, f"{size} entries were verified, {len(seqs)} are there"
            seqs += [entry.seq for entry in page]
        assert seqs == list(range(1, len(seqs) + 1))

    def inferences(self) -> list[str]:
        """Those of requests alone: other events reach the log at a time of their own."""
        return [action for action in self.actions() if action.startswith("inference.")]


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


def environment(home: Path, engine_url: str, database_url: str, port: int) -> dict[str, str]:
    """The variables of one installation."""
    return {
        "PARAM_HOME": str(home),
        "PARAM_ENGINE_URL": engine_url,
        "PARAM_DATABASE_URL": database_url,
        "PARAM_GATEWAY_PORT": str(port),
        # Nobody listens there: the gateway must not need MLflow.
        "PARAM_MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "PARAM_LABEL_STUDIO_HOOK_SECRET": HOOK_SECRET,
    }


@contextmanager
def served(app: Any, port: int, **options: Any) -> Iterator[uvicorn.Server]:
    """An application behind a real server, in a thread, with uvicorn's options."""
    usual = {"log_level": "warning", "lifespan": "on", "timeout_graceful_shutdown": 1}
    config = uvicorn.Config(app, host="127.0.0.1", port=port, **(usual | options))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="gateway")
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start"
        yield server
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not stop"


@contextmanager
def edge_over(
    database: Database, engine: FakeEngine, folder: Path, **variables: str
) -> Iterator[Edge]:
    """A gateway in this process, with more variables than usual."""
    port = free_port()
    url = database.url.render_as_string(hide_password=False)
    env = environment(folder / "home", engine.url, url, port) | {
        "PARAM_GATEWAY_URL": f"http://127.0.0.1:{port}", **variables,
    }  # fmt: skip
    services = bootstrap.build(configuration.load(env, directory=folder))
    disk, app = Disk(services.db), build_app(services)
    made = Edge(f"http://127.0.0.1:{port}", services, engine, folder / "sources", app, disk)
    try:
        with made.http, served(app, port):
            yield made
    finally:
        services.close()


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as fake:
        yield fake


@pytest.fixture
def edge(database: Database, engine: FakeEngine, tmp_path: Path) -> Iterator[Edge]:
    with edge_over(database, engine, tmp_path) as made:
        yield made


@pytest.fixture
def careful(database: Database, engine: FakeEngine, tmp_path: Path) -> Iterator[Edge]:
    """A gateway whose answers wait for their commit."""
    with edge_over(database, engine, tmp_path, PARAM_ANSWER_AFTER="commit") as made:
        yield made


@pytest.fixture
def services(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    """An installation with a tenant `acme`, whose variables are those of this process, as children find them."""
    url = database.url.render_as_string(hide_password=False)
    variables = environment(tmp_path / "home", "http://127.0.0.1:9", url, 1)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = bootstrap.build(configuration.load(directory=tmp_path))
    made.tenants.create(SYSTEM, "Acme", limits=PLENTY)
    yield made
    made.close()
