"""Recomputing the whole log and comparing it with every signed checkpoint."""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterable

from services.audit.merkle import CHAIN_START, RightEdge, chain_hash, entry_body, leaf_hash
from services.audit.models import Checkpoint, Entry, KeyRevoked, OpenNote, Verified
from services.errors import VerificationFailed


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The text that a checkpoint signs.

    Args:
        origin: Name of this log.
        root: Tree head, 32 bytes.

    Source: C2SP tlog-checkpoint: origin, size and root, one a line.
    """
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def read_checkpoint(note: str, origin: str, open_note: OpenNote | None) -> tuple[int, bytes]:
    """Size and root of a signed note.

    Args:
        open_note: Checks the signature; without it only the text is read.

    Raises:
        VerificationFailed: The signature does not hold, or it is no checkpoint of this log.
    """
    text = note.partition("\n\n")[0] + "\n" if open_note is None else open_note(note)
    lines = text.split("\n")
    try:
        found, size, root = lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)
    except (IndexError, ValueError, binascii.Error) as error:
        raise VerificationFailed(
            "checkpoint: expected a name, a size and a root, one a line, found something else"
        ) from error
    if text != checkpoint_text(origin, size, root) or len(root) != 32 or size < 0:
        raise VerificationFailed(
            f"checkpoint: expected one of the log {origin!r}, found one of {found[:80]!r}"
        )
    return size, root


class Walk:
    """One pass over the log that stops at the first entry that does not hold.

    Args:
        claims: Roots by size, each with the words that name its source.
    """

    def __init__(self, claims: Iterable[tuple[int, bytes, str]]) -> None:
        self._claims: defaultdict[int, list[tuple[bytes, str]]] = defaultdict(list)
        for size, root, source in claims:
            self._claims[size].append((root, source))
        self._edge = RightEdge()
        self._chain = CHAIN_START
        self._agreed = 0
        self._compare()

    def entry(self, entry: Entry) -> None:
        """Check the next entry.

        Raises:
            VerificationFailed: It is missing, changed or inserted; the message names its number.
        """
        seq = self._edge.size + 1
        if entry.seq != seq:
            raise VerificationFailed(
                f"audit log entry {seq}: expected it after entry {seq - 1}, "
                f"found entry {entry.seq}; entry {seq} is missing"
            )
        leaf = leaf_of(entry)
        if leaf.hex() != entry.leaf_hash:
            raise VerificationFailed(
                f"audit log entry {seq}: expected leaf hash {leaf.hex()} from its content, "
                f"found {entry.leaf_hash}; the entry was changed"
            )
        self._chain = chain_hash(self._chain, leaf)
        if self._chain.hex() != entry.chain_hash:
            raise VerificationFailed(
                f"audit log entry {seq}: expected chain hash {self._chain.hex()}, "
                f"found {entry.chain_hash}; this entry or the one before was exchanged"
            )
        self._edge.append(leaf)
        self._compare()

    def end(self, stored: RightEdge, stored_chain: bytes) -> Verified:
        """Check that the log ends where it should.

        Raises:
            VerificationFailed: Entries are missing at the end, or were added past it.
        """
        size = self._edge.size
        expected = max([stored.size, *self._claims])
        if size < expected:
            raise VerificationFailed(
                f"audit log entry {size + 1}: expected {expected} entries, found {size}; "
                f"the log was cut off after entry {size}"
            )
        if (size, self._chain, self._edge.hashes) != (stored.size, stored_chain, stored.hashes):
            raise VerificationFailed(
                f"audit log entry {min(size, stored.size) + 1}: expected the log to end with "
                f"entry {stored.size} as its state says, found entry {size}"
            )
        compared = sum(len(claims) for claims in self._claims.values())
        return Verified(size, self._edge.root().hex(), self._chain.hex(), compared)

    def _compare(self) -> None:
        size, root = self._edge.size, self._edge.root() if self._edge.size in self._claims else b""
        for claimed, source in self._claims.get(size, []):
            if claimed != root:
                raise VerificationFailed(
                    f"audit log entry {self._agreed + 1}: expected the root {claimed.hex()} of "
                    f"{source} at size {size}, found {root.hex()}; an entry from "
                    f"{self._agreed + 1} to {size} was rewritten"
                )
            self._agreed = size


def claims_of(
    checkpoints: Iterable[Checkpoint],
    outside: Iterable[str],
    origin: str,
    open_note: OpenNote | None,
) -> Iterable[tuple[int, bytes, str]]:
    """What all checkpoints say, signatures checked where that is possible.

    Those of the database whose key was revoked since are left out: they prove nothing any more.

    Raises:
        VerificationFailed: A signature does not hold, or a row differs from its own note.
    """
    for checkpoint in checkpoints:
        try:
            size, root = read_checkpoint(checkpoint.note, origin, open_note)
        except KeyRevoked:
            continue
        if (size, root.hex()) != (checkpoint.size, checkpoint.root):
            raise VerificationFailed(
                f"checkpoint of size {checkpoint.size}: expected what its signed note says, "
                f"found size {size} and root {root.hex()} there"
            )
        yield size, root, "the signed checkpoint in the database"
    for note in outside:
        yield *read_checkpoint(note, origin, open_note), "the checkpoint kept outside"


def leaf_of(entry: Entry) -> bytes:
    """The hash that an entry's content has; zeros for content that the log never takes."""
    try:
        body = entry_body(
            entry.seq,
            entry.tenant_id,
            entry.actor_id,
            entry.actor_name,
            entry.action,
            entry.subject,
            entry.details,
            entry.at,
        )
    except TypeError:
        # Content that the log never takes, such as numbers beyond 64 bits.
        return bytes(32)
    return leaf_hash(body)
