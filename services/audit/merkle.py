"""Hashes of the log: leaves, the chain, and the RFC 6962 tree kept by its right edge.

Source: RFC 6962, section 2.1 (Merkle tree head, domain bytes 0x00 and 0x01).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

EMPTY_ROOT = sha256(b"").digest()
CHAIN_START = bytes(32)
"""The chain hash before the first entry."""


class RightEdge:
    """A tree that grows at its right end, in memory of the logarithm of its size.

    Args:
        size: Leaves so far.
        hashes: Heads of the complete subtrees, largest first: one for each 1 bit of `size`.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            raise ValueError(
                f"right edge: expected {size.bit_count()} hashes for {size} leaves, "
                f"found {len(self.hashes)}"
            )

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash, 32 bytes."""
        size, node = self.size, leaf
        while size & 1:
            node = node_hash(self.hashes.pop(), node)
            size >>= 1
        self.hashes.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The tree head over all leaves, 32 bytes."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for node in reversed(self.hashes[:-1]):
            root = node_hash(node, root)
        return root


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def leaf_hash(body: bytes) -> bytes:
    """Hash of a leaf with this content."""
    return sha256(b"\x00" + body).digest()


def chain_hash(previous: bytes, leaf: bytes) -> bytes:
    """Hash that ties a leaf to everything before it."""
    return sha256(b"\x01" + previous + leaf).digest()


def entry_body(
    seq: int,
    tenant_id: str | None,
    actor_id: str,
    actor_name: str,
    action: str,
    subject: str,
    details: dict[str, Any],
    at: datetime,
) -> bytes:
    """The bytes of an entry that its leaf hash covers: its RFC 8785 canonical JSON.

    `orjson` writes that form, thirty times faster than `rfc8785`, as long as there are no floats,
    whole numbers stay within 53 bits and keys are ASCII, which `outbox.checked` sees to; a test
    compares both.
    """
    body = {
        "action": action,
        "actor_id": actor_id,
        "actor_name": actor_name,
        "at": timestamp(at),
        "details": details,
        "seq": seq,
        "subject": subject,
        "tenant_id": tenant_id,
    }
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def timestamp(at: datetime) -> str:
    """A time as entries write it: UTC, microseconds, `Z`."""
    # Ten times as fast as strftime, and the hot path writes five of them for each answer.
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
