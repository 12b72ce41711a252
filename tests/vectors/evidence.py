"""Whole evidence by published keys, and the tools to spoil it in one way at a time."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
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
from services.attestation.receipts import sign, statement
from services.attestation.statements import sign_statement
from services.audit.heads import folded
from services.audit.merkle import entry_body, leaf_hash
from services.audit.models import Event
from services.audit.proofs import inclusion_path
from services.audit.verification import checkpoint_text
from tests.services.attestation.conftest import SALT, entry_event, facts

Document = dict[str, Any]
Change = Callable[[Document], None]
STAMP: Document = json.loads(Path(__file__).with_name("stamp.json").read_text())
BORN = "2026-11-21T07:00:00.000000Z"
AT = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)
SIZE, SEQ = 11, 5
FIELD_ORDER = 2**252 + 27742317777372353535851937790883648493


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
