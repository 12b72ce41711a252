"""Signed statements of what was done (a dataset, a run, a verdict, a rollout step), linked by digest.

Each is an in-toto Statement v1 in a DSSE envelope by a key for events. What it is about stands
under `subject`; what it was made from, or speaks of, under `predicate.materials`, and the step
before it in its own chain under `predicate.previous`: all by SHA-256. Two statements belong together where one names a digest of the other, or its payload's own digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from services.attestation.dsse import IN_TOTO, open_envelope, sign_envelope
from services.attestation.jwks import TrustedKey, trusted_keys
from services.attestation.keys import Key
from services.attestation.shape import STATEMENT_TYPE
from services.attestation.strict import exact_keys, read_json
from services.attestation.words import Refused

_HEX = re.compile(r"[0-9a-f]{64}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


@dataclass(frozen=True)
class Statement:
    """A statement whose form, signature and key hold.

    Attributes:
        payload_sha256: Digest of the signed bytes, hex; how the log and others name it.
        names: All digests it stands for: its own and those of its subjects.
        refers_to: Digests of its materials and of the statement before it.
    """

    predicate_type: str
    subjects: Mapping[str, str]
    predicate: Mapping[str, Any]
    payload_sha256: str
    kid: str
    names: frozenset[str]
    refers_to: frozenset[str]


def sign_statement(
    predicate_type: str,
    subjects: Mapping[str, str],
    predicate: Mapping[str, Any],
    key: Key,
    *,
    materials: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A signed statement.

    Args:
        predicate_type: URI of its kind.
        subjects: What it is about: SHA-256 in hex by name, at least one.
        predicate: What it says; JSON without floats.
        key: For events.
        materials: What it was made from or speaks of: SHA-256 in hex by name.

    Raises:
        ValueError: The key is for another purpose.
        VerificationFailed: It does not fit the form, so nobody could verify it.
    """
    if key.purpose != "event":
        raise ValueError(f"expected a key for events, found one for {key.purpose}s")
    body = {**predicate, "materials": _digests(materials or {})}
    found = {
        "_type": STATEMENT_TYPE,
        "subject": _digests(subjects),
        "predicateType": predicate_type,
        "predicate": body,
    }
    payload = orjson.dumps(found, option=orjson.OPT_SORT_KEYS)
    _read(payload)
    return sign_envelope(payload, IN_TOTO, key)


def open_statement(envelope: Any, jwks: Any) -> tuple[Statement, TrustedKey]:
    """The statement, once its signature by a key for events holds; and that key.

    Whether a revoked key still counts is for the caller to tell: only the log knows.

    Raises:
        VerificationFailed: Form, signature or key do not hold.
    """
    trusted = {kid: key for kid, key in trusted_keys(jwks).items() if key.purpose == "event"}
    keys = {kid: key.public for kid, key in trusted.items()}
    payload = open_envelope(envelope, keys, "event")
    key = trusted[envelope["signatures"][0]["keyid"]]
    found = _read(payload)
    digest = sha256(payload).hexdigest()
    subjects = {one["name"]: one["digest"]["sha256"] for one in found["subject"]}
    statement = Statement(
        predicate_type=found["predicateType"],
        subjects=subjects,
        predicate=found["predicate"],
        payload_sha256=digest,
        kid=key.kid,
        names=frozenset({digest, *(one["digest"]["sha256"] for one in found["subject"])}),
        refers_to=frozenset(_referred(found["predicate"])),
    )
    return statement, key


def unlinked(statements: Sequence[Statement], roots: Iterable[str]) -> list[int]:
    """Places of the statements that no chain of digests ties to what is known.

    Args:
        roots: Digests from which the chain may begin, hex.
    """
    known, open_ones = set(roots), set(range(len(statements)))
    while tied := {
        place
        for place in open_ones
        if (statements[place].names | statements[place].refers_to) & known
    }:
        for place in tied:
            known |= statements[place].names | statements[place].refers_to
        open_ones -= tied
    return sorted(open_ones)


def _referred(predicate: Mapping[str, Any]) -> list[str]:
    named = [one["digest"]["sha256"] for one in predicate.get("materials", [])]
    previous = predicate.get("previous")
    return named if previous is None else [*named, previous["sha256"]]


def _digests(named: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in named.items()]


def _read(payload: bytes) -> dict[str, Any]:
    found = exact_keys(
        read_json(payload, "statement"),
        ("_type", "subject", "predicateType", "predicate"),
        "statement",
    )
    if found["_type"] != STATEMENT_TYPE:
        raise Refused("statement.type", "statement", type=STATEMENT_TYPE)
    kind = found["predicateType"]
    if not isinstance(kind, str) or not _TEXT.fullmatch(kind):
        raise Refused("statement.kind", "statement")
    if not isinstance(found["predicate"], dict):
        raise Refused("object", "statement: predicate")
    _check_digests(found["subject"], "subject", least=1)
    _check_digests(found["predicate"].get("materials", []), "materials", least=0)
    _check_previous(found["predicate"].get("previous"))
    return found


def _check_previous(value: Any) -> None:
    """The statement before this one in its own chain, where it names one."""
    if value is None:
        return
    digest = exact_keys(value, ("sha256",), "statement: previous")["sha256"]
    if not isinstance(digest, str) or not _HEX.fullmatch(digest):
        raise Refused("form.hex", "statement: previous")


def _check_digests(listed: Any, where: str, *, least: int) -> None:
    if not isinstance(listed, list) or not least <= len(listed) <= 1000:
        raise Refused("list", f"statement: {where}", least=least, most=1000)
    for one in listed:
        fields = exact_keys(one, ("name", "digest"), f"statement: {where}")
        digest = exact_keys(fields["digest"], ("sha256",), f"statement: {where}")["sha256"]
        is_named = isinstance(fields["name"], str) and _TEXT.fullmatch(fields["name"])
        if not is_named or not isinstance(digest, str) or not _HEX.fullmatch(digest):
            raise Refused("statement.digest", f"statement: {where}")
