"""`kill -9` of each program in mid-work: after its restart nothing is lost and nothing doubled."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import select

from services.attestation import receipts
from services.attestation.store import ReceiptRow
from services.audit.store import AuditRow
from services.bootstrap import Services
from services.inference.models import BaseModel
from services.jobs.models import JobStatus
from services.metering.store import UsageRow
from services.preferences.store import ReviewRow
from services.tenants.models import Actor
from services.training.models import DpoSpec
from tests.browser.installation import Installation
from tests.browser.visitors import Visitor
from tests.browser.waiting import until
from tests.models import make_adapter

pytestmark = [
    pytest.mark.browser,
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # MLflow's own store, when the adapter that is made by hand is registered.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]

SYSTEM = Actor.system("test")
TENANT = "ailydian-hq"
LONG = {
    "model": TENANT,
    "messages": [{"role": "user", "content": "Tell me a long story about a fox and a river."}],
    "temperature": 0,
    "max_tokens": 200,
    "stream": True,
}
CLIENTS = 3
STEPS = 4


@pytest.fixture(scope="module")
def key(services: Services) -> str:
    """An API key of the tenant."""
    return services.tenants.create_key(SYSTEM, TENANT, "test").key


@pytest.fixture
def gateway(installed: Installation, key: str) -> Iterator[httpx.Client]:
    """The gateway, as a holder of the key reaches it once it knows the key."""
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(
        base_url=installed.settings.gateway_url, headers=headers, timeout=120
    ) as http:
        until(lambda: http.get("/v1/whoami").status_code == 200, "the gateway knows the key")
        yield http


@pytest.fixture(scope="module")
def candidate(services: Services, base_model: BaseModel, tmp_path_factory: Any) -> str:
    """An adapter that answers everybody, as a candidate with all of the traffic."""
    folder = make_adapter(base_model.path, tmp_path_factory.mktemp("adapter"), strength=0.02)
    adapter = services.registry.register(
        SYSTEM,
        TENANT,
        alias=TENANT,
        folder=folder,
        base_model=base_model.name,
        base_digest=base_model.digest,
        run_id="made-by-hand",
        dataset_sha256="0" * 64,
        metrics={},
    )
    services.rollouts.start(SYSTEM, TENANT, TENANT, adapter.name, percent=100)
    return adapter.name


def is_loaded(services: Services, adapter: str) -> bool:
    return adapter in {model.id for model in services.engine.models()}


@dataclass
class Load:
    """Clients that ask one short question after another until told to stop.

    Attributes:
        receipts: Ids of the receipts that reached a client.
        broken: How many requests got none.
    """

    url: str
    key: str
    receipts: list[str] = field(default_factory=list)
    broken: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self) -> None:
        asked = {"model": TENANT, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        headers = {"authorization": f"Bearer {self.key}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=60) as http:
            while not self.stop.wait(0.05):
                try:
                    answer = http.post("/v1/chat/completions", json=asked)
                except httpx.HTTPError:
                    self.broken += 1
                    continue
                if answer.status_code == 200:
                    self.receipts.append(answer.headers["x-param-receipt"])


def assert_the_books_hold(
    installed: Installation, services: Services, given: list[str] | None = None
) -> None:
    """Each receipt has one entry in the log, one usage row and a signature that holds.

    A request that a kill cut off has an entry and a usage row as well, each once, and no receipt.

    Args:
        given: Receipts that clients hold: each of them must be there.
    """
    assert installed.param("audit", "verify")["ok"] is True
    with services.db.read() as session:
        kept = dict(session.execute(select(ReceiptRow.receipt_id, ReceiptRow.envelope)).all())
        used = session.execute(select(UsageRow.request_id, UsageRow.status)).all()
        logged, interrupted = (
            Counter(session.scalars(select(AuditRow.subject).where(AuditRow.action.in_(actions))))
            for actions in (["inference.answered", "inference.cut_off"], ["inference.interrupted"])
        )
    assert set(given or ()) <= set(kept)
    broken = {subject.removeprefix("request:") for subject in interrupted}
    assert set(interrupted.values()) <= {1}
    assert broken.isdisjoint(kept)
    assert broken <= {row.request_id for row in used}
    billed = [row.request_id for row in used if row.status != "error"]
    assert sorted(kept) == sorted(set(billed) - broken)
    assert len(billed) == len(set(billed))
    assert logged == {f"request:{receipt}": 1 for receipt in kept}
    keys = services.keyring.jwks()
    assert all(receipts.verify(envelope, keys).holds for envelope in kept.values())


def first_words(lines: Iterator[str]) -> None:
    """Read a stream until the model has begun to answer."""
    for line in lines:
        if line.startswith("data: {"):
            choices = json.loads(line[6:])["choices"]
            if choices and choices[0]["delta"].get("content"):
                return
    raise AssertionError("the stream ended before its first word")


def test_the_gateway(
    installed: Installation, services: Services, gateway: httpx.Client, key: str
) -> None:
    with Load(installed.settings.gateway_url, key) as load:
        until(lambda: len(load.receipts) >= CLIENTS, "the load is answered")
        with (
            pytest.raises(httpx.HTTPError),
            gateway.stream("POST", "/v1/chat/completions", json=LONG) as answer,
        ):
            lines = answer.iter_lines()
            first_words(lines)
            old = installed.kill("gateway")
            assert not [line for line in lines if line.startswith(": receipt")]
        installed.await_restart("gateway", old)
        before = len(load.receipts)
        until(lambda: len(load.receipts) >= before + CLIENTS, "the load is answered again")
    assert len(set(load.receipts)) == len(load.receipts)
    assert_the_books_hold(installed, services, load.receipts)


def test_the_engine(
    installed: Installation, services: Services, gateway: httpx.Client, candidate: str
) -> None:
    until(lambda: is_loaded(services, candidate), "the engine has the candidate")
    until(
        lambda: gateway.get("/v1/whoami").json()["aliases"][0]["percent"] == 100,
        "the gateway follows the rollout",
    )
    with gateway.stream("POST", "/v1/chat/completions", json=LONG) as answer:
        assert answer.headers["x-param-model"] == candidate
        lines = answer.iter_lines()
        first_words(lines)
        old = installed.kill("engine")
        rest = list(lines)
    (receipt,) = [line.split()[2] for line in rest if line.startswith(": receipt")]
    assert "data: [DONE]" not in rest
    told = json.loads([line for line in rest if line.startswith("data: ")][-1][6:])
    assert told["error"]["code"] == "engine_unavailable"
    installed.await_restart("engine", old)
    # Nobody has asked for it: the gateway sees by itself that the engine has forgotten it.
    until(lambda: is_loaded(services, candidate), "the engine has the candidate again")
    short = LONG | {"stream": False, "max_tokens": 2}
    again = until(
        lambda: _answered(gateway.post("/v1/chat/completions", json=short)),
        "the candidate answers again",
    )
    assert again.headers["x-param-model"] == candidate
    given = [receipt, again.headers["x-param-receipt"]]
    assert_the_books_hold(installed, services, given)
    with services.db.read() as session:
        cut = session.get_one(UsageRow, receipt)
        assert (cut.status, cut.served, cut.arm) == ("partial", candidate, "canary")
        assert cut.completion_tokens > 0


def _answered(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.status_code == 200 else None


def test_the_console(browser: Any, installed: Installation, services: Services) -> None:
    with Visitor(browser, installed) as annotator:
        annotator.sign_in("annotator")
        annotator.open("review")
        total = services.preferences.stats(SYSTEM, TENANT).total
        annotator.has_card()
        annotator.tab.keyboard.press("2")
        annotator.sees(annotator.text("review.progress", reviewed=1, total=total, mine=1))
        annotator.has_card()
        # The second vote is on its way while the console dies: it counts once or not at all.
        annotator.tab.keyboard.press("6")
        old = installed.kill("console")
        installed.await_restart("console", old)
        reviewed = len(votes(services))
        assert reviewed in {1, 2}
        annotator.open("review")
        annotator.is_in()
        annotator.sees(
            annotator.text("review.progress", reviewed=reviewed, total=total, mine=reviewed)
        )
        annotator.has_card()
        annotator.tab.keyboard.press("0")
        done = reviewed + 1
        annotator.sees(annotator.text("review.progress", reviewed=done, total=total, mine=done))
    kept = votes(services)
    assert len({vote.pair_id for vote in kept}) == len(kept) == done
    assert [vote.number for vote in kept] == list(range(1, done + 1))
    assert_the_books_hold(installed, services)
    with services.db.read() as session:
        voted = session.scalars(select(AuditRow.subject).where(AuditRow.action == "pair.voted"))
        assert sorted(voted) == sorted(f"pair:{vote.pair_id}" for vote in kept)


def votes(services: Services) -> list[ReviewRow]:
    """The rows of all reviews, oldest first."""
    with services.db.read() as session:
        return list(session.scalars(select(ReviewRow).order_by(ReviewRow.number)))


def test_the_worker(installed: Installation, services: Services) -> None:
    services.preferences.approve_imported(SYSTEM, TENANT, mark="kill test")
    dataset = services.preferences.snapshot(SYSTEM, TENANT)
    spec = DpoSpec.from_preset(
        "quick",
        alias=TENANT,
        dataset_id=dataset.id,
        base_model=services.settings.base_model,
        max_steps=STEPS,
    )
    run_id = services.training.launch_dpo(SYSTEM, TENANT, spec).id
    until(lambda: len(services.training.metrics(SYSTEM, run_id)) >= 1, "the run takes steps")
    before = {adapter.name for adapter in services.registry.list(SYSTEM, TENANT)}
    old = installed.kill("worker")
    installed.await_restart("worker", old)
    until(lambda: services.training.get(SYSTEM, run_id).job.status.is_final, "the run ends")
    run = services.training.get(SYSTEM, run_id)
    assert run.job.status is JobStatus.SUCCEEDED, run.job.error
    made = [one for one in services.registry.list(SYSTEM, TENANT) if one.name not in before]
    assert [(adapter.name, adapter.run_id) for adapter in made] == [(run.adapter, run_id)]
    steps = [point.step for point in services.training.metrics(SYSTEM, run_id)]
    assert steps == list(range(1, STEPS + 1))
    services.audit.sequence()
    with services.db.read() as session:
        registered = session.scalars(
            select(AuditRow.subject).where(AuditRow.subject == f"adapter:{run.adapter}")
        )
        assert len(list(registered)) == 1
    assert_the_books_hold(installed, services)


def test_the_supervisor(installed: Installation, services: Services, key: str) -> None:
    assert installed.process is not None
    supervisor = psutil.Process(installed.process.pid)
    family = supervisor.children(recursive=True)
    assert len(family) >= 5
    os.kill(supervisor.pid, signal.SIGKILL)
    installed.process.wait()
    _, alive = psutil.wait_procs(family, timeout=120)
    assert alive == []
    assert left_behind(installed.settings.home) == []
    installed.start()
    with httpx.Client(
        base_url=installed.settings.gateway_url,
        headers={"authorization": f"Bearer {key}"},
        timeout=120,
    ) as http:
        short = LONG | {"stream": False, "max_tokens": 2}
        answer = until(
            lambda: _answered(http.post("/v1/chat/completions", json=short)), "it answers again"
        )
    assert_the_books_hold(installed, services, [answer.headers["x-param-receipt"]])


def left_behind(home: Path) -> list[str]:
    """Programs that still have this home in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PARAM_HOME") == str(home):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue  # Gone meanwhile, or another person's.
    return found
