"""Events, entries and what a check of the whole log found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.errors import VerificationFailed
from services.tenants.models import Actor

SignNote = Callable[[str], str]
"""Turns the text of a checkpoint into a signed note."""

OpenNote = Callable[[str], str]
"""Gives the text of a signed note, or raises `VerificationFailed`."""


class KeyRevoked(VerificationFailed):
    """A checkpoint's signature fits, but its key counts no more for it."""


@dataclass(frozen=True)
class Event:
    """Something that was done and has no place in the log yet.

    Attributes:
        tenant_id: None where it concerns the whole installation.
        action: `domain.verb`.
        subject: `kind:id`.
        details: JSON without floats, prompts or secrets; keys in ASCII.
    """

    tenant_id: str | None
    actor_id: str
    actor_name: str
    action: str
    subject: str
    details: dict[str, Any]
    at: datetime

    @classmethod
    def by(
        cls,
        actor: Actor,
        action: str,
        subject: str,
        *,
        tenant_id: str | None,
        at: datetime,
        details: dict[str, Any] | None = None,
    ) -> Event:
        """What this actor did."""
        return cls(tenant_id, actor.id, actor.name, action, subject, details or {}, at)


@dataclass(frozen=True)
class Entry:
    """One event in its place.

    Attributes:
        seq: Place in the log, from 1, without gaps.
        leaf_hash: SHA-256 over 0x00 and the RFC 8785 form of all fields above, hex.
        chain_hash: SHA-256 over 0x01, the previous chain hash and the leaf hash, hex.
    """

    seq: int
    tenant_id: str | None
    actor_id: str
    actor_name: str
    action: str
    subject: str
    details: dict[str, Any]
    at: datetime
    leaf_hash: str
    chain_hash: str


@dataclass(frozen=True)
class Checkpoint:
    """A signed statement of what the log was at one size.

    Attributes:
        size: Entries in the log.
        root: RFC 6962 tree head over their leaf hashes, hex.
        note: The signed note (C2SP signed-note), to be kept outside as well.
    """

    size: int
    root: str
    note: str
    at: datetime


@dataclass(frozen=True)
class Verified:
    """The log holds, from the first entry to the last.

    Attributes:
        size: Entries.
        root: Tree head over all of them, hex.
        head: Chain hash of the last one, hex.
        checkpoints: How many signed checkpoints were compared, those from outside included.
    """

    size: int
    root: str
    head: str
    checkpoints: int = field(default=0)
