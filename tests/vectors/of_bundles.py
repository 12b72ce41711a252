"""Bundles whose log, checkpoint or time stamp does not show what it should."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from services.attestation.bundle import ORIGIN, encoded
from services.attestation.keys import Key
from services.attestation.receipts import sign
from tests.services.attestation.conftest import facts
from tests.vectors.evidence import (
    BODIES,
    FACTS,
    RECEIPT,
    SEQ,
    SIZE,
    STAMP,
    Change,
    Document,
    bundle,
    changed,
    flipped,
    key,
    note,
    put,
    vector,
    with_key,
)


def spoiled() -> Iterator[Document]:
    good, log = bundle(), bundle()["log"]

    def spoiled(name: str, change: Change, verdict: str, *failed: str, **options: Any) -> Document:
        return vector(name, changed(good, change), verdict, *failed, **options)

    yield spoiled(
        "another format",
        put("format", value="https://param-console.dev/proof-bundle/v2"),
        "refused",
    )
    yield spoiled("a field more in the bundle", put("note", value="trust me"), "refused")
    yield spoiled("a size that is a number", put("log", "tree_size", value=SIZE), "refused")
    yield spoiled("a huge size", put("log", "tree_size", value="9" * 40), "refused")
    yield spoiled("a path of short hashes", put("log", "path", value=["AAAA"]), "refused")
    entry = BODIES[SEQ - 1].replace(b'"cost_micro":15', b'"cost_micro":14')
    yield spoiled(
        "another entry", put("log", "entry", value=encoded(entry)), "fails", "entry", "inclusion"
    )
    yield spoiled(
        "the entry of another request",
        put("log", "entry", value=encoded(BODIES[0])),
        "fails",
        "entry",
        "inclusion",
    )
    yield spoiled("an entry that is no JSON", put("log", "entry", value=encoded(b"{")), "refused")
    huge = BODIES[SEQ - 1].replace(b'"cost_micro":15', b'"cost_micro":' + str(2**53).encode())
    yield spoiled(
        "an entry with a huge number", put("log", "entry", value=encoded(huge)), "refused"
    )
    yield spoiled(
        "a shorter path", put("log", "path", value=log["path"][:-1]), "fails", "inclusion"
    )
    yield spoiled(
        "a longer path",
        put("log", "path", value=[*log["path"], log["path"][0]]),
        "fails",
        "inclusion",
    )
    yield spoiled(
        "a flipped hash in the path",
        put("log", "path", 1, value=flipped(log["path"][1])),
        "fails",
        "inclusion",
    )
    yield spoiled("another place", put("log", "leaf_index", value="5"), "fails", "inclusion")
    yield spoiled(
        "a place beyond the end", put("log", "leaf_index", value=str(SIZE)), "fails", "inclusion"
    )
    yield spoiled(
        "another size than was signed",
        put("log", "tree_size", value="12"),
        "fails",
        "checkpoint",
        "inclusion",
        "statements",
    )
    yield spoiled(
        "a truncated log: a checkpoint before the entry",
        put("log", value={**log, "tree_size": "4", "checkpoint": note(4)}),
        "fails",
        "inclusion",
        "statements",
    )
    forked = note(SIZE, sha256(b"another history").digest())
    yield spoiled(
        "a forked log", put("log", "checkpoint", value=forked), "fails", "inclusion", "statements"
    )
    yield spoiled(
        "a checkpoint by another key",
        put("log", "checkpoint", value=note(signer=key("checkpoint", 1))),
        "fails",
        "checkpoint",
        "inclusion",
        "statements",
    )
    receipts_key = Key.from_seed("checkpoint", sha256(b"param vectors receipt 0").digest())
    yield spoiled(
        "a checkpoint by the receipt key",
        put("log", "checkpoint", value=note(signer=receipts_key)),
        "fails",
        "checkpoint",
        "inclusion",
        "statements",
    )
    yield spoiled(
        "a checkpoint whose text was changed",
        put("log", "checkpoint", value=note().replace("\n11\n", "\n12\n")),
        "fails",
        "checkpoint",
        "inclusion",
        "statements",
    )
    renamed = note().replace(ORIGIN, "other/audit")
    yield spoiled(
        "a checkpoint of another log",
        put("log", "checkpoint", value=renamed),
        "fails",
        "checkpoint",
        "inclusion",
        "statements",
    )
    revoked = with_key(
        1, not_after="2026-11-21T09:00:00.000000Z", last_valid_index=SIZE, revoked_reason="stolen"
    )
    yield spoiled(
        "a checkpoint of a revoked key",
        lambda _one: None,
        "fails",
        "checkpoint",
        "inclusion",
        "statements",
        keys=revoked,
    )
    yield spoiled(
        "the receipt of another entry",
        put("receipt", value=sign(facts(**(vars(FACTS) | {"audit_seq": 6})), RECEIPT)),
        "fails",
        "entry",
    )
    yield from _spoiled_stamps()


def _spoiled_stamps() -> Iterator[Document]:
    for name, response in (
        ("a time stamp over something else", STAMP["other"]),
        ("a time stamp that is none", encoded(b"no DER at all")),
        ("a time stamp cut off", encoded(base64.b64decode(STAMP["response"])[:200])),
    ):
        fields = {"authority": "test TSA", "response": response}
        yield vector(
            name, changed(bundle(), put("log", "timestamp", value=fields)), "fails", "timestamp"
        )
