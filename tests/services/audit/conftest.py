"""A log, its signer, and events to put into it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from services.audit.models import Event
from services.audit.service import AuditLog
from services.db import Database
from services.errors import VerificationFailed
from services.tenants.models import Actor

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def sign_note(text: str) -> str:
    """A stand-in for a signature: a keyed hash, so that a forger without the key is caught."""
    return f"{text}\n— test {_mark(text)}\n"


def open_note(note: str) -> str:
    text, _gap, line = note.partition("\n\n")
    if line != f"— test {_mark(text + chr(10))}\n":
        raise VerificationFailed("note: expected a signature that holds, found another")
    return text + "\n"


def _mark(text: str) -> str:
    return sha256(b"only the signer knows this" + text.encode()).hexdigest()


def events(count: int, *, tenant_id: str | None = "acme", first: int = 0) -> list[Event]:
    actor = Actor.system("test")
    return [
        Event.by(
            actor,
            "chat.completed",
            f"request:{first + number}",
            tenant_id=tenant_id,
            details={"number": first + number, "answer": "Größe 😀", "list": [True, None]},
            at=START + timedelta(microseconds=first + number),
        )
        for number in range(count)
    ]


def append(log: AuditLog, database: Database, count: int, **options: object) -> None:
    with database.write() as session:
        log.append_now(session, events(count, **options))  # type: ignore[arg-type]


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(
        database, clock=lambda: START, origin="test.log", sign_note=sign_note, open_note=open_note
    )
