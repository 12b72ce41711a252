"""What becomes of requests whose process died, or whose outcome could not be recorded.

An outcome that stands in the journal is recorded as it would have been, receipt and all. For
requests without one the rule is the same for every one of them: what the client is known to have been given is charged, at
the prices at which the request was admitted; nothing else is. A stream that had begun is `partial`,
with the tokens that the engine had counted at the last mark in the journal (at most a second
before the end). Everything else is `error`, with no tokens and no cost: its client got nothing.

Exactly once: the usage row bears the id of the request, and the audit entry is written in the same
transaction, so whoever comes second, or finds the outcome recorded after all, writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from services.audit.models import Event
from services.db import utcnow
from services.errors import ConsoleError
from services.gateway.intents import Open, dead_journals
from services.gateway.outcome import Outcome, Status
from services.gateway.parts import Parts
from services.gateway.recording import record
from services.metering.models import Price, Usage
from services.metering.service import cost_micro

log = logging.getLogger(__name__)

CHUNK = 500
ACTION = "inference.interrupted"


def recover(parts: Parts, found: Sequence[Open]) -> int:
    """Write what is known of requests without an outcome.

    Returns:
        How many had none.

    Raises:
        ConsoleError: The database cannot be written.
    """
    written = 0
    for start in range(0, len(found), CHUNK):
        chunk = {one.intent.request_id: one for one in found[start : start + CHUNK]}
        with parts.db.write() as session:
            unknown = parts.metering.unmetered(session, chunk)
            missing = [one for request_id, one in chunk.items() if request_id in unknown]
            parts.audit.append_now(session, [_event(one) for one in missing])
            parts.metering.record_usage(session, *(_usage(one) for one in missing))
        written += len(missing)
    return written


def recover_told(parts: Parts, told: Sequence[Outcome]) -> int:
    """Record the outcomes that a journal holds.

    Returns:
        How many were not recorded yet.

    Raises:
        ConsoleError: The database cannot be written; likewise SQLAlchemyError. Outcomes beside
            one that is refused are recorded all the same.
    """
    written, refused = 0, None
    for start in range(0, len(told), CHUNK):
        chunk = told[start : start + CHUNK]
        try:
            written += record(parts, chunk, again=True)
        except (ConsoleError, SQLAlchemyError):
            for one in chunk:
                try:
                    written += record(parts, [one], again=True)
                except (ConsoleError, SQLAlchemyError) as error:
                    refused = error
    if refused is not None:
        raise refused
    return written


def recover_dead(parts: Parts, folder: Path, mine: Path) -> int:
    """Write what dead processes left; what cannot be written now is left for later.

    Returns:
        How many requests had no outcome in the database.
    """
    interrupted = told = 0
    with closing(dead_journals(folder, mine)) as journals:
        try:
            for left in journals:
                interrupted += recover(parts, left.open)
                told += recover_told(parts, left.told)
        except (ConsoleError, SQLAlchemyError) as error:
            log.error("requests of a gateway that has died cannot be recovered yet: %s", error)
    if told:
        log.warning("%d answers of a gateway that has died were not committed; they are now", told)
    if interrupted:
        log.warning("%d requests were interrupted when a gateway died; recorded now", interrupted)
    return interrupted + told


def _status(one: Open) -> Status:
    return Status.PARTIAL if one.is_delivered and one.intent.stream else Status.ERROR


def _tokens(one: Open) -> tuple[int, int]:
    if _status(one) is Status.ERROR:
        return 0, 0
    return one.prompt_tokens, one.completion_tokens


def _cost(one: Open) -> int:
    price = Price(one.intent.prompt_price, one.intent.completion_price)
    return cost_micro(price, *_tokens(one))


def _event(one: Open) -> Event:
    intent, (prompt, completion) = one.intent, _tokens(one)
    return Event(
        tenant_id=intent.tenant_id,
        actor_id=intent.actor_id,
        actor_name=intent.actor_name,
        action=ACTION,
        subject=f"request:{intent.request_id}",
        details={
            "alias": intent.alias,
            "served": intent.served,
            "adapter_digest": intent.adapter_digest,
            "arm": intent.arm,
            "rollout_id": intent.rollout_id,
            "percent": intent.percent,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "cost_micro": _cost(one),
            "price_version": intent.price_version,
            "stream": intent.stream,
            "policy_version": intent.policy_version,
            "received_at": intent.received_at,
            "rule": "last_mark" if _status(one) is Status.PARTIAL else "nothing_given",
        },
        at=utcnow(),
    )


def _usage(one: Open) -> Usage:
    intent, (prompt, completion) = one.intent, _tokens(one)
    return Usage(
        request_id=intent.request_id,
        tenant_id=intent.tenant_id,
        key_id=intent.actor_id.removeprefix("key:"),
        alias=intent.alias,
        served=intent.served,
        arm=intent.arm,  # type: ignore[arg-type]  # as it was read from one of the arms
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_micro=_cost(one),
        price_version=intent.price_version,
        latency_ms=0,
        ttft_ms=None,
        status=_status(one).value,
        at=datetime.fromisoformat(intent.received_at),
    )
