"""Evidence that must be judged alike by every verifier: `python -m tests.vectors.generate`.

Writes `receipts.json` beside this file: valid evidence, and the same evidence spoiled in one way
each. All keys are made from published seeds, so every run writes the same bytes; only the time
stamp (`stamp.json`, made once by `openssl ts`) cannot be made again and is read. The static page's
policy, which names its script by hash, is brought up to date as well.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from services.attestation.bundle import FORMAT, ORIGIN, encoded
from services.attestation.dsse import IN_TOTO, sign_envelope
from services.attestation.jwks import jwk_of, thumbprint
from services.attestation.keys import Key, Purpose
from services.attestation.notes import note_key_id
from services.attestation.page import PAGE, policy_of
from services.attestation.receipts import sign, statement
from services.attestation.statements import sign_statement
from services.attestation.strict import to_base64url
from services.audit.heads import folded
from services.audit.merkle import entry_body, leaf_hash
from services.audit.models import Event
from services.audit.proofs import inclusion_path
from services.audit.verification import checkpoint_text
from tests.services.attestation.conftest import REQUEST, RESPONSE, SALT, entry_event, facts

HERE = Path(__file__).parent
FILE, STAMP = HERE / "receipts.json", HERE / "stamp.json"
BORN = "2026-11-21T07:00:00.000000Z"
AT = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)
SIZE, SEQ = 11, 5
FIELD_ORDER = 2**252 + 27742317777372353535851937790883648493

Document = dict[str, Any]
Change = Callable[[Document], None]


def key(purpose: Purpose, number: int = 0) -> Key:
    """A key from a published seed."""
    return Key.from_seed(purpose, sha256(f"param vectors {purpose} {number}".encode()).digest())


RECEIPT, CHECKPOINT, EVENT = key("receipt"), key("checkpoint"), key("event")


def jwks() -> Document:
    """The key set that verifiers trust."""
    return {"keys": [jwk_of(one.public, one.purpose, BORN) for one in (RECEIPT, CHECKPOINT, EVENT)]}


def with_key(number: int, **changed: Any) -> Document:
    """The key set with one key changed."""
    found = jwks()
    found["keys"][number] |= changed
    return found


def step() -> Document:
    """A rollout step, signed: it speaks of the adapter that answered."""
    return sign_statement(
        "https://param-console.dev/rollout-event/v1",
        {"support-3fa2c1d09b7e": "3f" * 32},
        {"state": "stepping", "percent": "10"},
        EVENT,
    )


def step_digest(envelope: Document) -> str:
    return sha256(base64.b64decode(envelope["payload"])).hexdigest()


def events() -> list[Event]:
    """Eleven entries; the fifth is the request, the eighth names the rollout step."""
    found = [
        Event("acme", "user:1", "Ayşe", "pairs.imported", f"dataset:{place}", {"count": place}, AT)
        for place in range(SIZE)
    ]
    found[SEQ - 1] = entry_event(facts(completed_at=AT))
    named = {"statement": step_digest(step()), "state": "stepping"}
    found[7] = Event("acme", "user:1", "Ayşe", "rollout.stepped", "rollout:ro-1", named, AT)
    return found


BODIES = [entry_body(place, **vars(event)) for place, event in enumerate(events(), start=1)]
LEAVES = [leaf_hash(body) for body in BODIES]


def head(begin: int, end: int) -> bytes:
    return folded(LEAVES[begin:end])


def path(seq: int) -> list[str]:
    return [encoded(node) for node in inclusion_path(seq - 1, SIZE, head)]


def note(size: int = SIZE, root: bytes | None = None, signer: Key = CHECKPOINT) -> str:
    """A signed checkpoint."""
    text = checkpoint_text(ORIGIN, size, head(0, size) if root is None else root)
    signature = note_key_id(ORIGIN, signer.public) + signer.sign(text.encode())
    return f"{text}\n— {ORIGIN} {base64.b64encode(signature).decode()}\n"


FACTS = facts(completed_at=AT, received_at=AT, audit_seq=SEQ, audit_leaf_hash=LEAVES[SEQ - 1].hex())


def receipt() -> Document:
    """The receipt with its salt."""
    return {"receipt_id": "r-1", "envelope": sign(FACTS, RECEIPT), "salt": SALT.hex()}


def bundle() -> Document:
    """The whole proof."""
    return {
        "format": FORMAT,
        "receipt": sign(FACTS, RECEIPT),
        "salt": SALT.hex(),
        "log": {
            "entry": encoded(BODIES[SEQ - 1]),
            "leaf_index": str(SEQ - 1),
            "tree_size": str(SIZE),
            "path": path(SEQ),
            "checkpoint": note(),
            "timestamp": None,
        },
        "keys": jwks(),
        "statements": [
            {
                "name": "rollout step",
                "envelope": step(),
                "log": {"entry": encoded(BODIES[7]), "leaf_index": "7", "path": path(8)},
            }
        ],
    }


def changed(document: Document, change: Change) -> Document:
    found = copy.deepcopy(document)
    change(found)
    return found


def flipped(value: str, place: int = 0) -> str:
    data = bytearray(base64.b64decode(value))
    data[place] ^= 1
    return base64.b64encode(bytes(data)).decode()


def signed_text(payload: str, *, kind: str = IN_TOTO, signer: Key = RECEIPT) -> Document:
    """An envelope over any text; the signature is genuine."""
    return sign_envelope(payload.encode("utf-8", "surrogatepass"), kind, signer)


def payload(**changes: Any) -> str:
    return orjson.dumps(
        statement(facts(**(vars(FACTS) | changes))), option=orjson.OPT_SORT_KEYS
    ).decode()


def weak_jwk(public: bytes) -> Document:
    return {"keys": [jwk_of(public, "receipt", BORN)]}


def small_order() -> tuple[Document, Document]:
    """A key under which one signature fits any message, with lax verifiers."""
    public = b"\x01" + bytes(31)
    signature = base64.b64encode(b"\x01" + bytes(63)).decode()
    envelope = changed(
        receipt()["envelope"],
        lambda found: found.update(signatures=[{"keyid": thumbprint(public), "sig": signature}]),
    )
    return envelope, weak_jwk(public)


def second_form(envelope: Document) -> Document:
    """The same signature with the group's order added to its second half."""
    raw = base64.b64decode(envelope["signatures"][0]["sig"])
    higher = int.from_bytes(raw[32:], "little") + FIELD_ORDER
    sig = base64.b64encode(raw[:32] + higher.to_bytes(32, "little")).decode()
    return changed(envelope, lambda found: found["signatures"][0].update(sig=sig))


def put(*where: str | int, value: Any) -> Change:
    def change(found: Any) -> None:
        for part in where[:-1]:
            found = found[part]
        found[where[-1]] = value

    return change


def drop(*where: str | int) -> Change:
    def change(found: Any) -> None:
        for part in where[:-1]:
            found = found[part]
        del found[where[-1]]

    return change


def vectors() -> Iterator[Document]:
    """All vectors, valid ones first."""
    yield from _valid()
    yield from _spoiled_receipts()
    yield from _spoiled_keys()
    yield from _spoiled_bundles()
    yield from _spoiled_statements()


def vector(
    name: str,
    document: Any,
    verdict: str,
    *failed: str,
    keys: Document | None = None,
    request: bytes | None = None,
    response: bytes | None = None,
) -> Document:
    file = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    return {
        "name": name,
        "file": file,
        "jwks": keys,
        "request": None if request is None else base64.b64encode(request).decode(),
        "response": None if response is None else base64.b64encode(response).decode(),
        "verdict": verdict,
        "failed": sorted(failed),
    }


def _valid() -> Iterator[Document]:
    yield vector("a receipt document", receipt(), "holds")
    yield vector("a bare envelope", receipt()["envelope"], "holds")
    yield vector("a receipt with its texts", receipt(), "holds", request=REQUEST, response=RESPONSE)
    yield vector("a bundle", bundle(), "holds")
    yield vector("a bundle with its texts", bundle(), "holds", request=REQUEST, response=RESPONSE)
    yield vector(
        "a bundle without statements", changed(bundle(), put("statements", value=[])), "holds"
    )
    stamp = json.loads(STAMP.read_text())
    stamped = {"authority": "test TSA", "response": stamp["response"]}
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


def _spoiled_receipts() -> Iterator[Document]:
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


def _spoiled_keys() -> Iterator[Document]:
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


def _spoiled_bundles() -> Iterator[Document]:
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
    stamp = json.loads(STAMP.read_text())
    for name, response in (
        ("a time stamp over something else", stamp["other"]),
        ("a time stamp that is none", encoded(b"no DER at all")),
        ("a time stamp cut off", encoded(base64.b64decode(stamp["response"])[:200])),
    ):
        fields = {"authority": "test TSA", "response": response}
        yield vector(
            name, changed(bundle(), put("log", "timestamp", value=fields)), "fails", "timestamp"
        )


def _spoiled_statements() -> Iterator[Document]:
    good, one = bundle(), bundle()["statements"][0]

    def of(name: str, value: Any, verdict: str = "fails", **options: Any) -> Document:
        failed = ("statements",) if verdict == "fails" else ()
        return vector(
            name, changed(good, put("statements", value=value)), verdict, *failed, **options
        )

    foreign = sign_statement(
        "https://param-console.dev/other/v1", {"another": "77" * 32}, {}, EVENT
    )
    yield of("a statement about something else", [{**one, "envelope": foreign, "log": None}])
    linked = sign_statement(
        "https://param-console.dev/run/v1",
        {"run": "88" * 32},
        {},
        EVENT,
        materials={"adapter": "3f" * 32},
    )
    yield of(
        "a statement tied by its materials", [{**one, "envelope": linked, "log": None}], "holds"
    )
    chained = sign_statement(
        "https://param-console.dev/other/v1",
        {"another": "77" * 32},
        {},
        EVENT,
        materials={"run": "88" * 32},
    )
    yield of(
        "a chain of statements in any order",
        [{**one, "envelope": chained, "log": None}, {**one, "envelope": linked, "log": None}],
        "holds",
    )
    by_receipt = sign_envelope(base64.b64decode(one["envelope"]["payload"]), IN_TOTO, RECEIPT)
    yield of("a statement by the receipt key", [{**one, "envelope": by_receipt}])
    bad = changed(one, put("envelope", "payload", value=flipped(one["envelope"]["payload"], 9)))
    yield of("a statement with a flipped byte", [bad])
    other = {"entry": encoded(BODIES[0]), "leaf_index": "0", "path": path(1)}
    yield of("a statement with an entry that does not name it", [{**one, "log": other}])
    moved = changed(one, put("log", "leaf_index", value="6"))
    yield of("a statement at another place of the log", [moved])
    yield of("a statement with a field more", [{**one, "ok": True}], "refused")
    stolen = {"not_after": "2026-11-21T09:00:00.000000Z", "revoked_reason": "stolen"}
    yield of(
        "a statement of a key revoked later",
        [one],
        "holds",
        keys=with_key(2, **stolen, last_valid_index=8),
    )
    yield of(
        "a statement of a key revoked before", [one], keys=with_key(2, **stolen, last_valid_index=7)
    )
    yield of(
        "a statement of a revoked key without the log",
        [{**one, "log": None}],
        keys=with_key(2, **stolen, last_valid_index=8),
    )


def document() -> str:
    """The file's text."""
    head_ = {"about": "See tests/vectors/generate.py and docs/verify.md.", "jwks": jwks()}
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in vectors())
    return json.dumps(head_, indent=1)[:-2] + ',\n "vectors": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    meta = re.compile('(Policy" content=")[^"]*')
    PAGE.write_text(meta.sub(lambda found: found[1] + policy_of(page), page), encoding="utf-8")
    FILE.write_text(document(), encoding="utf-8")
    print(f"{FILE}: {len(list(vectors()))} vectors")
