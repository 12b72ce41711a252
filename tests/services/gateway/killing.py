"""A gateway that is killed under load again and again, and what must hold afterwards."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from services.metering.models import Usage
from services.tenants.models import KeyLimits, Limits
from tests.services.gateway.conftest import SYSTEM, Edge, bearer, eventually
from tests.services.gateway.edges import Process
from tests.services.gateway.test_process import entries

TENANT = "legal"
LIMITS = Limits(tps=10**6, rpm=10**6, daily_tokens=10**6, concurrent=10, monthly_micro=10**6)
"""Wide at the beginning; `narrow` makes them what is nearly used up."""


@dataclass
class Load:
    """Clients that ask without pause: whole answers, streams, and streams that go on for long.

    Attributes:
        receipts: Ids of the receipts that somebody was given to the end.
        statuses: How often each status was answered.
        begun: Streams whose first bytes were seen and whose end was not.
    """

    edge: Edge
    key: str
    clients: int
    receipts: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    begun: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(30)

    def _ask(self, number: int) -> None:
        url = f"{self.edge.url}/v1/chat/completions"
        said = "slow" if number % 3 == 2 else "hello"
        body = {"messages": [{"role": "user", "content": said}], "stream": number % 3 > 0}
        with httpx.Client(timeout=20) as client:
            while True:
                try:
                    if body["stream"]:
                        self._streamed(client, url, body)
                    else:
                        answer = client.post(url, json=body, headers=bearer(self.key))
                        self._answered(answer, answer.headers.get("x-param-receipt", ""))
                except httpx.TransportError:
                    return

    def _streamed(self, client: httpx.Client, url: str, body: dict[str, object]) -> None:
        with client.stream("POST", url, json=body, headers=bearer(self.key)) as answer:
            receipt, has_text = "", False
            try:
                for line in answer.iter_lines():
                    has_text = has_text or line.startswith("data: {")
                    receipt = line[10:] if line.startswith(": receipt ") else receipt
            except httpx.TransportError:
                if has_text and not receipt:
                    self.begun.append(answer.headers["x-param-receipt"])
                raise
            self._answered(answer, receipt)

    def _answered(self, answer: httpx.Response, receipt: str) -> None:
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200 and receipt:
            self.receipts.append(receipt)
        else:
            time.sleep(0.02)  # Refused: whoever asks on at once would only heat the machine.


@dataclass
class Findings:
    """What was found after all kills.

    Attributes:
        begun: Streams that a kill cut off after their first bytes.
        asked: Requests that the engine has seen.
    """

    receipts: list[str]
    begun: list[str]
    statuses: Counter[int]
    rows: list[Usage]
    interrupted: int
    asked: int
    limits: Limits
    kills: int


def kill_often(gateway: Process, kills: int, *, answers: int = 12, clients: int = 6) -> Findings:
    """Kill a gateway under load so many times, and start it again each time.

    Half-way the day's tokens and the month's money are made so narrow that they run out.
    """
    edge = gateway.edge
    # Streams of 25 tokens, 20 ms each: some are always in the middle.
    edge.engine.says = ["word"] + [f" w{n}" for n in range(24)]
    key = edge.key(TENANT, LIMITS)
    found = Findings([], [], Counter(), [], 0, 0, LIMITS, kills)
    for number in range(kills):
        if number == kills // 2:
            found.limits = narrow(edge)
        with Load(edge, key, clients) as load:
            enough = answers if number <= kills // 2 else 1
            eventually(lambda load=load, n=enough: sum(load.statuses.values()) >= n, 60)
            gateway.end(signal.SIGKILL)
        found.receipts += load.receipts
        found.begun += load.begun
        found.statuses += load.statuses
        gateway.start()
    found.rows = edge.services.metering.usage_rows(SYSTEM, TENANT, limit=10_000)
    found.interrupted = sum(one.action == "inference.interrupted" for one in entries(edge))
    found.asked = len(edge.engine.requests)
    assert_that_all_holds(edge, key, found)
    return found


def narrow(edge: Edge) -> Limits:
    """Leave the tenant a few answers of its day and its month."""
    used = edge.services.metering.used(edge.services.tenants.get(SYSTEM, TENANT))
    limits = Limits(
        LIMITS.tps, LIMITS.rpm, used.tokens + 900, LIMITS.concurrent, used.month_micro + 350
    )
    edge.services.tenants.set_limits(SYSTEM, TENANT, limits)
    [issued] = edge.services.tenants.list_keys(SYSTEM, TENANT)
    edge.services.tenants.set_key_limits(SYSTEM, TENANT, issued.id, KeyLimits(concurrent=8))
    key_limits = {"tps": None, "rpm": None, "daily_tokens": None, "concurrent": 8}
    eventually(lambda: edge.services.tenants.key_limits()[issued.id] == KeyLimits(**key_limits))
    return limits


def assert_that_all_holds(edge: Edge, key: str, found: Findings) -> None:
    """Nothing lost, nothing twice, nothing overshot, nothing kept."""
    log = [one for one in entries(edge) if one.subject.startswith("request:")]
    subjects = [one.subject for one in log]
    assert len(set(subjects)) == len(subjects), "a request is in the log twice"
    assert {f"request:{one}" for one in found.receipts} <= set(subjects)
    assert {f"request:{row.request_id}" for row in found.rows} == set(subjects)
    edge.assert_log_holds()
    for receipt_id in found.receipts[:: max(1, len(found.receipts) // 50)]:
        stored = edge.services.receipts.get(SYSTEM, receipt_id)
        assert edge.services.receipts.verify(stored.envelope).holds
    # Whatever the engine was asked is accounted for, answered or not.
    assert len(found.rows) >= found.asked
    # A stream of which something was seen is there, with what was seen; it may have been recorded
    # to its end a moment before its end was sent.
    by_id = {row.request_id: row for row in found.rows}
    assert {by_id[one].status for one in found.begun} <= {"partial", "ok"}
    assert all(by_id[one].prompt_tokens > 0 for one in found.begun)
    used = sum(row.prompt_tokens + row.completion_tokens for row in found.rows)
    spent = sum(row.cost_micro for row in found.rows)
    assert used <= found.limits.daily_tokens, "more tokens than the day has"
    assert spent <= (found.limits.monthly_micro or 0), "more money than the month has"
    who = edge.get("/v1/whoami", key).json()
    assert who["running"] == 0
    assert who["tokens_left_today"] == found.limits.daily_tokens - used
    assert who["budget_left_micro"] == (found.limits.monthly_micro or 0) - spent
