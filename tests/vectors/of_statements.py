"""Statements that do not belong to the receipt, or do not hold."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from services.attestation.bundle import encoded
from services.attestation.dsse import IN_TOTO, sign_envelope
from services.attestation.statements import sign_statement
from tests.vectors.evidence import (
    BODIES,
    EVENT,
    RECEIPT,
    Document,
    bundle,
    changed,
    flipped,
    path,
    put,
    vector,
    with_key,
)


def spoiled() -> Iterator[Document]:
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
