"""Tables of tenants, people, sessions, keys and aliases, and the statements on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Literal, cast

from sqlalchemy import BigInteger, ForeignKey, Index, Select, delete, func, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base
from services.tenants.models import (
    EVERY_TENANT,
    AliasTarget,
    ApiKey,
    KeyLimits,
    Limits,
    Role,
    Tenant,
    User,
)


class TenantRow(Base):
    """One organisation and what it may use."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    tps: Mapped[int]
    rpm: Mapped[int]
    daily_tokens: Mapped[int] = mapped_column(BigInteger)
    timezone: Mapped[str]
    created_at: Mapped[datetime]
    concurrent: Mapped[int | None]
    monthly_micro: Mapped[int | None] = mapped_column(BigInteger)

    def tenant(self) -> Tenant:
        """This row as the domain knows it."""
        limits = Limits(self.tps, self.rpm, self.daily_tokens, self.concurrent, self.monthly_micro)
        return Tenant(self.id, self.name, limits, self.timezone, self.created_at)


class UserRow(Base):
    """One person; `username` is case-folded NFC, `password_hash` an argon2id string."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str]
    password_hash: Mapped[str]
    language: Mapped[str]
    disabled: Mapped[bool]
    created_at: Mapped[datetime]

    def user(self, grants: Mapping[str, frozenset[Role]]) -> User:
        """This row as the domain knows it, with grants read elsewhere."""
        return User(
            id=self.id,
            username=self.username,
            display_name=self.display_name,
            grants=grants,
            language=cast(Literal["en", "tr"], self.language),
            disabled=self.disabled,
            created_at=self.created_at,
        )


class GrantRow(Base):
    """One role of one person in one tenant; `*` stands for every tenant, so no foreign key."""

    __tablename__ = "grants"

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)

    __table_args__ = (Index(None, "tenant_id"),)


class SessionRow(Base):
    """One sign-in; the token itself is only in the browser."""

    __tablename__ = "sessions"

    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class SignInAttemptRow(Base):
    """One attempt that was not (yet) right.

    The username is kept hashed: people type passwords into the wrong field.
    """

    __tablename__ = "sign_in_attempts"

    id: Mapped[str] = mapped_column(primary_key=True)
    username_sha256: Mapped[str]
    at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = (Index(None, "username_sha256", "at"),)


class ApiKeyRow(Base):
    """One API key, by its hash."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    key_sha256: Mapped[str] = mapped_column(unique=True)
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    tps: Mapped[int | None]
    rpm: Mapped[int | None]
    daily_tokens: Mapped[int | None] = mapped_column(BigInteger)
    concurrent: Mapped[int | None]

    def info(self) -> ApiKey:
        """This row as the domain knows it."""
        return ApiKey(
            self.id, self.tenant_id, self.name, self.prefix, self.created_at, self.revoked_at,
            KeyLimits(self.tps, self.rpm, self.daily_tokens, self.concurrent),
        )  # fmt: skip


class AliasRow(Base):
    """What an alias meant from one time on; the row with the highest `seq` is valid."""

    __tablename__ = "alias_targets"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    alias: Mapped[str]
    adapter: Mapped[str | None]
    since: Mapped[datetime]
    set_by: Mapped[str]

    __table_args__ = (Index(None, "tenant_id", "alias", "seq"),)

    def target(self) -> AliasTarget:
        """This row as the domain knows it."""
        return AliasTarget(self.tenant_id, self.alias, self.adapter, self.since)


def find_tenant(session: Session, tenant_id: str) -> Tenant | None:
    """The tenant of that id, unscoped: for other domains that already hold a scoped id."""
    row = session.get(TenantRow, tenant_id)
    return None if row is None else row.tenant()


def tenants_of(session: Session, tenant_ids: frozenset[str] | None) -> list[Tenant]:
    """The tenants of those ids, or all for None, by name."""
    statement = select(TenantRow).order_by(TenantRow.name, TenantRow.id)
    if tenant_ids is not None:
        statement = statement.where(TenantRow.id.in_(tenant_ids))
    return [row.tenant() for row in session.scalars(statement)]


def missing_tenants(session: Session, tenant_ids: Iterable[str]) -> list[str]:
    """Those of the ids that name no tenant, sorted; `*` is always there."""
    asked = set(tenant_ids) - {EVERY_TENANT}
    return sorted(asked - set(session.scalars(select(TenantRow.id).where(TenantRow.id.in_(asked)))))


def grants_of(session: Session, user_ids: Iterable[str]) -> dict[str, dict[str, frozenset[Role]]]:
    """Grants by user id; a user without any has an empty mapping."""
    ids = list(user_ids)
    found: dict[str, dict[str, frozenset[Role]]] = {user_id: {} for user_id in ids}
    statement = select(GrantRow.user_id, GrantRow.tenant_id, GrantRow.role)
    for user_id, tenant_id, role in session.execute(statement.where(GrantRow.user_id.in_(ids))):
        held = found[user_id].get(tenant_id, frozenset())
        found[user_id][tenant_id] = held | {Role(role)}
    return found


def replace_grants(session: Session, user_id: str, grants: Mapping[str, frozenset[Role]]) -> None:
    """Put these grants in the place of all that the user holds."""
    session.execute(delete(GrantRow).where(GrantRow.user_id == user_id))
    session.add_all(
        GrantRow(user_id=user_id, tenant_id=tenant_id, role=role.value)
        for tenant_id, roles in grants.items()
        for role in roles
    )


def users_in(session: Session, tenant_ids: frozenset[str]) -> list[User]:
    """Users with a grant in one of the tenants (all users for `{"*"}`), by username."""
    statement = select(UserRow).order_by(UserRow.username)
    if EVERY_TENANT not in tenant_ids:
        inside = select(GrantRow.user_id).where(GrantRow.tenant_id.in_(tenant_ids))
        statement = statement.where(UserRow.id.in_(inside))
    rows = session.scalars(statement).all()
    grants = grants_of(session, [row.id for row in rows])
    return [row.user(grants[row.id]) for row in rows]


def user_by_token(session: Session, token_sha256: str, now: datetime) -> User | None:
    """The enabled user of an unexpired session, with the grants of this moment; one query."""
    statement = (
        select(UserRow, GrantRow.tenant_id, GrantRow.role)
        .join(SessionRow, SessionRow.user_id == UserRow.id)
        .outerjoin(GrantRow, GrantRow.user_id == UserRow.id)
        .where(SessionRow.token_sha256 == token_sha256)
        .where(SessionRow.expires_at > now, UserRow.disabled.is_(False))
    )
    rows = session.execute(statement).all()
    if not rows:
        return None
    grants: defaultdict[str, frozenset[Role]] = defaultdict(frozenset)
    for _user, tenant_id, role in rows:
        if tenant_id is not None:
            grants[tenant_id] |= {Role(role)}
    return rows[0][0].user(dict(grants))


def every_tenant_admins(session: Session) -> list[str]:
    """Ids of the enabled administrators of every tenant, locked until the transaction ends."""
    statement = (
        select(UserRow.id)
        .join(GrantRow, GrantRow.user_id == UserRow.id)
        .where(GrantRow.tenant_id == EVERY_TENANT, GrantRow.role == Role.ADMIN.value)
        .where(UserRow.disabled.is_(False))
        .order_by(UserRow.id)
        .with_for_update()
    )
    return list(session.scalars(statement))


def keys_of(session: Session, tenant_id: str) -> list[ApiKey]:
    """All keys of a tenant, newest first."""
    mine = select(ApiKeyRow).where(ApiKeyRow.tenant_id == tenant_id)
    return [row.info() for row in session.scalars(mine.order_by(ApiKeyRow.id.desc()))]


def key_with_tenant(session: Session, key_sha256: str) -> tuple[ApiKey, Tenant] | None:
    """The live key of that hash and its tenant; one query."""
    statement = _live_keys().where(ApiKeyRow.key_sha256 == key_sha256)
    row = session.execute(statement).one_or_none()
    return None if row is None else (row[0].info(), row[1].tenant())


def live_keys(session: Session) -> dict[str, tuple[ApiKey, Tenant]]:
    """Every live key by its hash; one query."""
    rows = session.execute(_live_keys())
    return {key.key_sha256: (key.info(), tenant.tenant()) for key, tenant in rows}


def limited_keys(session: Session) -> dict[str, KeyLimits]:
    """The live keys that have a limit of their own, by id; one query."""
    return {key_id: KeyLimits(*limits) for key_id, *limits in session.execute(_limited_keys())}


def current_aliases(session: Session, tenant_id: str | None = None) -> list[AliasTarget]:
    """What each alias means now, in one tenant or in all, ordered by tenant and alias."""
    mine = select(func.max(AliasRow.seq)).where(AliasRow.tenant_id == tenant_id)
    statement = _all_aliases() if tenant_id is None else _aliases(mine)
    return [row.target() for row in session.scalars(statement)]


# What gateways ask for twice a second is built once: building takes longer than answering.


@cache
def _limited_keys() -> Select[str, int | None, int | None, int | None, int | None]:
    row = ApiKeyRow
    limits = (row.tps, row.rpm, row.daily_tokens, row.concurrent)
    is_limited = or_(*(limit.is_not(None) for limit in limits))
    return select(row.id, *limits).where(row.revoked_at.is_(None), is_limited)


@cache
def _all_aliases() -> Select[AliasRow]:
    return _aliases(select(func.max(AliasRow.seq)))


def _aliases(sequences: Select[int]) -> Select[AliasRow]:
    newest = sequences.group_by(AliasRow.tenant_id, AliasRow.alias)
    ordered = select(AliasRow).order_by(AliasRow.tenant_id, AliasRow.alias)
    return ordered.where(AliasRow.seq.in_(newest))


@cache
def _live_keys() -> Select[ApiKeyRow, TenantRow]:
    return (
        select(ApiKeyRow, TenantRow)
        .join(TenantRow, TenantRow.id == ApiKeyRow.tenant_id)
        .where(ApiKeyRow.revoked_at.is_(None))
    )
