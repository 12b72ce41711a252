"""Proofs over the tree: for every size, for every entry, and never for anything else."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from services.audit import heads
from services.audit.heads import Heads, folded
from services.audit.merkle import EMPTY_ROOT, RightEdge, leaf_hash
from services.audit.proofs import (
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
    tree_root,
)
from services.audit.proving import Proofs
from services.audit.service import AuditLog
from services.db import Database
from services.errors import InvalidInput, NotFound, VerificationFailed
from tests.services.audit.conftest import append
from tests.services.audit.test_verification import tamper

LEAVES = [leaf_hash(bytes([n])) for n in range(200)]
# RFC 6962 test vectors of certificate-transparency-go: the leaves, and their tree heads by size.
DATA = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f")  # fmt: skip
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def over(leaves: Sequence[bytes]):  # type: ignore[no-untyped-def]
    return lambda begin, end: folded(leaves[begin:end])


def test_the_published_trees_have_their_published_heads() -> None:
    leaves = [leaf_hash(bytes.fromhex(data)) for data in DATA]
    for size, root in ROOTS.items():
        assert tree_root(size, over(leaves)).hex() == root
    assert tree_root(0, over(leaves)) == EMPTY_ROOT == sha256(b"").digest()


@given(st.integers(1, 200), st.data())
def test_each_leaf_is_shown_in_each_tree_and_in_no_other_place(
    size: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, size - 1))
    root = tree_root(size, over(LEAVES))
    path = inclusion_path(index, size, over(LEAVES))
    check_inclusion(LEAVES[index], index, size, path, root)
    wrong = [
        (LEAVES[(index + 1) % 200], index, size, path, root),
        (LEAVES[index], index, size, [*path, root], root),
        (LEAVES[index], index, size, path, sha256(root).digest()),
        (LEAVES[index], size, size, path, root),
    ]
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        changed = [*path[:place], sha256(path[place]).digest(), *path[place + 1 :]]
        wrong += [
            (LEAVES[index], index, size, changed, root),
            (LEAVES[index], index, size, path[:-1], root),
            (LEAVES[index], index ^ 1, size, path, root),
        ]
    for case in wrong:
        with pytest.raises(VerificationFailed):
            check_inclusion(*case)


@given(st.integers(0, 200), st.integers(0, 200), st.data())
def test_growth_is_shown_and_a_rewritten_log_is_not(
    one: int, other: int, data: st.DataObject
) -> None:
    first, second = sorted((one, other))
    roots = tree_root(first, over(LEAVES)), tree_root(second, over(LEAVES))
    path = consistency_path(first, second, over(LEAVES))
    check_consistency(first, roots[0], second, roots[1], path)
    if first == 0:
        return
    place = data.draw(st.integers(0, first - 1))
    forged = [*LEAVES[:place], leaf_hash(b"forged"), *LEAVES[place + 1 :]]
    with pytest.raises(VerificationFailed, match="consistency"):
        check_consistency(
            first, roots[0], second, tree_root(second, over(forged)),
            consistency_path(first, second, over(forged)),
        )  # fmt: skip
    with pytest.raises(VerificationFailed, match="consistency"):
        check_consistency(first, roots[0], second, roots[1], [*path, roots[0]])


def test_proofs_of_what_is_not_there_are_refused() -> None:
    for index, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(InvalidInput):
            inclusion_path(index, size, over(LEAVES))
    with pytest.raises(InvalidInput):
        consistency_path(3, 2, over(LEAVES))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four, so that few entries make three levels of them."""
    monkeypatch.setattr(heads, "WIDTH", 4)


@pytest.mark.usefixtures("small_blocks")
def test_kept_blocks_give_the_same_heads_as_the_leaves(log: AuditLog, database: Database) -> None:
    append(log, database, 70)
    proofs = Proofs(database)
    assert proofs.keep_blocks() == 70 // 4 + 70 // 16 + 70 // 64
    append(log, database, 23, first=70)
    assert proofs.keep_blocks() == 6 + 1
    assert proofs.keep_blocks() == 0
    with database.read() as session:
        kept, plain = Heads(session), Heads(session, uses_blocks=False)
        for size in range(1, 94):
            assert tree_root(size, kept.head) == tree_root(size, plain.head), size
        for index in range(0, 93, 7):
            assert inclusion_path(index, 93, kept.head) == inclusion_path(index, 93, plain.head)


def test_an_entry_and_the_growth_of_the_log_are_proven(log: AuditLog, database: Database) -> None:
    proofs = Proofs(database)
    with pytest.raises(NotFound, match="none yet"):
        proofs.inclusion(1)
    append(log, database, 5)
    first = log.checkpoint()
    append(log, database, 8, first=5)
    assert first is not None
    assert proofs.newest() == first
    found = proofs.inclusion(3)
    assert (found.index, found.size, found.root.hex()) == (2, 5, first.root)
    check_inclusion(found.leaf, 2, 5, found.path, found.root)
    last = log.checkpoint()
    assert last is not None
    grown = proofs.consistency(5)
    assert (grown.first_root.hex(), grown.second_root.hex()) == (first.root, last.root)
    assert proofs.root(13).hex() == last.root
    assert grown.document()["second_size"] == 13
    for seq, size in ((14, None), (0, None), (6, 5), (1, 99)):
        with pytest.raises(NotFound):
            proofs.inclusion(seq, size)


@pytest.mark.usefixtures("small_blocks")
def test_a_wrong_kept_block_is_no_evidence(log: AuditLog, database: Database) -> None:
    append(log, database, 9)
    made = log.checkpoint()
    proofs = Proofs(database)
    proofs.keep_blocks()
    with database.write() as session:
        session.execute(text("UPDATE audit_blocks SET head = :head"), {"head": "00" * 32})
    assert made is not None
    assert proofs.inclusion(2).root.hex() == made.root


def test_a_log_that_contradicts_its_checkpoint_proves_nothing(
    log: AuditLog, database: Database
) -> None:
    append(log, database, 6)
    log.checkpoint()
    tamper(database, f"UPDATE audit_log SET leaf_hash = '{'00' * 32}' WHERE seq = 2")
    with pytest.raises(VerificationFailed, match="was signed for size 6"):
        Proofs(database).inclusion(4)


def test_the_right_edge_and_the_proofs_agree() -> None:
    edge = RightEdge()
    for size, leaf in enumerate(LEAVES, start=1):
        edge.append(leaf)
        assert edge.root() == tree_root(size, over(LEAVES))
