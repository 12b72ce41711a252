"""Keys that do not count, or not for this."""

from __future__ import annotations

from collections.abc import Iterator

from services.attestation.receipts import sign
from services.attestation.strict import to_base64url
from tests.services.attestation.conftest import facts
from tests.vectors.evidence import (
    CHECKPOINT,
    EVENT,
    FACTS,
    RECEIPT,
    SEQ,
    Document,
    bundle,
    changed,
    jwks,
    key,
    payload,
    put,
    receipt,
    signed_text,
    small_order,
    vector,
    with_key,
)


def spoiled() -> Iterator[Document]:
    whole, other = receipt(), key("receipt", 1)
    yield vector("another key under its own name", sign(FACTS, other), "refused")
    borrowed = changed(sign(FACTS, other), put("signatures", 0, "keyid", value=RECEIPT.kid))
    yield vector("another key under a trusted name", borrowed, "refused")
    renamed = with_key(0, x=to_base64url(other.public))
    yield vector(
        "a key set with another key under that name", sign(FACTS, other), "refused", keys=renamed
    )
    weak, weak_keys = small_order()
    yield vector("a key of small order", weak, "refused", keys=weak_keys)
    yield vector("a key for checkpoints", signed_text(payload(), signer=CHECKPOINT), "refused")
    yield vector("a key for events", signed_text(payload(), signer=EVENT), "refused")
    yield vector("no keys", whole, "refused", keys={"keys": []})
    yield vector("a key set that is none", whole, "refused", keys={})
    yield vector(
        "a key twice", whole, "refused", keys={"keys": [*jwks()["keys"], jwks()["keys"][0]]}
    )
    late = with_key(0, not_before="2026-11-21T09:00:00.000000Z")
    yield vector("a key that was not made yet", whole, "fails", "key", keys=late)
    over = with_key(0, not_after="2026-11-21T07:30:00.000000Z")
    yield vector("a key that was replaced before", whole, "fails", "key", keys=over)
    stolen = {"not_after": "2026-11-21T09:00:00.000000Z", "revoked_reason": "stolen"}
    before = with_key(0, **stolen, last_valid_index=SEQ - 1)
    yield vector("a key revoked before this entry", whole, "fails", "key", keys=before)
    yield vector(
        "a bundle of a key revoked before its entry", bundle(), "fails", "key", keys=before
    )
    after = with_key(0, **stolen, last_valid_index=SEQ)
    yield vector("a revoked key, and no proof of the log", whole, "fails", "key", keys=after)
    backdated = sign(
        facts(**(vars(FACTS) | {"served": "support-3fa2c1d09b7e", "cost_micro": 1})), RECEIPT
    )
    forged = changed(bundle(), put("receipt", value=backdated))
    yield vector(
        "a revoked key that signs anew for an old entry",
        forged,
        "fails",
        "key",
        "entry",
        keys=after,
    )
    unsure = with_key(0, **stolen, last_valid_index="5")
    yield vector("a revocation that is no number", whole, "refused", keys=unsure)
