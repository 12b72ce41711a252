"""The rows of one group commit: log entries, usage, signed receipts."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from services.attestation import receipts
from services.attestation.receipts import ReceiptFacts
from services.attestation.service import StoredReceipt
from services.audit.models import Entry, Event
from services.errors import ConsoleError, Unavailable
from services.gateway.guarding import FILTERED
from services.gateway.outcome import Chosen, Outcome
from services.gateway.parts import Parts
from services.metering.models import Usage
from services.rollouts.samples.models import Sample, Standing, standing_of
from services.rollouts.samples.service import observe

log = logging.getLogger(__name__)

CURRENCY = "USD"


_PASSING = (
    Unavailable, OperationalError, InterfaceError, InternalError, ProgrammingError, OSError,
)  # fmt: skip
"""What has nothing to do with what was to be written, and may be over in a moment."""


class Unrecordable(Unavailable):
    """The database is there and refuses just these rows; others may be written."""


def record(parts: Parts, outcomes: Sequence[Outcome], *, again: bool = False) -> int:
    """Make outcomes durable, all or none.

    Args:
        again: Some of them may be recorded already; those are left as they are.

    Returns:
        How many were written.

    Raises:
        Unrecordable: It is the outcomes that cannot be written, whatever is wrong with them.
        Unavailable: Nothing can be written at the moment; likewise SQLAlchemyError and OSError.
    """
    try:
        with parts.db.write() as session:
            if again:
                unknown = parts.metering.unmetered(session, [one.request_id for one in outcomes])
                outcomes = [one for one in outcomes if one.request_id in unknown]
            write_batch(parts, session, outcomes)
    except _PASSING:
        raise
    except ConsoleError as error:
        raise Unrecordable(error.message) from error
    except Exception as error:
        log.exception("%d outcomes cannot be recorded", len(outcomes))
        raise Unrecordable("the database refused it") from error
    return len(outcomes)


def write_batch(parts: Parts, session: Session, outcomes: Sequence[Outcome]) -> None:
    """Write all rows of some outcomes in the caller's transaction.

    The log entry comes first because the receipt names its place in the log; a receipt can
    therefore never be signed for something that is not recorded.
    """
    bills = [_Bill(outcome, outcome.cost_micro(), secrets.token_bytes(32)) for outcome in outcomes]
    entries = parts.audit.append_now(session, [_event(bill) for bill in bills])
    key = parts.keyring.key("receipt")
    parts.metering.record_usage(session, *(_usage(bill) for bill in bills))
    issuer = parts.settings.issuer
    parts.receipts.store(
        session,
        *(
            _receipt(bill, receipts.sign(_facts(bill, entry, issuer), key))
            for bill, entry in zip(bills, entries, strict=True)
            if bill.outcome.has_receipt
        ),
    )
    for bill in bills:
        _keep(parts, session, bill.outcome)
    observe(session, [_sample(bill) for bill in bills if _blamed(bill.outcome).rollout_id])


def _keep(parts: Parts, session: Session, outcome: Outcome) -> None:
    """Keep the texts of an answer, encrypted, for a tenant that asked for it."""
    if outcome.texts is not None and outcome.has_receipt:
        request, response, days = outcome.texts
        parts.evidence.retention.keep(
            session, outcome.tenant_id, outcome.request_id, request, response,
            days=days, at=outcome.completed_at,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Bill:
    """An outcome with its cost and the salt of its commitments."""

    outcome: Outcome
    cost_micro: int
    salt: bytes


def _event(bill: _Bill) -> Event:
    outcome = bill.outcome
    return Event.by(
        outcome.actor,
        outcome.action(),
        f"request:{outcome.request_id}",
        tenant_id=outcome.tenant_id,
        at=outcome.completed_at,
        details=outcome.details(bill.salt),
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
        price_version=outcome.price[0],
        latency_ms=outcome.latency_ms,
        ttft_ms=outcome.ttft_ms,
        status=outcome.status.value,
        at=outcome.received_at,
    )


def _receipt(bill: _Bill, envelope: dict[str, Any]) -> StoredReceipt:
    outcome = bill.outcome
    return StoredReceipt(
        receipt_id=outcome.request_id,
        tenant_id=outcome.tenant_id,
        request_id=outcome.request_id,
        actor_id=outcome.actor.id,
        envelope=envelope,
        salt=bill.salt,
        created_at=outcome.completed_at,
    )


def _blamed(outcome: Outcome) -> Chosen:
    """Whose request it is in the eyes of a rollout, whoever answered it in the end."""
    return outcome.chosen.instead_of or outcome.chosen


def _sample(bill: _Bill) -> Sample:
    """The request as the verdict on a rollout sees it."""
    outcome, chosen = bill.outcome, _blamed(bill.outcome)
    if chosen is not outcome.chosen:
        return _failure(outcome, chosen)
    return Sample(
        request_id=outcome.request_id,
        tenant_id=outcome.tenant_id,
        rollout_id=chosen.rollout_id or "",
        arm=chosen.arm,
        place=chosen.place,
        standing=standing_of(outcome.status.value, outcome.finish_reason, outcome.problem),
        is_refused=outcome.finish_reason == FILTERED,
        is_flagged=bool(outcome.findings),
        latency_ms=outcome.latency_ms,
        ttft_ms=outcome.ttft_ms,
        cost_micro=bill.cost_micro,
        at=outcome.completed_at,
    )


def _failure(outcome: Outcome, chosen: Chosen) -> Sample:
    """A failure of what was chosen; the answer of another model tells nothing more of it."""
    return Sample(
        request_id=outcome.request_id,
        tenant_id=outcome.tenant_id,
        rollout_id=chosen.rollout_id or "",
        arm=chosen.arm,
        place=chosen.place,
        standing=Standing.ERROR,
        is_refused=False,
        is_flagged=False,
        latency_ms=outcome.latency_ms,
        ttft_ms=None,
        cost_micro=0,
        at=outcome.completed_at,
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
        price_version=outcome.price[0],
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
