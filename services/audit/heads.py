"""Heads of subtrees: what proofs are made of, kept for complete blocks so that none is slow.

A block is 256 leaves, or 256 blocks of the level below, as in the tiles of C2SP tlog-tiles. The
kept heads are a convenience and no evidence: they can always be computed again from the leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.audit.merkle import RightEdge, node_hash
from services.audit.store import AuditRow, BlockRow, state
from services.db import Database

BITS = 8
WIDTH = 1 << BITS
MOST_AT_ONCE = 64
"""Blocks that are written in one transaction, so that the log's writer never waits for long."""


def folded(hashes: Sequence[bytes]) -> bytes:
    """The head over some neighbouring heads of the same height."""
    edge = RightEdge()
    for found in hashes:
        edge.append(found)
    return edge.root()


class Heads:
    """Heads of subtrees of the log as it stands in one reading transaction.

    Args:
        session: Any session.
        uses_blocks: Whether the kept heads are used; without them all comes from the leaves.
    """

    def __init__(self, session: Session, *, uses_blocks: bool = True) -> None:
        self._session = session
        self._uses_blocks = uses_blocks

    def head(self, begin: int, end: int) -> bytes:
        """The head over the leaves from `begin` up to `end`; see `services.audit.proofs.Head`."""
        return self._folded(begin, end, level=self._height(begin, end))

    def _folded(self, begin: int, end: int, *, level: int) -> bytes:
        """Complete blocks of one level, and the rest that fills none, from a level below."""
        if level == 0:
            return folded(self._leaves(begin, end))
        width = WIDTH**level
        whole = (end - begin) // width
        edge = RightEdge()
        for found in self._blocks(level, begin // width, begin // width + whole):
            edge.append(found)
        cut = begin + whole * width
        if cut == end:
            return edge.root()
        rest = self._folded(cut, end, level=level - 1)
        return _joined(edge, rest)

    def _height(self, begin: int, end: int) -> int:
        """The highest level whose complete blocks begin where this subtree begins."""
        level = 0
        while self._uses_blocks and end - begin >= WIDTH ** (level + 1):
            level += 1
        return level

    def _leaves(self, begin: int, end: int) -> list[bytes]:
        rows = self._session.scalars(
            select(AuditRow.leaf_hash)
            .where(AuditRow.seq > begin, AuditRow.seq <= end)
            .order_by(AuditRow.seq)
        )
        return [bytes.fromhex(row) for row in rows]

    def _blocks(self, level: int, first: int, end: int) -> list[bytes]:
        """Heads of complete blocks, computed where they are not kept yet."""
        rows = self._session.execute(
            select(BlockRow.place, BlockRow.head).where(
                BlockRow.level == level, BlockRow.place >= first, BlockRow.place < end
            )
        )
        kept = {row.place: bytes.fromhex(row.head) for row in rows}
        width = WIDTH**level
        return [
            kept.get(place) or self._folded(place * width, (place + 1) * width, level=level - 1)
            for place in range(first, end)
        ]


def _joined(edge: RightEdge, rest: bytes) -> bytes:
    """The head of the complete blocks in `edge` with an incomplete rest at their right."""
    found = rest
    for node in reversed(edge.hashes):
        found = node_hash(node, found)
    return found


def keep_blocks(db: Database) -> int:
    """Compute and keep the heads of all blocks that are complete and not kept yet.

    Any number of processes may do so at once; the log's writer is not held up.

    Returns:
        How many were kept.
    """
    kept = level = 0
    while True:
        level += 1
        found = _keep_level(db, level)
        if found is None:
            return kept
        kept += found


def _keep_level(db: Database, level: int) -> int | None:
    """None where the log is too small for a block of this level."""
    kept = 0
    while True:
        with db.read() as session:
            complete = state(session)[0].size // WIDTH**level
            if complete == 0:
                return None
            first = session.scalar(
                select(func.coalesce(func.max(BlockRow.place) + 1, 0)).where(
                    BlockRow.level == level
                )
            )
            assert first is not None, "an aggregate without groups gives one row"
            until = min(complete, first + MOST_AT_ONCE)
            heads = Heads(session)._blocks(level, first, until)
        if not heads:
            return kept
        rows = [
            {"level": level, "place": first + place, "head": head.hex()}
            for place, head in enumerate(heads)
        ]
        try:
            with db.write() as session:
                session.execute(insert(BlockRow), rows)
        except IntegrityError:
            return kept  # another process keeps them at this moment
        kept += len(rows)
