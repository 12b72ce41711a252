"""The rows of one group commit: log entries, usage, signed receipts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from services.attestation import receipts
from services.attestation.receipts import ReceiptFacts
from services.audit.models import Entry, Event
from services.gateway.outcome import Outcome
from services.gateway.parts import Parts
from services.metering.models import Price, Usage

CURRENCY = "USD"

Prices = Mapping[str, tuple[str, Price]]
"""Version and price by served model."""


def prices_of(parts: Parts, outcomes: Sequence[Outcome]) -> Prices:
    """The prices that some outcomes need; reads them, so ask before the transaction begins."""
    served = {outcome.chosen.model.served for outcome in outcomes}
    return {name: parts.metering.price(name) for name in served}


def write_batch(
    parts: Parts, session: Session, outcomes: Sequence[Outcome], prices: Prices
) -> list[tuple[int, int]]:
    """Write all rows of some outcomes in the caller's transaction.

    The log entry comes first because the receipt names its place in the log; a receipt can
    therefore never be signed for something that is not recorded.

    Returns:
        The cost in micro-units and the place in the log of each, in their order.
    """
    bills = [_bill(parts, outcome, prices) for outcome in outcomes]
    entries = parts.audit.append_now(session, [_event(bill) for bill in bills])
    key = parts.keyring.key("receipt")
    for bill, entry in zip(bills, entries, strict=True):
        outcome = bill.outcome
        parts.metering.record_usage(session, _usage(bill))
        if outcome.has_receipt:
            parts.receipts.store(
                session,
                outcome.request_id,
                outcome.tenant_id,
                receipts.sign(_facts(bill, entry, parts.settings.issuer), key),
                bill.salt,
                request_id=outcome.request_id,
                actor_id=outcome.actor.id,
                at=outcome.completed_at,
            )
    return [(bill.cost_micro, entry.seq) for bill, entry in zip(bills, entries, strict=True)]


@dataclass(frozen=True, slots=True)
class _Bill:
    """An outcome with its price and the salt of its commitments."""

    outcome: Outcome
    cost_micro: int
    price_version: str
    salt: bytes


def _bill(parts: Parts, outcome: Outcome, prices: Prices) -> _Bill:
    version, price = prices[outcome.chosen.model.served]
    cost = parts.metering.cost_micro(price, outcome.prompt_tokens, outcome.completion_tokens)
    return _Bill(outcome, cost, version, secrets.token_bytes(32))


def _event(bill: _Bill) -> Event:
    outcome = bill.outcome
    return Event.by(
        outcome.actor,
        outcome.action(),
        f"request:{outcome.request_id}",
        tenant_id=outcome.tenant_id,
        at=outcome.completed_at,
        details=outcome.details(bill.cost_micro, bill.price_version, bill.salt),
    )


def _usage(bill: _Bill) -> Usage:
    outcome, chosen = bill.outcome, bill.outcome.chosen
    return Usage(
        request_id=outcome.request_id,
        tenant_id=outcome.tenant_id,
        key_id=outcome.key_id,
        alias=chosen.alias,
        served=chosen.model.served,
        arm=chosen.arm.value,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        cost_micro=bill.cost_micro,
        price_version=bill.price_version,
        latency_ms=outcome.latency_ms,
        ttft_ms=outcome.ttft_ms,
        status=outcome.status.value,
        at=outcome.received_at,
    )


def _facts(bill: _Bill, entry: Entry, issuer: str) -> ReceiptFacts:
    outcome, chosen = bill.outcome, bill.outcome.chosen
    model = chosen.model
    request_commitment, response_commitment = outcome.commitments(bill.salt)
    return ReceiptFacts(
        receipt_id=outcome.request_id,
        request_id=outcome.request_id,
        tenant_id=outcome.tenant_id,
        actor_id=outcome.actor.id,
        alias=chosen.alias,
        served=model.served,
        adapter_digest=model.adapter_digest,
        base_model=model.base_model,
        base_digest=model.base_digest,
        arm=chosen.arm.value,
        rollout_id=chosen.rollout_id,
        percent=chosen.percent,
        request_commitment=request_commitment,
        response_commitment=response_commitment,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        cost_micro=bill.cost_micro,
        currency=CURRENCY,
        price_version=bill.price_version,
        finish_reason=outcome.finish_reason,
        stream=outcome.stream,
        partial=outcome.is_partial,
        received_at=outcome.received_at,
        completed_at=outcome.completed_at,
        audit_seq=entry.seq,
        audit_leaf_hash=entry.leaf_hash,
        issuer=issuer,
        policy_version=outcome.policy_version,
        policy_digest=outcome.policy_digest,
        findings=sum(outcome.findings.values()),
    )
