"""Keeping, showing and erasing the texts of requests and answers."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.audit.retention.store import RetainedRow, RetentionChoiceRow, RetentionKeyRow
from services.audit.retention.vault import Vault, seal, unseal
from services.db import Clock, Database, new_id, utcnow
from services.errors import InvalidInput, NotFound
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

MOST_DAYS = 3650
MOST_BYTES = 4 * 1024 * 1024
"""Request and answer together; larger ones are not kept."""
MOST_AT_ONCE = 200
_ERASER = Actor.system("retention")
_IN_ORDER = select(RetentionChoiceRow.tenant_id, RetentionChoiceRow.days).order_by(
    RetentionChoiceRow.at, RetentionChoiceRow.id
)


@dataclass(frozen=True)
class Choice:
    """What a tenant chose.

    Attributes:
        days: How long texts are kept; 0 for not at all.
        since: When it chose so; None where it never did.
    """

    days: int
    since: datetime | None


@dataclass(frozen=True)
class Kept:
    """That texts of a request are kept; not the texts."""

    request_id: str
    size: int
    kept_at: datetime
    erase_at: datetime


@dataclass(frozen=True)
class Texts:
    """What was asked and answered, byte for byte."""

    request_id: str
    request: bytes = field(repr=False)
    response: bytes = field(repr=False)
    kept_at: datetime


class Retention:
    """The kept texts of one installation.

    Args:
        db: Where they are kept, encrypted.
        vault: Holds the master key, which is not in the database.
        clock: Gives the present time.
    """

    def __init__(self, db: Database, vault: Vault, *, clock: Clock = utcnow) -> None:
        self._db = db
        self._vault = vault
        self._clock = clock
        self._keys: dict[str, bytes] = {}

    def choice(self, actor: Actor, tenant_id: str) -> Choice:
        """What the tenant chose.

        Raises:
            NotPermitted: The actor may not read the tenant's settings.
        """
        scoped = scope(actor, tenant_id, Permission.READ_TENANT)
        with self._db.read() as session:
            row = _choice(session, scoped)
        return Choice(0, None) if row is None else Choice(row.days, row.at)

    def choose(self, actor: Actor, tenant_id: str, *, days: int) -> Choice:
        """Opt in, change the deadline, or opt out with 0 days.

        A shorter deadline holds for what is kept already; opting out erases it all.

        Raises:
            NotPermitted: The actor may not change the tenant's settings.
            InvalidInput: The days are out of range.
        """
        scoped = scope(actor, tenant_id, Permission.MANAGE_TENANT)
        if not 0 <= days <= MOST_DAYS:
            raise InvalidInput(f"days: expected 0 to {MOST_DAYS}, found {days}")
        now = self._clock()
        with self._db.write() as session:
            before = _choice(session, scoped)
            session.add(
                RetentionChoiceRow(
                    id=new_id(), tenant_id=scoped, days=days, actor_id=actor.id, at=now
                )
            )
            record(
                session, actor, "retention.chosen", f"tenant:{scoped}", tenant_id=scoped,
                details={"days": days, "before": 0 if before is None else before.days}, at=now,
            )  # fmt: skip
            self._erase(session, scoped, days, now)
        return Choice(days, now)

    def live(self) -> Mapping[str, int]:
        """Days by id of each tenant that keeps texts; for the gateway."""
        with self._db.read() as session:
            return {tenant_id: days for tenant_id, days in _choices(session).items() if days}

    def keep(
        self, session: Session, tenant_id: str, request_id: str, request: bytes, response: bytes,
        *, days: int, at: datetime,
    ) -> bool:  # fmt: skip
        """Keep the texts of one request, in the transaction that records it.

        Args:
            days: As the tenant chose; see `live`.

        Returns:
            Whether they are kept; texts beyond `MOST_BYTES` are not.
        """
        size = len(request) + len(response)
        if days < 1 or size > MOST_BYTES:
            return False
        key_id, key = self._key(session, tenant_id)
        session.add(
            RetainedRow(
                request_id=request_id,
                tenant_id=tenant_id,
                key_id=key_id,
                box=seal(key, _packed(request_id, request, response)),
                size=size,
                kept_at=at,
                erase_at=at + timedelta(days=days),
            )
        )
        return True

    def kept(self, actor: Actor, tenant_id: str, *, limit: int = MOST_AT_ONCE) -> list[Kept]:
        """Which requests' texts are kept, newest first; not the texts.

        Raises:
            NotPermitted: The actor may not read the tenant's audit log.
        """
        scoped = scope(actor, tenant_id, Permission.READ_AUDIT)
        chosen = (
            select(RetainedRow.request_id, RetainedRow.size, RetainedRow.kept_at, RetainedRow.erase_at)
            .where(RetainedRow.tenant_id == scoped, RetainedRow.erase_at > self._clock())
            .order_by(RetainedRow.kept_at.desc(), RetainedRow.request_id.desc())
            .limit(limit)
        )  # fmt: skip
        with self._db.read() as session:
            return [Kept(*row) for row in session.execute(chosen)]

    def read(self, actor: Actor, tenant_id: str, request_id: str) -> Texts:
        """The texts of one request; reading them leaves an entry in the log.

        Raises:
            NotPermitted: The actor may not read kept texts there.
            NotFound: None are kept of such a request, or their deadline is over.
        """
        scoped = scope(actor, tenant_id, Permission.READ_CONTENT)
        with self._db.write() as session:
            row = session.get(RetainedRow, request_id)
            if row is None or row.tenant_id != scoped or row.erase_at <= self._clock():
                raise NotFound(f"request {request_id[:80]!r}: expected kept texts, found none")
            record(
                session, actor, "retention.read", f"request:{request_id}", tenant_id=scoped,
                at=self._clock(),
            )  # fmt: skip
            return self._texts(session, row)

    def sample(self, actor: Actor, tenant_id: str, *, limit: int = MOST_AT_ONCE) -> list[Texts]:
        """The newest kept texts, for instance as prompts of new pairs; one entry in the log.

        Raises:
            NotPermitted: The actor may not read kept texts there.
            InvalidInput: The limit is out of range.
        """
        scoped = scope(actor, tenant_id, Permission.READ_CONTENT)
        if not 1 <= limit <= 10 * MOST_AT_ONCE:
            raise InvalidInput(f"limit: expected 1 to {10 * MOST_AT_ONCE}, found {limit}")
        chosen = (
            select(RetainedRow)
            .where(RetainedRow.tenant_id == scoped, RetainedRow.erase_at > self._clock())
            .order_by(RetainedRow.kept_at.desc(), RetainedRow.request_id.desc())
            .limit(limit)
        )
        with self._db.write() as session:
            rows = session.scalars(chosen).all()
            record(
                session, actor, "retention.sampled", f"tenant:{scoped}", tenant_id=scoped,
                details={"count": len(rows)}, at=self._clock(),
            )  # fmt: skip
            return [self._texts(session, row) for row in rows]

    def erase_due(self) -> int:
        """Erase what is past its deadline; each tenant's share leaves one entry in the log.

        Returns:
            How many requests' texts were erased.
        """
        now = self._clock()
        with self._db.read() as session:
            choices = _choices(session)
            due = select(RetainedRow.tenant_id).where(RetainedRow.erase_at <= now).distinct()
            tenants = set(session.scalars(due))
            held = set(session.scalars(select(RetainedRow.tenant_id).distinct()))
            orphaned = {tenant for tenant in held if not choices.get(tenant)}
        erased = 0
        for tenant_id in sorted(tenants | orphaned):
            with self._db.write() as session:
                days = _choice(session, tenant_id)
                erased += self._erase(session, tenant_id, 0 if days is None else days.days, now)
        return erased

    def _erase(self, session: Session, tenant_id: str, days: int, now: datetime) -> int:
        """Erase what is too old for these days, and the key once nothing is left."""
        chosen = RetainedRow.tenant_id == tenant_id
        if days:
            oldest = now - timedelta(days=days)
            chosen &= (RetainedRow.erase_at <= now) | (RetainedRow.kept_at <= oldest)
        count = session.scalar(select(func.count()).where(chosen)) or 0
        if count:
            session.execute(delete(RetainedRow).where(chosen))
            record(
                session, _ERASER, "retention.erased", f"tenant:{tenant_id}", tenant_id=tenant_id,
                details={"count": count}, at=now,
            )  # fmt: skip
        if not days:
            session.execute(delete(RetentionKeyRow).where(RetentionKeyRow.tenant_id == tenant_id))
        return count

    def _key(self, session: Session, tenant_id: str) -> tuple[str, bytes]:
        chosen = select(RetentionKeyRow).where(RetentionKeyRow.tenant_id == tenant_id).limit(1)
        row = session.scalar(chosen)
        if row is None:
            key, wrapped = self._vault.fresh()
            row = RetentionKeyRow(
                id=new_id(), tenant_id=tenant_id, wrapped=wrapped, made_at=self._clock()
            )
            session.add(row)
            session.flush()
            return row.id, key
        if row.id not in self._keys:
            self._keys = {**self._keys, row.id: self._vault.unwrap(row.wrapped)}
        return row.id, self._keys[row.id]

    def _texts(self, session: Session, row: RetainedRow) -> Texts:
        key = session.get(RetentionKeyRow, row.key_id)
        if key is None:
            raise NotFound(f"request {row.request_id}: expected the key of its texts, found none")
        packed = unseal(self._vault.unwrap(key.wrapped), row.box)
        request, response = _unpacked(row.request_id, packed)
        return Texts(row.request_id, request, response, row.kept_at)


def _choice(session: Session, tenant_id: str) -> RetentionChoiceRow | None:
    latest = (
        select(RetentionChoiceRow)
        .where(RetentionChoiceRow.tenant_id == tenant_id)
        .order_by(RetentionChoiceRow.at.desc(), RetentionChoiceRow.id.desc())
        .limit(1)
    )
    return session.scalar(latest)


def _choices(session: Session) -> dict[str, int]:
    """Days by tenant, of the latest choice of each."""
    return {tenant: days for tenant, days in session.execute(_IN_ORDER)}


def _packed(request_id: str, request: bytes, response: bytes) -> bytes:
    """Both texts with the id they belong to, so that no box can pass for another's."""
    name = request_id.encode()
    return struct.pack(">II", len(name), len(request)) + name + request + response


def _unpacked(request_id: str, packed: bytes) -> tuple[bytes, bytes]:
    names, requests = struct.unpack_from(">II", packed)
    name, rest = packed[8 : 8 + names], packed[8 + names :]
    if name.decode() != request_id:
        raise NotFound(f"request {request_id}: expected its own texts, found another's")
    return rest[:requests], rest[requests:]
