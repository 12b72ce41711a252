"""The inference receipt: what it says, how it is signed, and how it is read back strictly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Literal

import orjson

from services.attestation.checks import Check, bad, well
from services.attestation.dsse import IN_TOTO, open_envelope, sign_envelope
from services.attestation.jwks import TrustedKey, parse_time, trusted_keys
from services.attestation.keys import Key
from services.attestation.shape import PREDICATE_TYPE, STATEMENT_TYPE, check_statement
from services.attestation.strict import read_json
from services.attestation.words import Refused, limit
from services.audit.merkle import timestamp

LIMITS = ("weights", "second", "clock", "stolen", "fresh")
"""Names of what no check of a receipt can show; see `words`."""
NOT_ESTABLISHED = tuple(limit(name) for name in LIMITS)
# Keys are made at the first signature, and a batch may be signed just after a rotation.
_CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True)
class ReceiptFacts:
    """What one receipt says.

    Attributes:
        served: Name of the adapter that answered, or of the base model.
        adapter_digest: SHA-256 of the adapter, hex; None for the bare base model.
        base_digest: SHA-256 of the base model, hex; empty where an engine elsewhere holds it.
        percent: Share of the candidate at that time, 0 to 100.
        request_commitment: See `commitment`; likewise the response's.
        cost_micro: Price, in millionths of the currency.
        partial: The answer ended before the model did, for instance because the client left.
        received_at: Signer's clock; likewise `completed_at`.
        audit_seq: Place of the request in the audit log.
        audit_leaf_hash: Hash of that entry, hex.
        issuer: Name of the installation.
        policy_version: Of the guardrails that were applied; 0 is the built-in default.
        policy_digest: SHA-256 of that policy, hex.
        findings: How much they found in request and response.
    """

    receipt_id: str
    request_id: str
    tenant_id: str
    actor_id: str
    alias: str
    served: str
    adapter_digest: str | None
    base_model: str
    base_digest: str
    arm: Literal["stable", "canary", "pinned", "fallback"]
    rollout_id: str | None
    percent: int
    request_commitment: str
    response_commitment: str
    prompt_tokens: int
    completion_tokens: int
    cost_micro: int
    currency: str
    price_version: str
    finish_reason: str
    stream: bool
    partial: bool
    received_at: datetime
    completed_at: datetime
    audit_seq: int
    audit_leaf_hash: str
    issuer: str
    policy_version: int
    policy_digest: str
    findings: int


@dataclass(frozen=True)
class VerifiedReceipt:
    """A receipt whose form, signature and key hold.

    Attributes:
        statement: The in-toto statement, parsed from the verified bytes.
        kid: Which key signed it.
        checks: What was looked at; a comparison that the caller asked for may have failed.
        not_established: What no check here can show.
    """

    statement: dict[str, Any]
    kid: str
    checks: list[Check]
    not_established: list[str]

    @property
    def holds(self) -> bool:
        """Whether every check, the asked-for comparisons included, came out well."""
        return all(check.ok for check in self.checks)


def commitment(kind: Literal["request", "response"], salt: bytes, digest: bytes) -> str:
    """A digest that reveals nothing about its text to those without the salt.

    `sha256("param.v1/" + kind || 0x00 || salt || digest)`: a bare digest of a short text could be
    guessed from the receipt; once the salt is deleted nothing ties the receipt to the text.

    Args:
        salt: 32 random bytes, kept by whoever asked.
        digest: SHA-256 of the exact bytes, 32 bytes (so that a stream can be hashed as it goes).

    Returns:
        Hex, 64 characters.

    Raises:
        ValueError: Salt or digest do not have 32 bytes.
    """
    if len(salt) != 32 or len(digest) != 32:
        raise ValueError(
            f"commitment: expected a salt and a digest of 32 bytes, "
            f"found {len(salt)} and {len(digest)}"
        )
    return sha256(f"param.v1/{kind}".encode() + b"\x00" + salt + digest).hexdigest()


def statement(facts: ReceiptFacts) -> dict[str, Any]:
    """The receipt as an in-toto Statement v1; numbers are decimal strings."""
    adapter = None
    if facts.adapter_digest is not None:
        adapter = {"name": facts.served, "digest": {"sha256": facts.adapter_digest}}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "response", "digest": {"sha256": facts.response_commitment}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "receiptId": facts.receipt_id,
            "requestId": facts.request_id,
            "issuer": facts.issuer,
            "tenant": facts.tenant_id,
            "actor": facts.actor_id,
            "request": {"commitment": facts.request_commitment},
            "response": {
                "commitment": facts.response_commitment,
                "finishReason": facts.finish_reason,
                "stream": facts.stream,
                "partial": facts.partial,
            },
            "model": {
                "alias": facts.alias,
                "served": facts.served,
                "base": {"name": facts.base_model, "digest": {"sha256": facts.base_digest}},
                "adapter": adapter,
            },
            "rollout": {
                "id": facts.rollout_id,
                "arm": facts.arm,
                "percent": str(facts.percent),
            },
            "usage": {
                "promptTokens": str(facts.prompt_tokens),
                "completionTokens": str(facts.completion_tokens),
            },
            "cost": {
                "micro": str(facts.cost_micro),
                "currency": facts.currency,
                "priceVersion": facts.price_version,
            },
            "guardrails": {
                "policyVersion": str(facts.policy_version),
                "policyDigest": {"sha256": facts.policy_digest},
                "findings": str(facts.findings),
            },
            "audit": {"seq": str(facts.audit_seq), "leafHash": facts.audit_leaf_hash},
            "time": {
                "received": timestamp(facts.received_at),
                "completed": timestamp(facts.completed_at),
            },
        },
    }


def facts_of(found: dict[str, Any]) -> ReceiptFacts:
    """The facts back from a statement.

    Raises:
        VerificationFailed: It is not exactly a receipt's statement; the message names the field.
    """
    check_statement(found)
    body = found["predicate"]
    model, response = body["model"], body["response"]
    adapter = model["adapter"]
    facts = ReceiptFacts(
        receipt_id=body["receiptId"],
        request_id=body["requestId"],
        tenant_id=body["tenant"],
        actor_id=body["actor"],
        alias=model["alias"],
        served=model["served"],
        adapter_digest=None if adapter is None else adapter["digest"]["sha256"],
        base_model=model["base"]["name"],
        base_digest=model["base"]["digest"]["sha256"],
        arm=body["rollout"]["arm"],
        rollout_id=body["rollout"]["id"],
        percent=int(body["rollout"]["percent"]),
        request_commitment=body["request"]["commitment"],
        response_commitment=response["commitment"],
        prompt_tokens=int(body["usage"]["promptTokens"]),
        completion_tokens=int(body["usage"]["completionTokens"]),
        cost_micro=int(body["cost"]["micro"]),
        currency=body["cost"]["currency"],
        price_version=body["cost"]["priceVersion"],
        finish_reason=response["finishReason"],
        stream=response["stream"],
        partial=response["partial"],
        received_at=parse_time(body["time"]["received"], "receipt: time.received"),
        completed_at=parse_time(body["time"]["completed"], "receipt: time.completed"),
        audit_seq=int(body["audit"]["seq"]),
        audit_leaf_hash=body["audit"]["leafHash"],
        issuer=body["issuer"],
        policy_version=int(body["guardrails"]["policyVersion"]),
        policy_digest=body["guardrails"]["policyDigest"]["sha256"],
        findings=int(body["guardrails"]["findings"]),
    )
    if statement(facts) != found:
        raise Refused("receipt.contradiction", "receipt")
    return facts


def sign(facts: ReceiptFacts, key: Key) -> dict[str, Any]:
    """The signed receipt: a DSSE envelope around the statement's canonical JSON.

    Raises:
        VerificationFailed: The facts do not fit the receipt's form, so nobody could verify it.
        ValueError: The key is for another purpose.
    """
    if key.purpose != "receipt":
        raise ValueError(f"expected a key for receipts, found one for {key.purpose}s")
    found = statement(facts)
    check_statement(found)
    # RFC 8785, as keys are ASCII and there are no numbers; see `services.audit.merkle`.
    return sign_envelope(orjson.dumps(found, option=orjson.OPT_SORT_KEYS), IN_TOTO, key)


def verify(
    envelope: Any,
    jwks: Any,
    *,
    request: bytes | None = None,
    response: bytes | None = None,
    salt: bytes | None = None,
    logged: Callable[[ReceiptFacts], list[Check]] | None = None,
) -> VerifiedReceipt:
    """Check a receipt against keys that the caller trusts; needs no database and no network.

    Args:
        envelope: As parsed from JSON.
        jwks: The issuer's key set, had from somewhere other than the receipt.
        request: The exact bytes that were asked, to compare; likewise `response`.
        salt: What the commitments were made with, 32 bytes.
        logged: Checks that the log holds what the receipt says. Without it, or where it fails, no
            receipt of a revoked key counts: only the log can tell when it was signed.

    Returns:
        The statement and all checks. Look at `holds`: texts that do not match are a failed check.

    Raises:
        VerificationFailed: Form, signature or key do not hold: then nothing it says counts.
    """
    trusted = {kid: key for kid, key in trusted_keys(jwks).items() if key.purpose == "receipt"}
    public = {kid: key.public for kid, key in trusted.items()}
    payload = open_envelope(envelope, public, "receipt")
    found = read_json(payload, "receipt")
    facts = facts_of(found)
    kid = envelope["signatures"][0]["keyid"]
    in_log = [] if logged is None else logged(facts)
    is_logged = bool(in_log) and all(check.ok for check in in_log)
    checks = [
        well("form", "form.ok"),
        well("signature", "signature.ok"),
        _key_check(trusted[kid], facts, is_logged=is_logged),
        *in_log,
    ]
    if request is not None:
        checks.append(_text_check("request", facts.request_commitment, request, salt))
    if response is not None:
        checks.append(_text_check("response", facts.response_commitment, response, salt))
    return VerifiedReceipt(found, kid, checks, list(NOT_ESTABLISHED))


def _key_check(key: TrustedKey, facts: ReceiptFacts, *, is_logged: bool) -> Check:
    since, until = key.not_before, key.not_after
    # Differences, not sums: a time at the end of all time has nothing after it.
    is_early = since - facts.completed_at > _CLOCK_TOLERANCE
    is_late = until is not None and facts.completed_at - until > _CLOCK_TOLERANCE
    period = {"kid": key.kid, "since": timestamp(since)}
    period |= {} if until is None else {"until": timestamp(until)}
    suffix = "" if until is None else "_until"
    if is_early or is_late:
        return bad("key", f"key.off{suffix}", **period, said=timestamp(facts.completed_at))
    last = key.last_valid_index
    if last is None:
        return well("key", f"key.ok{suffix}", **period)
    if facts.audit_seq > last:
        return bad("key", "key.after", kid=key.kid, last=last, seq=facts.audit_seq)
    if not is_logged:
        return bad("key", "key.unproven", kid=key.kid, last=last)
    return well("key", "key.older", kid=key.kid, last=last)


def _text_check(
    kind: Literal["request", "response"], stated: str, text: bytes, salt: bytes | None
) -> Check:
    if salt is None or len(salt) != 32:
        return bad(kind, "no_salt")
    found = commitment(kind, salt, sha256(text).digest())
    if compare_digest(found, stated):
        return well(kind, f"{kind}.ok", count=len(text))
    return bad(kind, f"{kind}.other", count=len(text))
