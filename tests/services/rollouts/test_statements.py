"""Signed steps: each names the one before it, the log names each, and a changed one is refused."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from services.attestation.keys import Keyring
from services.attestation.statements import open_statement, sign_statement
from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import NotFound, VerificationFailed
from services.rollouts.overview import Overview
from services.rollouts.statements import PREDICATE_TYPE
from tests.services.rollouts.conftest import ENGINEER, STRANGER, Stage, build_stage


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys")


@pytest.fixture
def signing(database: Database, tmp_path: Path, keyring: Keyring) -> Stage:
    def sign(subjects: Any, predicate: Any) -> dict[str, Any]:
        return sign_statement(PREDICATE_TYPE, subjects, predicate, keyring.key("event"))

    return build_stage(database, tmp_path, sign=partial(sign))


def test_every_step_is_signed_and_chained_and_in_the_log(signing: Stage, keyring: Keyring) -> None:
    name = signing.adapter(1)
    rollout = signing.rollouts.start(ENGINEER, "legal", "legal", name, percent=10)
    signing.rollouts.step(ENGINEER, rollout.id, 40)
    signing.rollouts.rollback(ENGINEER, rollout.id, reason="it repeats itself")
    signed = Overview(signing.db, signing.rollouts).signed(ENGINEER, rollout.id)
    opened = [open_statement(one.envelope, keyring.jwks())[0] for one in signed]
    digest = signing.registry.get(ENGINEER, "legal", name).digest
    assert all(one.subjects == {name: digest} for one in opened)
    assert [one.predicate["percent"] for one in opened] == ["10", "40", "0"]
    assert opened[2].predicate["reason"] == "it repeats itself"
    assert opened[0].predicate["previous"] is None
    for before, after in zip(signed, opened[1:], strict=False):
        assert after.predicate["previous"] == {"sha256": before.sha256}
    assert [one.payload_sha256 for one in opened] == [one.sha256 for one in signed]
    with signing.db.read() as session:
        events = session.scalars(
            select(OutboxRow)
            .where(OutboxRow.subject == f"rollout:{rollout.id}")
            .order_by(OutboxRow.id)
        ).all()
    assert [event.details["statement"] for event in events] == [one.sha256 for one in signed]


def test_a_changed_step_is_refused(signing: Stage, keyring: Keyring) -> None:
    rollout = signing.rollouts.start(ENGINEER, "legal", "legal", signing.adapter(1), percent=10)
    [signed] = Overview(signing.db, signing.rollouts).signed(ENGINEER, rollout.id)
    payload = json.loads(base64.b64decode(signed.envelope["payload"]))
    payload["predicate"]["percent"] = "1"
    forged = base64.b64encode(json.dumps(payload).encode()).decode()
    with pytest.raises(VerificationFailed):
        open_statement({**signed.envelope, "payload": forged}, keyring.jwks())


def test_another_tenant_reads_no_part_of_a_rollout(signing: Stage) -> None:
    rollout = signing.rollouts.start(ENGINEER, "legal", "legal", signing.adapter(1), percent=10)
    overview = Overview(signing.db, signing.rollouts)
    for refused in (
        lambda: overview.signed(STRANGER, rollout.id),
        lambda: overview.drive(STRANGER, rollout.id),
        lambda: overview.compared(STRANGER, rollout.id),
        lambda: overview.moved(STRANGER, rollout.id, 50, rollout.started_at),
        lambda: overview.verdicts(STRANGER, rollout.id),
        lambda: overview.alerts(STRANGER, rollout.id),
        lambda: signing.rollouts.pause(STRANGER, rollout.id),
        lambda: signing.rollouts.resume(STRANGER, rollout.id),
        lambda: signing.rollouts.drill(STRANGER, rollout.id),
    ):
        with pytest.raises(NotFound, match="there is no rollout"):
            refused()
