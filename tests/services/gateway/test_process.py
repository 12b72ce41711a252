import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.db import Database
from services.errors import PortInUse
from services.gateway.__main__ import main
from services.tenants.models import Limits
from tests.conftest import require
from tests.fakes.engine import FakeEngine
from tests.services.gateway.conftest import HELLO, SYSTEM, Edge, bearer, eventually
from tests.services.gateway.edges import Process, process_over


@pytest.fixture
def gateway(database: Database, engine: FakeEngine, tmp_path: Path) -> Iterator[Process]:
    with process_over(database, engine, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for all tests that do not kill it; the last of them lets it end."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copyfile(_sqlite_template, folder / "param.db")
    database = Database(f"sqlite:///{folder / 'param.db'}")
    with FakeEngine() as engine, process_over(database, engine, folder) as made:
        yield made
    database.close()


class Load:
    """Clients that ask without pause, and remember every receipt that they were given."""

    def __init__(self, edge: Edge, key: str, clients: int) -> None:
        self._edge = edge
        self._key = key
        self.receipts: list[str] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(30)

    def _ask(self, number: int) -> None:
        url = f"{self._edge.url}/v1/chat/completions"
        body = {"messages": HELLO, "stream": number % 2 == 0}
        with httpx.Client(timeout=20) as client:
            while True:
                try:
                    answer = client.post(url, json=body, headers=bearer(self._key))
                except httpx.TransportError:
                    return
                if number % 2:
                    self.receipts.append(answer.headers["x-param-receipt"])
                elif (mark := answer.text.find(": receipt ")) >= 0:
                    self.receipts.append(answer.text[mark + 10 :].split("\n")[0])


@pytest.mark.slow
def test_whoever_got_a_receipt_is_in_the_log_after_kill_9(gateway: Process) -> None:
    edge = gateway.edge
    key = edge.key("legal")
    seen: list[str] = []
    for _ in range(2):
        with Load(edge, key, clients=6) as load:
            eventually(lambda load=load: len(load.receipts) > 40, 60)
            gateway.end(signal.SIGKILL)
        seen += load.receipts
        gateway.start()
    assert len(set(seen)) == len(seen)
    subjects = [entry.subject for entry in entries(edge) if entry.subject.startswith("request:")]
    assert len(set(subjects)) == len(subjects)
    assert {f"request:{one}" for one in seen} <= set(subjects)
    rows = edge.services.metering.usage_rows(SYSTEM, "legal", limit=10_000)
    assert {f"request:{row.request_id}" for row in rows} == set(subjects)
    for receipt_id in seen[:: max(1, len(seen) // 50)]:
        stored = edge.services.receipts.get(SYSTEM, receipt_id)
        assert edge.services.receipts.verify(stored.envelope).holds
    edge.assert_log_holds()
    tokens = sum(row.prompt_tokens + row.completion_tokens for row in rows)
    who = edge.get("/v1/whoami", key).json()
    assert who["tokens_left_today"] == who["limits"]["daily_tokens"] - tokens


def entries(edge: Edge) -> list:  # type: ignore[type-arg]
    found: list = []  # type: ignore[type-arg]
    while more := edge.services.audit.entries(
        SYSTEM, None, after=found[-1].seq if found else 0, limit=5000
    ):
        found += more
    return found


def test_curl_lives_with_the_receipt_comment(shared: Process) -> None:
    require(shutil.which("curl") is not None, "curl")
    edge = shared.edge
    key = edge.key("legal")
    said = subprocess.run(
        ["curl", "-sN", f"{edge.url}/v1/chat/completions", "-H", f"Authorization: Bearer {key}",
         "-d", '{"stream": true, "messages": [{"role": "user", "content": "hello"}]}'],
        capture_output=True, check=True, timeout=30, text=True,
    ).stdout  # fmt: skip
    assert said.endswith("data: [DONE]\n\n")
    lines = [line for line in said.split("\n") if line and not line.startswith("data: ")]
    assert len(lines) == 1
    assert lines[0].startswith(": receipt ")


def test_a_busy_port_is_named(shared: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in shared.variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PortInUse, match="found another program listening there"):
        main()


def test_sigterm_lets_running_answers_end_and_takes_no_new_ones(shared: Process) -> None:
    edge = shared.edge
    key = edge.key("legal", Limits(tps=100, rpm=1000, daily_tokens=10**6))
    edge.engine.words = 60  # 60 tokens of 20 ms
    answers: list[httpx.Response] = []
    asked = len(edge.engine.requests)
    url = f"{edge.url}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "slow"}]}

    def ask(stream: bool) -> None:
        with httpx.Client(timeout=30) as client:
            answers.append(client.post(url, json={**body, "stream": stream}, headers=bearer(key)))

    threads = [threading.Thread(target=ask, args=(stream,)) for stream in (True, False)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(edge.engine.requests) == asked + 2)
    time.sleep(0.2)
    shared.end(signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert sorted("[DONE]" in answer.text for answer in answers) == [False, True]
    rows = edge.services.metering.usage_rows(SYSTEM, "legal", limit=2)
    assert [(row.completion_tokens, row.status) for row in rows] == [(60, "ok")] * 2
    with pytest.raises(httpx.ConnectError):
        edge.chat(key)
