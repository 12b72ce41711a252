"""What identity and evidence cost for each request: `python bench/evidence.py`.

Prints median, 99th percentile and CPU time beside the figures that the project set out to beat;
on a busy machine the CPU time is the steadier number. Everything
runs in one thread against a SQLite file (WAL, synchronous=FULL) in a temporary folder, so the
rows that commit show what the disk's flush costs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from services.attestation import receipts
from services.attestation.keys import Keyring
from services.attestation.receipts import ReceiptFacts, commitment
from services.attestation.service import Receipts, StoredReceipt
from services.audit.models import Event
from services.audit.service import AuditLog
from services.db import Base, Database, new_id
from services.metering.models import Usage
from services.metering.service import Metering
from services.tenants.models import Actor, Limits, Role
from services.tenants.service import Tenants

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
SYSTEM = Actor.system("bench")


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        target_ms: The figure to beat, or None.
        rounds: How often it is timed.
    """

    name: str
    run: Callable[[], object]
    target_ms: float | None
    rounds: int


def main() -> None:
    """Measure everything and print the table."""
    with tempfile.TemporaryDirectory(prefix="param-bench-") as folder:
        database = Database(f"sqlite:///{folder}/bench.db")
        Base.metadata.create_all(database.engine)
        print(f"{'operation':<46}{'median ms':>11}{'p99 ms':>9}{'CPU ms':>9}{'to beat':>9}")
        for case in cases(database, Path(folder)):
            median, p99, cpu = measure(case)
            target = "-" if case.target_ms is None else f"{case.target_ms:g}"
            print(f"{case.name:<46}{median:>11.3f}{p99:>9.3f}{cpu:>9.3f}{target:>9}")
        verify_log(database)
        database.close()


def cases(database: Database, folder: Path) -> list[Case]:
    """Everything that is timed, on one small installation."""
    tenants, log, metering = Tenants(database), AuditLog(database), Metering(database)
    tenants.create(SYSTEM, "Acme", limits=Limits(tps=1, rpm=1, daily_tokens=1))
    grants = {"acme": frozenset({Role.ENGINEER})}
    _user, password = tenants.create_user(SYSTEM, "ayse", display_name="Ayşe", grants=grants)
    token = tenants.sign_in("ayse", password).token
    keys = [tenants.create_key(SYSTEM, "acme", f"key {number}").key for number in range(50)]
    keyring = Keyring(folder / "keys")
    key, jwks, facts = keyring.key("receipt"), keyring.jwks(), receipt_facts()
    envelope = receipts.sign(facts, key)

    def append(count: int) -> None:
        with database.write() as session:
            log.append_now(session, audit_events(count))

    def request() -> None:
        group_commit(database, log, metering, keyring, 1)

    def requests() -> None:
        group_commit(database, log, metering, keyring, 100)

    return [
        Case(
            "tenant look-up: authenticate an API key", lambda: tenants.authenticate(keys[7]), 1, 500
        ),
        Case("tenant look-up: resume a session", lambda: tenants.resume(token), 1, 500),
        Case("all 50 live keys, for a gateway's cache", tenants.live_keys, None, 200),
        Case("sign a receipt", lambda: receipts.sign(facts, key), 0.5, 2000),
        Case("verify a receipt", lambda: receipts.verify(envelope, jwks), None, 1000),
        Case("append 1 audit event, committed", lambda: append(1), None, 100),
        Case("append 100 audit events, committed", lambda: append(100), None, 50),
        Case("1 request: audit, usage, receipt, committed", request, None, 100),
        Case("100 requests: audit, usage, receipts, committed", requests, None, 20),
        Case("sign in (argon2id, 64 MiB)", lambda: tenants.sign_in("ayse", password), None, 5),
    ]


def measure(case: Case) -> tuple[float, float, float]:
    """Median, 99th percentile and mean CPU time, ms, after a tenth of the rounds to warm up."""
    for _ in range(max(1, case.rounds // 10)):
        case.run()
    times = []
    cpu_began = time.process_time()
    for _ in range(case.rounds):
        began = time.perf_counter()
        case.run()
        times.append(1000 * (time.perf_counter() - began))
    cpu_ms = 1000 * (time.process_time() - cpu_began) / case.rounds
    times.sort()
    return statistics.median(times), times[min(len(times) - 1, int(0.99 * len(times)))], cpu_ms


def verify_log(database: Database) -> None:
    """Check the log that the cases above wrote, and say how fast."""
    log = AuditLog(database)
    log.sequence()
    began = time.perf_counter()
    size = log.verify().size
    rate = size / (time.perf_counter() - began)
    print(f"\nverify the whole audit log: {size} entries, {rate:,.0f} entries/s")


def group_commit(
    database: Database, log: AuditLog, metering: Metering, keyring: Keyring, count: int
) -> None:
    """What a gateway writes for some requests in one transaction."""
    version, price = metering.price("acme-000000000000")
    store = Receipts(database, keyring)
    with database.write() as session:
        for entry in log.append_now(session, audit_events(count)):
            cost = metering.cost_micro(price, 12, 34)
            usage = Usage(
                new_id(), "acme", "k", "acme", "acme-000000000000", "stable",
                12, 34, cost, version, 100, None, "ok", NOW,
            )  # fmt: skip
            metering.record_usage(session, usage)
            facts = receipt_facts(new_id(), entry.seq, entry.leaf_hash)
            envelope = receipts.sign(facts, keyring.key("receipt"))
            issued = StoredReceipt(
                facts.receipt_id, "acme", facts.request_id, "key:k", envelope, bytes(32), NOW
            )
            store.store(session, issued)


def audit_events(count: int) -> list[Event]:
    """Events as a gateway makes them."""
    details = {
        "alias": "acme", "served": "acme-000000000000", "arm": "stable", "percent": 0,
        "prompt_tokens": 12, "completion_tokens": 34, "cost_micro": 15, "price_version": "1",
        "request_commitment": "ab" * 32, "response_commitment": "cd" * 32,
    }  # fmt: skip
    return [
        Event.by(
            SYSTEM, "inference.answered", f"request:{number}",
            tenant_id="acme", details=details, at=NOW,
        )
        for number in range(count)
    ]  # fmt: skip


def receipt_facts(
    receipt_id: str = "0199", audit_seq: int = 1, leaf_hash: str = "ab" * 32
) -> ReceiptFacts:
    """A receipt of usual size."""
    digest = sha256(b"text").digest()
    return ReceiptFacts(
        receipt_id=receipt_id, request_id=receipt_id, tenant_id="acme", actor_id="key:k",
        alias="acme", served="acme-000000000000", adapter_digest="00" * 32,
        base_model="smollm2-135m-instruct", base_digest="ba" * 32, arm="stable", rollout_id=None,
        percent=0, request_commitment=commitment("request", bytes(32), digest),
        response_commitment=commitment("response", bytes(32), digest), prompt_tokens=12,
        completion_tokens=34, cost_micro=15, currency="USD", price_version="1",
        finish_reason="stop", stream=False, partial=False, received_at=NOW, completed_at=NOW,
        audit_seq=audit_seq, audit_leaf_hash=leaf_hash, issuer="bench",
        policy_version=1, policy_digest="cd" * 32, findings=0,
    )  # fmt: skip


if __name__ == "__main__":
    main()
