"""An export is checked by itself, and the first bad entry is named."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from services.audit.exports import verify_export, verify_part
from services.audit.models import Verified
from services.audit.service import AuditLog
from services.db import Database
from services.errors import VerificationFailed
from services.tenants.models import Actor
from tests.services.audit.conftest import append, open_note

SYSTEM = Actor.system("test")


@pytest.fixture
def lines(log: AuditLog, database: Database) -> list[bytes]:
    """Twelve entries of two tenants, in turns, with a checkpoint at eight."""
    for number in range(12):
        tenant = "acme" if number % 2 else "globex"
        append(log, database, 1, first=number, tenant_id=tenant)
        if number == 7:
            log.checkpoint()
    return exported(log, None)


def exported(log: AuditLog, tenant_id: str | None) -> list[bytes]:
    out = io.StringIO()
    log.export(SYSTEM, tenant_id, out)
    return out.getvalue().encode().splitlines(keepends=True)


def checked(lines: list[bytes], *notes: str) -> Verified:
    return verify_export(lines, outside=notes, origin="test.log", open_note=open_note)


def test_an_export_holds_as_the_log_does(lines: list[bytes], log: AuditLog) -> None:
    note = log.checkpoints()[0].note
    assert checked(lines, note) == log.verify()
    assert checked([]).size == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda found: [*found[:4], *found[5:]], "entry 5: .*missing"),
        (lambda found: found[1:], "entry 1: .*missing"),
        (lambda found: [found[1], found[0], *found[2:]], "entry 1: .*missing"),
        (lambda found: [*found[:6], found[6].replace(b"6", b"7", 1), *found[7:]], "entry 7"),
        (lambda found: [*found[:2], b"{}\n"], "entry 3"),
        (lambda found: [*found[:9], found[9][:-30]], "entry 10: expected a whole line 10"),
        (lambda found: [*found[:3], b"no json\n"], "entry 4: expected an entry in line 4"),
        (lambda found: [*found[:3], b"[]\n"], "entry 4: expected an entry in line 4"),
        (lambda found: found[:7], "entry 8: expected 8 entries, found 7.*cut off"),
    ],
)
def test_the_first_bad_entry_is_named(
    lines: list[bytes], log: AuditLog, spoil: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    with pytest.raises(VerificationFailed, match=words):
        checked(spoil(lines), log.checkpoints()[0].note)


def test_a_tenants_part_is_checked_entry_by_entry(lines: list[bytes], log: AuditLog) -> None:
    part = exported(log, "acme")
    assert verify_part(part) == 6
    with pytest.raises(VerificationFailed, match="missing"):
        checked(part)
    with pytest.raises(VerificationFailed, match="the entry was changed"):
        verify_part([part[0], part[1].replace(b'"chat.completed"', b'"chat.forgotten"')])
    with pytest.raises(VerificationFailed, match="expected a number above"):
        verify_part([part[1], part[0]])


def test_a_name_twice_in_a_line_is_no_entry(lines: list[bytes]) -> None:
    doubled = [*lines[:4], lines[4].replace(b"{", b'{"action":"nothing.happened",', 1), *lines[5:]]
    with pytest.raises(VerificationFailed, match="^audit log entry 5: .*in another way"):
        checked(doubled)
