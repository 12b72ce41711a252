"""Inclusion and consistency proofs over the log's tree: made from subtree heads, checked alone.

Source: RFC 6962, section 2.1, for the proofs; RFC 9162, sections 2.1.3.2 and 2.1.4.2, for the two
checks, which need neither the log nor a database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hmac import compare_digest

from services.audit.merkle import EMPTY_ROOT, node_hash
from services.errors import InvalidInput, VerificationFailed

Head = Callable[[int, int], bytes]
"""Gives the head of the subtree over the leaves from `begin` up to, but without, `end`."""


def tree_root(size: int, head: Head) -> bytes:
    """The tree head over the first `size` leaves."""
    return head(0, size) if size else EMPTY_ROOT


def inclusion_path(index: int, size: int, head: Head) -> list[bytes]:
    """What proves that a leaf is in the tree of this size, from the leaf's neighbour upwards.

    Args:
        index: Place of the leaf, from 0.

    Raises:
        InvalidInput: There is no such leaf in such a tree.
    """
    if not 0 <= index < size:
        raise InvalidInput(f"proof: expected a leaf below the size {size}, found {index}")
    path, begin, end = [], 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(head(middle, end))
            end = middle
        else:
            path.append(head(begin, middle))
            begin = middle
    return path[::-1]


def consistency_path(first: int, second: int, head: Head) -> list[bytes]:
    """What proves that the tree of the first size is the beginning of that of the second.

    Raises:
        InvalidInput: The sizes are out of order.
    """
    if not 0 <= first <= second:
        raise InvalidInput(
            f"proof: expected two sizes, the smaller first, found {first} and {second}"
        )
    if first in (0, second):
        return []
    return _subproof(first, 0, second, head, is_known=True)


def _subproof(first: int, begin: int, end: int, head: Head, *, is_known: bool) -> list[bytes]:
    size = end - begin
    if first == size:
        return [] if is_known else [head(begin, end)]
    split = _split(size)
    if first <= split:
        path = _subproof(first, begin, begin + split, head, is_known=is_known)
        return [*path, head(begin + split, end)]
    path = _subproof(first - split, begin + split, end, head, is_known=False)
    return [*path, head(begin, begin + split)]


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Pass over a leaf that is in the tree of this size and root.

    Args:
        leaf: Its hash, 32 bytes.
        index: Its place, from 0.

    Raises:
        VerificationFailed: The path does not lead from the leaf to the root.
    """
    if not 0 <= index < size:
        raise VerificationFailed(
            f"inclusion: expected a place below the size {size}, found {index}"
        )
    place, last, found = index, size - 1, leaf
    for node in path:
        if last == 0:
            raise VerificationFailed("inclusion: expected a shorter path, found more nodes")
        if place & 1 or place == last:
            found = node_hash(node, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, node)
        place, last = place >> 1, last >> 1
    if last != 0 or not compare_digest(found, root):
        raise VerificationFailed(
            f"inclusion: expected the path of entry {index + 1} to end at the root "
            f"{root.hex()}, found {found.hex()}"
        )


def check_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]
) -> None:
    """Pass over two trees of which the first is the beginning of the second.

    Raises:
        VerificationFailed: The path does not show that.
    """
    if not 0 <= first <= second:
        raise VerificationFailed(
            f"consistency: expected the smaller size first, found {first} and {second}"
        )
    if first in (0, second):
        expected = EMPTY_ROOT if first == 0 else second_root
        if path or not compare_digest(first_root, expected):
            raise _inconsistent(first, second)
        return
    # A complete first tree is its own first node.
    nodes = [first_root, *path] if first & (first - 1) == 0 else list(path)
    if not nodes:
        raise _inconsistent(first, second)
    old, new = _climbed(first - 1, second - 1, nodes)
    if not (compare_digest(old, first_root) and compare_digest(new, second_root)):
        raise _inconsistent(first, second)


def _climbed(place: int, last: int, nodes: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of both trees as the nodes of a consistency proof give them."""
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            raise VerificationFailed("consistency: expected a shorter path, found more nodes")
        if place & 1 or place == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, node)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise VerificationFailed("consistency: expected a longer path, found too few nodes")
    return old, new


def _inconsistent(first: int, second: int) -> VerificationFailed:
    return VerificationFailed(
        f"consistency: expected the log of {second} entries to begin with that of {first}, "
        "found that it does not; something was rewritten or cut off"
    )


def _split(size: int) -> int:
    """The largest power of two below the size: where RFC 6962 divides a tree."""
    return 1 << (size - 1).bit_length() - 1
