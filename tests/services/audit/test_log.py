import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from services.audit.merkle import EMPTY_ROOT, RightEdge, entry_body, leaf_hash, node_hash
from services.audit.outbox import OutboxRow, checked, record
from services.audit.service import AuditLog
from services.audit.store import AuditRow
from services.db import Database
from services.errors import InvalidInput, NotPermitted
from services.tenants.models import EVERY_TENANT, Actor, Role
from tests.services.audit.conftest import START, append, events


def someone(role: Role, tenant_id: str = "acme") -> Actor:
    return Actor(kind="user", id="u", name="someone", grants={tenant_id: frozenset({role})})


def test_the_log_of_another_tenant_is_refused(log: AuditLog) -> None:
    stranger = someone(Role.MANAGER, "globex")
    for ask in (
        lambda: log.entries(stranger, "acme"),
        lambda: log.tail(stranger, "acme"),
        lambda: log.export(stranger, "acme", io.StringIO()),
        lambda: log.entries(stranger, None),
        lambda: log.export(stranger, None, io.StringIO()),
    ):
        with pytest.raises(NotPermitted):
            ask()


@pytest.mark.parametrize("role", [Role.ANNOTATOR, Role.CUSTOMER])
def test_annotators_and_customers_do_not_read_the_log(log: AuditLog, role: Role) -> None:
    with pytest.raises(NotPermitted):
        log.entries(someone(role), "acme")


def test_each_tenant_reads_only_its_entries(log: AuditLog, database: Database) -> None:
    append(log, database, 2, tenant_id="acme")
    append(log, database, 3, tenant_id="globex")
    append(log, database, 1, tenant_id=None)
    assert [e.seq for e in log.entries(someone(Role.MANAGER), "acme")] == [1, 2]
    assert [e.seq for e in log.tail(someone(Role.MANAGER, "globex"), "globex", limit=2)] == [5, 4]
    everything = log.entries(someone(Role.ADMIN, EVERY_TENANT), None)
    assert [e.seq for e in everything] == [1, 2, 3, 4, 5, 6]


def test_entries_are_paged_and_filtered(log: AuditLog, database: Database) -> None:
    system = Actor.system("test")
    with database.write() as session:
        for number, action in enumerate(["pairs.imported", "pair%", "pairs.voted", "rollout.set"]):
            record(session, system, action, f"x:{number}", tenant_id="acme")
    assert log.sequence() == 4
    assert [e.seq for e in log.entries(system, "acme", after=1, limit=2)] == [2, 3]
    assert [e.action for e in log.entries(system, None, action="pairs.")] == [
        "pairs.imported",
        "pairs.voted",
    ]
    assert [e.seq for e in log.entries(system, None, action="rollout.set")] == [4]
    assert log.entries(system, None, action="pair") == []
    with pytest.raises(InvalidInput, match="expected 1 to 5000"):
        log.entries(system, None, limit=0)


def test_the_outbox_is_moved_oldest_first_and_once(log: AuditLog, database: Database) -> None:
    system = Actor.system("test")
    with database.write() as session:
        for number in range(1201):
            record(session, system, "t.done", f"x:{number}", tenant_id=None, details={"n": number})
    assert log.sequence() == 1201
    assert log.sequence() == 0
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(OutboxRow)) == 0
        found = list(session.scalars(select(AuditRow.details).order_by(AuditRow.seq)))
    assert [details["n"] for details in found] == list(range(1201))
    assert log.verify().size == 1201


def test_the_log_moves_only_with_its_transaction(log: AuditLog, database: Database) -> None:
    append(log, database, 3)
    before = log.head()
    with pytest.raises(RuntimeError, match="half-way"), database.write() as session:
        assert [entry.seq for entry in log.append_now(session, events(2, first=3))] == [4, 5]
        raise RuntimeError("half-way")
    assert log.head() == before
    append(log, database, 2, first=3)
    assert log.verify().size == 5


def test_a_reading_session_cannot_append(log: AuditLog, database: Database) -> None:
    with pytest.raises(RuntimeError, match="reading session"), database.read() as session:
        log.append_now(session, events(1))


def test_entries_come_back_as_they_were_given(log: AuditLog, database: Database) -> None:
    with database.write() as session:
        given_back = log.append_now(session, events(3))
        assert log.append_now(session, []) == []
    assert log.entries(Actor.system("test"), "acme") == given_back
    first = given_back[0]
    body = {
        "seq": 1, "tenant_id": "acme", "actor_id": "system:test", "actor_name": "test",
        "action": "chat.completed", "subject": "request:0",
        "details": {"number": 0, "answer": "Größe 😀", "list": [True, None]},
        "at": "2026-11-21T08:00:00.000000Z",
    }  # fmt: skip
    leaf = sha256(b"\x00" + rfc8785.dumps(body)).digest()
    assert first.leaf_hash == leaf.hex()
    assert first.chain_hash == sha256(b"\x01" + bytes(32) + leaf).hexdigest()


def test_several_threads_and_logs_write_one_gapless_order(database: Database) -> None:
    def work(number: int) -> None:
        other = Database(database.url.render_as_string(hide_password=False))
        mine = AuditLog(other)
        for turn in range(5):
            with other.write() as session:
                record(session, Actor.system(f"t{number}"), "t.done", "x:1", tenant_id=None)
            mine.sequence()
            append(mine, other, 3, first=turn)
        other.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert AuditLog(database).verify().size == 4 * 5 * 4


def test_several_processes_write_one_gapless_order(log: AuditLog, database: Database) -> None:
    program = (
        "import sys\n"
        "from services.audit.service import AuditLog\n"
        "from services.db import Database\n"
        "from tests.services.audit.conftest import append\n"
        "db = Database(sys.argv[1])\n"
        "for _ in range(10):\n"
        "    append(AuditLog(db), db, 5)\n"
        "db.close()\n"
    )
    url = database.url.render_as_string(hide_password=False)
    running = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert log.verify().size == 100


def test_the_export_can_be_checked_by_anyone(log: AuditLog, database: Database) -> None:
    append(log, database, 20)
    append(log, database, 1, tenant_id="globex")
    out = io.StringIO()
    assert log.export(Actor.system("test"), None, out) == 21
    edge, chain = RightEdge(), bytes(32)
    for line in out.getvalue().splitlines():
        body = json.loads(line)
        stated = body.pop("leaf_hash"), body.pop("chain_hash")
        leaf = sha256(b"\x00" + rfc8785.dumps(body)).digest()
        chain = sha256(b"\x01" + chain + leaf).digest()
        assert stated == (leaf.hex(), chain.hex())
        edge.append(leaf)
    assert log.head() == (21, edge.root().hex())
    assert log.export(someone(Role.MANAGER), "acme", io.StringIO()) == 20


@pytest.mark.parametrize(
    "details",
    [
        {"a": 1.0},
        {"a": 2**53},
        {"a": {"b": [{"c": float("nan")}]}},
        {"a": "\x00"},
        {"a": "\ud800"},
        {"ş": 1},
        {1: 1},
        {"a": b"bytes"},
        {"a": START},
    ],
)
def test_what_has_no_single_form_is_refused(
    log: AuditLog, database: Database, details: dict[str, object]
) -> None:
    event = events(1)[0]
    with pytest.raises(InvalidInput, match="audit event: expected"), database.write() as session:
        record(session, Actor.system("test"), "t.done", "x:1", tenant_id=None, details=details)
    with pytest.raises(InvalidInput), database.write() as session:
        log.append_now(session, [type(event)(**{**vars(event), "details": details})])
    assert log.sequence() == 0


def test_bottomless_details_are_refused() -> None:
    bottomless: list[object] = []
    bottomless.append(bottomless)
    with pytest.raises(InvalidInput):
        checked({"a": bottomless})


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(max_codepoint=127)), _json, max_size=5), st.text())
def test_the_fast_form_is_the_canonical_form(details: dict[str, object], subject: str) -> None:
    try:
        checked(details, subject)
    except InvalidInput:
        return
    body = {
        "seq": 7, "tenant_id": None, "actor_id": "a", "actor_name": "b", "action": "c.d",
        "subject": subject, "details": details, "at": "2026-11-21T08:00:00.000000Z",
    }  # fmt: skip
    assert entry_body(7, None, "a", "b", "c.d", subject, details, START) == rfc8785.dumps(body)


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, to the letter."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


@given(st.integers(0, 300))
def test_the_right_edge_gives_the_tree_head_of_the_rfc(size: int) -> None:
    leaves = [leaf_hash(str(number).encode()) for number in range(size)]
    edge = RightEdge()
    for leaf in leaves:
        edge.append(leaf)
    assert edge.root() == naive_root(leaves)
    assert RightEdge(edge.size, edge.hashes).root() == edge.root()


def test_tree_heads_match_the_published_vectors() -> None:
    # google/certificate-transparency, cpp/merkletree: inputs and roots of the RFC's own tree.
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657",
              "606162636465666768696a6b6c6d6e6f"]  # fmt: skip
    edge = RightEdge()
    assert edge.root() == EMPTY_ROOT
    roots = []
    for text in inputs:
        edge.append(leaf_hash(bytes.fromhex(text)))
        roots.append(edge.root().hex())
    assert roots[0] == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert roots[1] == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert roots[7] == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_an_edge_that_does_not_fit_its_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 hashes for 3 leaves"):
        RightEdge(3, [bytes(32)])
