"""Valid evidence, and receipts that are spoiled themselves."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from services.attestation.receipts import sign
from tests.services.attestation.conftest import REQUEST, RESPONSE, facts
from tests.vectors.evidence import (
    FACTS,
    RECEIPT,
    SEQ,
    STAMP,
    Document,
    bundle,
    changed,
    flipped,
    payload,
    put,
    receipt,
    second_form,
    signed_text,
    vector,
    with_key,
)


def valid() -> Iterator[Document]:
    yield vector("a receipt document", receipt(), "holds")
    yield vector("a bare envelope", receipt()["envelope"], "holds")
    yield vector("a receipt with its texts", receipt(), "holds", request=REQUEST, response=RESPONSE)
    yield vector("a bundle", bundle(), "holds")
    yield vector("a bundle with its texts", bundle(), "holds", request=REQUEST, response=RESPONSE)
    yield vector(
        "a bundle without statements", changed(bundle(), put("statements", value=[])), "holds"
    )
    stamped = {"authority": "test TSA", "response": STAMP["response"]}
    yield vector(
        "a bundle with a time stamp",
        changed(bundle(), put("log", "timestamp", value=stamped)),
        "holds",
    )
    rotated = with_key(0, not_after="2026-11-21T09:00:00.000000Z")
    yield vector("a receipt of a key that was replaced later", receipt(), "holds", keys=rotated)
    revoked = with_key(
        0, not_after="2026-11-21T09:00:00.000000Z", last_valid_index=SEQ, revoked_reason="stolen"
    )
    yield vector("a bundle of a key that was revoked later", bundle(), "holds", keys=revoked)
    partial = sign(
        facts(**(vars(FACTS) | {"partial": True, "finish_reason": "client_gone"})), RECEIPT
    )
    yield vector("a partial answer", partial, "holds")


def spoiled() -> Iterator[Document]:
    whole, envelope = receipt(), receipt()["envelope"]
    yield vector("another request", whole, "fails", "request", request=b"{}")
    yield vector("another answer", whole, "fails", "response", response=RESPONSE + b" ")
    yield vector("a text without the salt", envelope, "fails", "request", request=REQUEST)
    yield vector(
        "another salt",
        changed(whole, put("salt", value="00" * 32)),
        "fails",
        "request",
        request=REQUEST,
    )
    for place, name in ((0, "first"), (-1, "last"), (300, "middle")):
        bad = changed(envelope, put("payload", value=flipped(envelope["payload"], place)))
        yield vector(f"the {name} byte of the payload flipped", bad, "refused")
    for place in (0, 31, 32, 63):
        sig = flipped(envelope["signatures"][0]["sig"], place)
        yield vector(
            f"byte {place} of the signature flipped",
            changed(envelope, put("signatures", 0, "sig", value=sig)),
            "refused",
        )
    yield vector("the signature in its second form", second_form(envelope), "refused")
    yield vector(
        "another payload type",
        changed(envelope, put("payloadType", value="application/json")),
        "refused",
    )
    yield vector(
        "another payload type, signed", signed_text(payload(), kind="application/json"), "refused"
    )
    yield vector(
        "signed without the type",
        changed(
            envelope,
            put(
                "signatures",
                0,
                "sig",
                value=base64.b64encode(
                    RECEIPT.sign(base64.b64decode(envelope["payload"]))
                ).decode(),
            ),
        ),
        "refused",
    )
    yield vector(
        "two signatures",
        changed(envelope, lambda one: one["signatures"].append(one["signatures"][0])),
        "refused",
    )
    yield vector("no signature", changed(envelope, put("signatures", value=[])), "refused")
    yield vector(
        "one field more in the envelope", changed(envelope, put("verified", value=True)), "refused"
    )
    yield vector(
        "base64 with stray bits",
        changed(envelope, put("payload", value=envelope["payload"].rstrip("=") + "=")),
        "refused",
    )
    yield vector(
        "another id beside the signed one",
        changed(whole, put("receipt_id", value="r-2")),
        "refused",
    )
    yield vector("a salt in capitals", changed(whole, put("salt", value="AB" * 32)), "refused")
    yield from _spoiled_payloads()


def _spoiled_payloads() -> Iterator[Document]:
    good = payload()
    spoiled = {
        "a key twice": good.replace('"_type":', '"_type":"x","_type":', 1),
        "a field more": good.replace('"arm":', '"also":"x","arm":', 1),
        "a field less": good.replace('"finishReason":"stop",', "", 1),
        "a number for a text": good.replace('"micro":"15"', '"micro":15', 1),
        "a huge number": good.replace('"micro":"15"', '"micro":"' + "9" * 40 + '"', 1),
        "a number with a zero before it": good.replace('"micro":"15"', '"micro":"015"', 1),
        "a fraction": good.replace('"micro":"15"', '"micro":1.5e1', 1),
        "half a surrogate pair": good.replace('"alias":"support"', '"alias":"\\ud800"', 1),
        "a control character": good.replace('"alias":"support"', '"alias":"a\\u0000b"', 1),
        "another statement type": good.replace("Statement/v1", "Statement/v0.1", 1),
        "another predicate": good.replace("inference-receipt/v1", "inference-receipt/v2", 1),
        "another adapter than the one served": good.replace('"name":"support-3fa2c1d09b7e"', '"name":"support-000000000000"', 1),
        "a day that is none": good.replace("2026-11-21T08", "2026-02-30T08"),
        "more after its end": good + "{}",
        "a byte order mark": "\ufeff" + good,
        "no object": "[]",
    }  # fmt: skip
    for name, text in spoiled.items():
        assert text != good, name
        yield vector(f"signed: {name}", signed_text(text), "refused")
    reordered = json.dumps(json.loads(good), indent=1)
    yield vector(
        "signed: other spaces and line ends, the same fields", signed_text(reordered), "holds"
    )
