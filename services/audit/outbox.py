"""The outbox: an event is written in the same transaction as the change it tells of."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base, new_id, utcnow
from services.errors import InvalidInput
from services.tenants.models import Actor

_UNKEEPABLE = re.compile("[\\x00\\ud800-\\udfff]")


class OutboxRow(Base):
    """One event that waits for its place in the log."""

    __tablename__ = "audit_outbox"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str | None]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]
    at: Mapped[datetime]

    __table_args__ = (Index(None, "at"),)


def checked(*parts: Any) -> None:
    """Admit only what every database keeps and every canonical form writes the same way.

    Args:
        parts: Texts and JSON; nested up to 20 deep.

    Raises:
        InvalidInput: A float, a whole number beyond 53 bits, a key that is not ASCII text, NUL,
            half a surrogate pair, or something that is no JSON.
    """
    for part in parts:
        _check(part)


def _check(value: Any, depth: int = 0) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int):
        if not -(2**53) < value < 2**53:
            raise InvalidInput(f"audit event: expected at most 53 bits, found the number {value}")
    elif isinstance(value, dict | list) and depth < 20:
        for key in value if isinstance(value, dict) else ():
            if not isinstance(key, str) or not key.isascii():
                raise InvalidInput(f"audit event: expected keys in ASCII, found {key!r}")
            _check_text(key)
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1)
    else:
        raise InvalidInput(
            "audit event: expected text, whole numbers, booleans, lists and objects, "
            f"found {type(value).__name__}"
        )


def _check_text(text: str) -> None:
    # Most texts here are ASCII, which can be told without a search.
    if "\0" in text or not (text.isascii() or _UNKEEPABLE.search(text) is None):
        raise InvalidInput("audit event: expected Unicode text, found NUL or half a surrogate pair")


def record(
    session: Session,
    actor: Actor,
    action: str,
    subject: str,
    *,
    tenant_id: str | None,
    details: dict[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """Write one audit event in the caller's transaction.

    Args:
        session: The transaction of the change itself.
        action: `domain.verb`, such as `pairs.imported` or `rollout.promoted`.
        subject: What was changed, as `kind:id`, such as `adapter:legal-3fa2c1d09b7e`.
        tenant_id: None where the change concerns the whole installation.
        details: JSON of strings, whole numbers, booleans, lists and objects. No floats (they
            have no single canonical form; write them as strings), no prompts, no secrets.
        at: Time of the change; now by default.

    Raises:
        InvalidInput: Something cannot be hashed in one canonical form; see `checked`.
    """
    checked(actor.id, actor.name, action, subject, details or {})
    session.add(
        OutboxRow(
            id=new_id(),
            tenant_id=tenant_id,
            actor_id=actor.id,
            actor_name=actor.name,
            action=action,
            subject=subject,
            details=details or {},
            at=at or utcnow(),
        )
    )
