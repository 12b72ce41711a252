"""Proofs about the log as anyone may ask for them: hashes only, never an entry's content."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.audit import store
from services.audit.heads import Heads, keep_blocks
from services.audit.models import Checkpoint
from services.audit.proofs import (
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
    tree_root,
)
from services.audit.store import AuditRow, CheckpointRow
from services.db import Database
from services.errors import InvalidInput, NotFound, VerificationFailed


@dataclass(frozen=True)
class InclusionProof:
    """That one entry is in the log.

    Attributes:
        index: Its place, from 0.
        size: Entries of the tree in which it is.
        root: Head of that tree, 32 bytes.
        leaf: Hash of the entry, 32 bytes.
        path: Hashes from the entry's neighbour up to the root's child.
    """

    index: int
    size: int
    root: bytes
    leaf: bytes
    path: list[bytes]

    def document(self) -> dict[str, Any]:
        """As an answer; hashes in base64, as C2SP writes them."""
        return {
            "leaf_index": self.index,
            "tree_size": self.size,
            "root": _text(self.root),
            "leaf_hash": _text(self.leaf),
            "path": [_text(node) for node in self.path],
        }


@dataclass(frozen=True)
class ConsistencyProof:
    """That the log of one size is the beginning of the log of another.

    Attributes:
        path: As RFC 9162, section 2.1.4, orders it.
    """

    first: int
    first_root: bytes
    second: int
    second_root: bytes
    path: list[bytes]

    def document(self) -> dict[str, Any]:
        """As an answer; hashes in base64."""
        return {
            "first_size": self.first,
            "first_root": _text(self.first_root),
            "second_size": self.second,
            "second_root": _text(self.second_root),
            "path": [_text(node) for node in self.path],
        }


class Proofs:
    """Makes proofs about one log.

    Args:
        db: Where the log is kept.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def newest(self) -> Checkpoint | None:
        """The newest signed checkpoint; None before the first."""
        with self._db.read() as session:
            return store.last_checkpoint(session)

    def inclusion(self, seq: int, size: int | None = None) -> InclusionProof:
        """That an entry is in the log.

        Args:
            seq: Number of the entry, from 1.
            size: Of the tree; that of the newest checkpoint by default.

        Raises:
            NotFound: There is no such entry, no checkpoint yet, or the entry is younger than the
                tree that was asked for.
            VerificationFailed: The log contradicts its own checkpoint.
        """
        with self._db.read() as session:
            size = _newest_size(session) if size is None else _known_size(session, size)
            if not 1 <= seq <= size:
                raise NotFound(f"entry {seq}: expected one of the first {size}, found none")
            leaf = session.scalar(select(AuditRow.leaf_hash).where(AuditRow.seq == seq))
            if leaf is None:
                raise NotFound(f"entry {seq}: expected it in the log, found none")
            heads, root = _agreed(session, size)
            path = inclusion_path(seq - 1, size, heads.head)
            check_inclusion(bytes.fromhex(leaf), seq - 1, size, path, root)
            return InclusionProof(seq - 1, size, root, bytes.fromhex(leaf), path)

    def consistency(self, first: int, second: int | None = None) -> ConsistencyProof:
        """That the log only grew.

        Args:
            first: The smaller size.
            second: The larger; that of the newest checkpoint by default.

        Raises:
            NotFound: The log is smaller than that, or there is no checkpoint yet.
            InvalidInput: The sizes are out of order.
            VerificationFailed: The log contradicts its own checkpoint.
        """
        with self._db.read() as session:
            second = _newest_size(session) if second is None else _known_size(session, second)
            heads, second_root = _agreed(session, second)
            path = consistency_path(first, second, heads.head)
            first_root = tree_root(first, heads.head)
            check_consistency(first, first_root, second, second_root, path)
            return ConsistencyProof(first, first_root, second, second_root, path)

    def root(self, size: int) -> bytes:
        """The tree head over the first entries.

        Raises:
            NotFound: There are fewer.
        """
        with self._db.read() as session:
            return _agreed(session, _known_size(session, size))[1]

    def keep_blocks(self) -> int:
        """Prepare proofs of what was added; see `services.audit.heads.keep_blocks`."""
        return keep_blocks(self._db)


def _newest_size(session: Session) -> int:
    last = store.last_checkpoint(session)
    if last is None:
        raise NotFound("checkpoint: expected a signed one, found none yet; one is made each minute")
    return last.size


def _known_size(session: Session, size: int) -> int:
    found = store.state(session)[0].size
    if size < 0:
        raise InvalidInput(f"size: expected 0 or more, found {size}")
    if size > found:
        raise NotFound(f"size: expected at most the {found} entries of the log, found {size}")
    return size


def _agreed(session: Session, size: int) -> tuple[Heads, bytes]:
    """Heads that lead to the root that was signed for this size, where one was."""
    signed = session.scalar(select(CheckpointRow.root).where(CheckpointRow.size == size))
    for uses_blocks in (True, False):
        heads = Heads(session, uses_blocks=uses_blocks)
        root = tree_root(size, heads.head)
        if signed is None or signed == root.hex():
            return heads, root
    raise VerificationFailed(
        f"audit log: expected the root {signed} that was signed for size {size}, "
        f"found {root.hex()}; run `param audit verify`"
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
