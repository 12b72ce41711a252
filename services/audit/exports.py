"""Checking an exported log without the database: the same recomputation over lines of a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from typing import Any

import orjson

from services.audit.merkle import CHAIN_START, RightEdge
from services.audit.models import Entry, OpenNote, Verified
from services.audit.verification import Walk, claims_of, leaf_of
from services.errors import VerificationFailed

_NAMES = frozenset(one.name for one in fields(Entry))


def verify_export(
    lines: Iterable[bytes],
    *,
    outside: Iterable[str] = (),
    origin: str,
    open_note: OpenNote | None,
) -> Verified:
    """Recompute an export of the whole installation, from its first entry.

    Without a checkpoint from elsewhere nothing shows whether entries are missing at the end, or
    whether the whole file was made anew.

    Args:
        lines: Of the file, each with its line end.
        outside: Signed notes of checkpoints.
        origin: Name of the log in checkpoints.
        open_note: Checks a note's signature.

    Raises:
        VerificationFailed: Something does not hold; the message names the first bad entry.
    """
    walk = Walk(claims_of((), outside, origin, open_note))
    edge, chain = RightEdge(), CHAIN_START
    for entry in _entries(lines):
        walk.entry(entry)
        edge.append(leaf_of(entry))
        chain = bytes.fromhex(entry.chain_hash)
    return walk.end(edge, chain)


def verify_part(lines: Iterable[bytes]) -> int:
    """Recompute each entry of one tenant's export by itself.

    Between them lie entries of others, so neither order nor completeness can be shown.

    Returns:
        How many entries there are.

    Raises:
        VerificationFailed: An entry is not what its hash says, or stands before an earlier one.
    """
    count = last = 0
    for entry in _entries(lines):
        if entry.seq <= last:
            raise VerificationFailed(
                f"audit log entry {entry.seq}: expected a number above {last}, found it after"
            )
        if leaf_of(entry).hex() != entry.leaf_hash:
            raise VerificationFailed(
                f"audit log entry {entry.seq}: expected leaf hash {leaf_of(entry).hex()} from its "
                f"content, found {entry.leaf_hash}; the entry was changed"
            )
        count, last = count + 1, entry.seq
    return count


def _entries(lines: Iterable[bytes]) -> Iterable[Entry]:
    last = 0
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            raise VerificationFailed(
                f"audit log entry {last + 1}: expected a whole line {number}, found it cut off; "
                f"the entries up to {last} hold"
            )
        entry = _entry(line, number, last + 1)
        last = entry.seq
        yield entry


def _entry(line: bytes, number: int, expected: int) -> Entry:
    try:
        found: Any = orjson.loads(line)
        if not isinstance(found, dict) or found.keys() != _NAMES:
            raise ValueError("other fields than an entry has")
        if orjson.dumps(found) != line.rstrip(b"\r\n"):
            # Such as a name twice, of which one reader takes the first and another the last.
            raise ValueError("it written in another way than exports are")
        entry = Entry(**{**found, "at": datetime.fromisoformat(found["at"])})
        if type(entry.seq) is not int or not isinstance(entry.details, dict):
            raise ValueError("a field of another kind")
        bytes.fromhex(entry.chain_hash)
    except (ValueError, TypeError) as error:
        raise VerificationFailed(
            f"audit log entry {expected}: expected an entry in line {number}, found {error}"
        ) from error
    return entry
