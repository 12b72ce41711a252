"""Answers that wait for a line in the journal: what becomes of them when commits are slow or fail."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from services.bootstrap import Services
from services.db import Database, new_id
from services.errors import ConsoleError, Unavailable
from services.gateway import keeping
from services.gateway import writer as writing
from services.gateway.intents import FOLDER, Journal, Left, read_journal
from services.gateway.ledger import LocalLedger
from services.gateway.outcome import Outcome
from services.gateway.recording import Unrecordable
from services.gateway.recovery import recover_dead, recover_told
from services.gateway.writer import Writer
from tests.fakes.engine import FakeEngine
from tests.services.gateway.conftest import PLENTY, SYSTEM, Edge, edge_over, eventually
from tests.services.gateway.edges import Process, process_over
from tests.services.gateway.intended import intent
from tests.services.gateway.outcomes import outcome, requests

only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def process(database: Database, engine: FakeEngine, tmp_path: Path) -> Iterator[Process]:
    with process_over(database, engine, tmp_path) as made:
        yield made


@only_sqlite
def test_an_answer_does_not_wait_for_a_slow_disk_and_its_receipt_does(edge: Edge) -> None:
    key = edge.key("legal")
    edge.services.audit.sequence()
    edge.disk.stall()
    answers = [edge.chat(key), edge.chat(key, stream=True)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert b"[DONE]" in answers[1].content
    assert edge.disk.waits.wait(10)
    assert edge.parts.metering.usage_rows(SYSTEM, "legal") == []  # nothing is committed ...
    told: list[int] = []
    receipt = answers[0].headers["x-param-receipt"]
    asking = threading.Thread(
        target=lambda: told.append(edge.get(f"/v1/receipts/{receipt}", key).status_code)
    )
    asking.start()
    asking.join(0.3)
    assert told == []  # ... and so no receipt is shown
    edge.disk.free.set()
    asking.join(20)
    assert told == [200]
    for answer in answers:
        document = edge.get(f"/v1/receipts/{answer.headers['x-param-receipt']}", key).json()
        assert edge.services.receipts.verify(document["envelope"]).holds
    assert len(edge.services.metering.usage_rows(SYSTEM, "legal")) == 2
    [journal] = (edge.parts.settings.home / FOLDER).iterdir()
    eventually(lambda: journal.stat().st_size == 0)  # digests do not stay


@only_sqlite
def test_answers_wait_for_room_where_commits_fall_behind(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CROWDED", 3)
    monkeypatch.setattr(writing, "MAX_WAITING", 5)
    key = edge.key("legal")
    edge.services.audit.sequence()
    edge.disk.stall()
    for _ in range(3):
        assert edge.chat(key).status_code == 200
    assert edge.disk.waits.wait(10)
    late: list[int] = []
    threads = [
        threading.Thread(target=lambda: late.append(edge.chat(key).status_code)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    gateway = edge.app.gateway if edge.app else None
    assert gateway is not None
    eventually(lambda: gateway.writer.waiting == 5)
    assert late == []
    refused = edge.chat(key)
    assert refused.status_code == 503
    assert "wait to be recorded" in refused.json()["error"]["message"]
    edge.disk.free.set()
    for thread in threads:
        thread.join(20)
    assert late == [200, 200]
    assert len(edge.services.metering.usage_rows(SYSTEM, "legal")) == 5
    assert gateway.writer.waiting == 0


@only_sqlite
def test_another_gateway_waits_for_a_young_receipt_and_not_for_others(
    edge: Edge, database: Database, engine: FakeEngine, tmp_path: Path
) -> None:
    key = edge.key("legal")
    edge.services.audit.sequence()
    with edge_over(database, engine, tmp_path / "beside") as beside:
        eventually(lambda: beside.get("/v1/whoami", key).status_code == 200)
        edge.disk.stall()
        path = f"/v1/receipts/{edge.chat(key).headers['x-param-receipt']}"
        assert edge.disk.waits.wait(10)
        threading.Timer(0.3, edge.disk.free.set).start()
        assert beside.get(path, key).status_code == 200
        for unknown in ("01990000-0000-7000-8000-000000000000", new_id(), "none"):
            assert beside.get(f"/v1/receipts/{unknown}", key).status_code == 404


@only_sqlite
def test_a_thumb_for_an_answer_waits_for_its_record(edge: Edge) -> None:
    key = edge.key("legal")
    for _ in range(5):
        request_id = edge.chat(key).headers["x-param-receipt"]
        given = edge.http.post(
            f"{edge.url}/v1/feedback",
            json={"request_id": request_id, "thumb": "up"},
            headers={"authorization": f"Bearer {key}"},
        )
        assert given.status_code == 200, given.text
        assert edge.get(f"/v1/receipts/{request_id}/bundle", key).status_code != 404


@only_sqlite
def test_what_was_answered_before_commits_failed_is_recorded_when_they_work(edge: Edge) -> None:
    key = edge.key("legal")
    with edge.services.db.write() as session:
        session.execute(text("ALTER TABLE usage RENAME TO usage_gone"))
    answered = edge.chat(key)
    assert answered.status_code == 200
    receipt = answered.headers["x-param-receipt"]
    eventually(lambda: edge.get("/readyz").json()["checks"]["writer"] is False)
    asked = len(edge.engine.requests)
    assert edge.chat(key).status_code == 503
    assert len(edge.engine.requests) == asked
    late = edge.get(f"/v1/receipts/{receipt}", key)
    assert (late.status_code, late.json()["error"]["code"]) == (503, "unavailable")
    with edge.services.db.write() as session:
        session.execute(text("ALTER TABLE usage_gone RENAME TO usage"))
    eventually(lambda: edge.get("/readyz").json()["checks"]["writer"] is True)
    assert edge.get(f"/v1/receipts/{receipt}", key).status_code == 200
    eventually(lambda: edge.chat(key).status_code == 200)
    subjects = [one.subject for one in edge.services.audit.entries(SYSTEM, "legal", limit=1000)]
    assert subjects.count(f"request:{receipt}") == 1
    edge.assert_log_holds()


@only_sqlite
def test_one_outcome_that_the_database_refuses_harms_no_other_request(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "NEIGHBOURS_S", 0.1)
    key, other = edge.key("legal"), edge.key("other")
    with edge.services.db.write() as session:
        session.execute(
            text(
                "CREATE TRIGGER refuses BEFORE INSERT ON usage WHEN NEW.tenant_id = 'legal' "
                "BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
            )
        )
    answered = edge.chat(key)
    assert answered.status_code == 200
    path = f"/v1/receipts/{answered.headers['x-param-receipt']}"
    eventually(lambda: edge.get(path, key).status_code == 503)
    eventually(lambda: edge.chat(other).status_code == 200)  # for a second nothing is answered
    beside = edge.chat(other)
    assert edge.get(f"/v1/receipts/{beside.headers['x-param-receipt']}", other).status_code == 200
    assert edge.get("/readyz").status_code == 200
    assert edge.get(path, key).status_code == 503
    assert "param_gateway_open_intents 1.0" in edge.get("/metrics").text
    with edge.services.db.write() as session:
        session.execute(text("DROP TRIGGER refuses"))
    eventually(lambda: edge.get(path, key).status_code == 200)
    document = edge.get(path, key).json()
    assert edge.services.receipts.verify(document["envelope"]).holds
    assert "param_gateway_open_intents 0.0" in edge.get("/metrics").text
    edge.assert_log_holds()


@only_sqlite
def test_an_answer_of_a_killed_gateway_gets_its_receipt_from_the_next_one(
    process: Process,
) -> None:
    edge = process.edge
    key = edge.key("legal")
    database = edge.services.db.url.database
    assert database is not None
    eventually(lambda: edge.get("/metrics").text.count("param_gateway_open_intents 0.0") == 1)
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # nobody else can commit
    answers = [edge.chat(key), edge.chat(key, stream=True), edge.chat(key)]
    assert [answer.status_code for answer in answers] == [200] * 3
    for one in (*psutil.Process(process.pid).children(), psutil.Process(process.pid)):
        one.send_signal(signal.SIGKILL)
    assert process.running is not None
    process.running.wait(20)
    other.rollback()
    other.close()
    assert edge.parts.metering.usage_rows(SYSTEM, "legal") == []
    process.start()
    rows = edge.services.metering.usage_rows(SYSTEM, "legal")
    given = [answer.headers["x-param-receipt"] for answer in answers]
    assert sorted(row.request_id for row in rows) == sorted(given)
    assert {row.status for row in rows} == {"ok"}
    spent = sum(row.prompt_tokens + row.completion_tokens for row in rows)
    assert edge.get("/v1/whoami", key).json()["tokens_left_today"] == PLENTY.daily_tokens - spent
    for receipt in given:
        document = edge.get(f"/v1/receipts/{receipt}", key).json()
        assert edge.services.receipts.verify(document["envelope"]).holds
    edge.assert_log_holds()


def held(folder: Path) -> Left:
    """What the only journal of a folder holds."""
    [path] = folder.glob("*.journal")
    return read_journal(path.read_bytes())


def test_outcomes_in_a_journal_are_recorded_once_with_their_receipts(
    services: Services, tmp_path: Path
) -> None:
    folder = tmp_path / FOLDER
    dead = Journal(folder)
    first, second, third = outcome(), outcome(stream=True), outcome()
    for one in (first, second, third):
        dead.tell(one)
    dead.end(third.request_id)
    assert dead.open_count == 2
    kept = dead.path.read_bytes()
    dead.close()
    assert held(folder) == Left([], [first, second])
    mine = Journal(folder)
    assert recover_dead(services, folder, mine.path) == 2
    (folder / "copy.journal").write_bytes(kept)  # as a crash in the middle of a rotation leaves it
    assert recover_dead(services, folder, mine.path) == 0
    assert requests(services) == [first.request_id, second.request_id]
    for one in (first, second):
        document = services.receipts.get(SYSTEM, one.request_id)
        assert services.receipts.verify(document.envelope).holds
    mine.close()


def test_a_journal_that_goes_on_as_a_new_one_takes_its_outcomes_along(tmp_path: Path) -> None:
    journal, kept = Journal(tmp_path, rotate_bytes=3_000), outcome()
    journal.tell(kept)
    first = journal.path
    for number in range(1, 30):
        journal.begin(intent(number))
        journal.end(f"request-{number}")
    assert journal.path != first
    journal.close()
    assert held(tmp_path) == Left([], [kept])


def test_an_outcome_ends_what_was_begun_and_texts_never_stand_in_a_journal(tmp_path: Path) -> None:
    journal, one = Journal(tmp_path), intent()
    journal.begin(one)
    journal.tell(outcome(request_id=one.request_id))
    assert journal.open_count == 1
    with pytest.raises(TypeError, match="encrypted"):
        journal.tell(outcome(texts=(b"asked", b"answered", 7)))
    assert b"answered" not in journal.path.read_bytes()
    journal.end(one.request_id)
    assert held(tmp_path) == Left()
    journal.close()


def started(ledger: LocalLedger, home: Path) -> tuple[Writer, Journal]:
    """A writer that runs, and its journal."""
    journal = Journal(home / FOLDER)
    writer = Writer(ledger, journal, lambda _size, _seconds: None)
    writer.start()
    return writer, journal


async def test_what_the_database_refuses_holds_up_nobody_and_is_tried_again(
    services: Services, tmp_path: Path
) -> None:
    writer, journal = started(LocalLedger(services), tmp_path)
    good, stranger, also_good = outcome(), outcome(tenant_id="nobody"), outcome()
    for one in (good, stranger, also_good):
        await writer.record(one)
    for one in (good, also_good):
        await writer.committed(one.request_id)
    assert requests(services) == [good.request_id, also_good.request_id]
    assert writer.refused() == [stranger]
    assert writer.is_healthy
    assert held(tmp_path / FOLDER) == Left([], [stranger])
    with pytest.raises(ConsoleError):
        recover_told(services, [stranger])
    services.tenants.create(SYSTEM, "Nobody", limits=PLENTY, tenant_id="nobody")
    assert recover_told(services, [stranger]) == 1
    writer.recovered(stranger)
    await writer.stop()
    journal.close()
    assert list((tmp_path / FOLDER).iterdir()) == []
    services.audit.verify()


async def test_a_writer_that_can_no_longer_commit_leaves_all_to_the_journal(
    services: Services, tmp_path: Path
) -> None:
    writer, journal = started(LocalLedger(services), tmp_path)
    with services.db.write() as session:
        session.execute(text("ALTER TABLE usage RENAME TO usage_gone"))
    one = outcome()
    await writer.record(one)
    with pytest.raises(Unavailable):
        await writer.committed(one.request_id)
    with pytest.raises(Unavailable):  # from now on nothing is answered that is not committed
        await writer.record(outcome())
    await writer.stop()
    journal.close()
    assert held(tmp_path / FOLDER) == Left([], [one])
    with services.db.write() as session:
        session.execute(text("ALTER TABLE usage_gone RENAME TO usage"))
    mine = Journal(tmp_path / FOLDER)
    assert recover_dead(services, tmp_path / FOLDER, mine.path) == 1
    mine.close()
    assert requests(services) == [one.request_id]


def test_an_outcome_that_nothing_can_write_stops_neither_the_others_nor_its_reader(
    services: Services,
) -> None:
    broken, good = outcome(received_at=None), outcome()  # as no line can say it
    for one in (broken, good):
        with pytest.raises(Unrecordable):
            recover_told(services, [broken, one])
    assert requests(services) == [good.request_id]


class Forgetful(LocalLedger):
    """Writes, and says that it could not, as a child that dies after its commit."""

    has_died = False

    async def write(self, outcomes: Sequence[Outcome], *, again: bool = False) -> None:
        await super().write(outcomes, again=again)
        if not self.has_died:
            self.has_died = True
            raise Unavailable("the process that records answers has ended")


async def test_what_may_have_been_committed_is_not_committed_twice(
    services: Services, tmp_path: Path
) -> None:
    writer, journal = started(Forgetful(services), tmp_path)
    one = outcome()
    await writer.record(one)
    while not writer.is_healthy or writer.waiting:
        await asyncio.sleep(0.01)
    await writer.stop()
    assert requests(services) == [one.request_id]
    assert journal.open_count == 0
    journal.close()


class Stalled(LocalLedger):
    """Writes when it is let."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.may_write = asyncio.Event()

    async def write(self, outcomes: Sequence[Outcome], *, again: bool = False) -> None:
        await self.may_write.wait()
        await super().write(outcomes, again=again)


async def test_those_who_wait_for_room_go_on_in_their_order_and_whoever_leaves_takes_no_room(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CROWDED", 1)
    ledger = Stalled(services)
    writer, journal = started(ledger, tmp_path)
    asked = [outcome() for _ in range(6)]
    told: list[str] = []

    async def record(one: Outcome) -> None:
        await writer.record(one)
        told.append(one.request_id)

    tasks = [asyncio.create_task(record(one)) for one in asked]
    await asyncio.sleep(0)
    assert (told, writer.waiting) == ([asked[0].request_id], 6)
    tasks[1].cancel()
    tasks[5].cancel()
    await asyncio.wait([tasks[1], tasks[5]])
    assert writer.waiting == 4
    ledger.may_write.set()
    await asyncio.gather(*(tasks[number] for number in (2, 3, 4)))
    wanted = [asked[number].request_id for number in (0, 2, 3, 4)]
    assert told == wanted
    await writer.stop()
    assert requests(services) == wanted
    assert writer.waiting == journal.open_count == 0
    journal.close()


class Clumsy(LocalLedger):
    """Meets a bug whenever it keeps the log."""

    async def tend(self, *, sign: bool) -> None:
        raise RuntimeError(f"a bug, signing or not: {sign}")


async def test_a_bug_in_keeping_the_log_does_not_end_the_recording_of_answers(
    services: Services, tmp_path: Path
) -> None:
    writer, journal = started(Clumsy(services), tmp_path)
    one = outcome()
    await writer.record(one)
    await writer.committed(one.request_id)
    assert requests(services) == [one.request_id]
    assert writer.is_healthy
    await writer.stop()
    journal.close()
