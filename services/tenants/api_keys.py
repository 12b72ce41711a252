"""API keys: shown once, stored as a hash, recognised in one look."""

from __future__ import annotations

import secrets
from hashlib import sha256

from services.audit import record
from services.db import Clock, Database, new_id
from services.errors import NotFound, NotSignedIn
from services.tenants import store
from services.tenants.limits import checked_key_limits, numbers
from services.tenants.models import (
    UNLIMITED,
    Actor,
    ApiKey,
    IssuedKey,
    KeyLimits,
    Permission,
    Role,
    Tenant,
)
from services.tenants.names import checked_label
from services.tenants.scope import scope
from services.tenants.store import ApiKeyRow

KEY_PREFIX = "pk_"
KEY_CHARS = len(KEY_PREFIX) + 43
SHOWN_CHARS = 8


class ApiKeys:
    """The keys of tenants.

    A key is 256 random bits, so plain SHA-256 is enough to store it: a slow hash helps only
    against guessing what people choose, and would cost each request tens of milliseconds.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def create_key(
        self, actor: Actor, tenant_id: str, name: str, *, limits: KeyLimits = UNLIMITED
    ) -> IssuedKey:
        """Issue a key.

        Args:
            limits: What this key may ask for, within what its tenant may.

        Returns:
            The key's text, which is nowhere else to be had.

        Raises:
            NotPermitted: The actor does not manage the tenant.
            NotFound: There is no such tenant.
            InvalidInput: The name or a limit cannot be used.
        """
        scoped = scope(actor, tenant_id, Permission.MANAGE_TENANT)
        own = _set(checked_key_limits(limits))
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        row = ApiKeyRow(
            id=new_id(),
            tenant_id=scoped,
            name=checked_label("key name", name),
            prefix=key[:SHOWN_CHARS],
            key_sha256=key_sha256(key),
            created_by=actor.id,
            created_at=self._clock(),
            revoked_at=None,
            **own,
        )
        with self._db.write() as session:
            if store.find_tenant(session, scoped) is None:
                raise NotFound(
                    f"tenant {scoped!r}: expected an existing tenant, found none"
                ).because("no_such_tenant")
            session.add(row)
            record(
                session, actor, "key.created", f"key:{row.id}",
                tenant_id=scoped, details={"name": row.name, "prefix": row.prefix, **own},
                at=row.created_at,
            )  # fmt: skip
            return IssuedKey(info=row.info(), key=key)

    def revoke_key(self, actor: Actor, tenant_id: str, key_id: str) -> ApiKey:
        """Make a key useless from now on; revoking twice changes nothing.

        Raises:
            NotPermitted: The actor does not manage the tenant.
            NotFound: The tenant has no such key.
        """
        scoped = scope(actor, tenant_id, Permission.MANAGE_TENANT)
        with self._db.write() as session:
            row = session.get(ApiKeyRow, key_id, with_for_update=True)
            if row is None or row.tenant_id != scoped:
                raise NotFound(f"key {key_id!r}: expected a key of {scoped!r}, found none").because(
                    "no_such_key"
                )
            if row.revoked_at is None:
                row.revoked_at = self._clock()
                record(
                    session, actor, "key.revoked", f"key:{row.id}",
                    tenant_id=scoped, details={"name": row.name, "prefix": row.prefix},
                    at=row.revoked_at,
                )  # fmt: skip
            return row.info()

    def set_key_limits(
        self, actor: Actor, tenant_id: str, key_id: str, limits: KeyLimits
    ) -> ApiKey:
        """Change how much one key may ask for, from the gateway's next look on.

        Raises:
            NotPermitted: The actor does not manage the tenant.
            InvalidInput: A limit is neither open nor a whole number from 1 on.
            NotFound: The tenant has no such key.
        """
        scoped = scope(actor, tenant_id, Permission.MANAGE_TENANT)
        wanted = numbers(checked_key_limits(limits))
        with self._db.write() as session:
            row = session.get(ApiKeyRow, key_id, with_for_update=True)
            if row is None or row.tenant_id != scoped:
                raise NotFound(f"key {key_id!r}: expected a key of {scoped!r}, found none").because(
                    "no_such_key"
                )
            before = numbers(row.info().limits)
            for name, number in wanted.items():
                setattr(row, name, number)
            record(
                session, actor, "key.limited", f"key:{row.id}",
                tenant_id=scoped, details={"before": before, "after": wanted}, at=self._clock(),
            )  # fmt: skip
            return row.info()

    def list_keys(self, actor: Actor, tenant_id: str) -> list[ApiKey]:
        """All keys of a tenant, revoked ones too, newest first.

        Raises:
            NotPermitted: The actor may not read the tenant's settings.
        """
        scoped = scope(actor, tenant_id, Permission.READ_TENANT)
        with self._db.read() as session:
            return store.keys_of(session, scoped)

    def authenticate(self, key: str) -> tuple[Actor, Tenant]:
        """Who sends this key, and for which tenant.

        Raises:
            NotSignedIn: The key is malformed, unknown or revoked: one message for all.
        """
        found = None
        if len(key) == KEY_CHARS and key.startswith(KEY_PREFIX):
            with self._db.read() as session:
                found = store.key_with_tenant(session, key_sha256(key))
        if found is None:
            raise NotSignedIn("expected a valid API key, found one that is unknown or revoked")
        return key_actor(found[0]), found[1]

    def live_keys(self) -> dict[str, tuple[Actor, Tenant]]:
        """Every valid key by the hex SHA-256 of its text, for the gateway's cache."""
        with self._db.read() as session:
            found = store.live_keys(session)
        return {digest: (key_actor(key), tenant) for digest, (key, tenant) in found.items()}

    def key_limits(self) -> dict[str, KeyLimits]:
        """The limits of the live keys that have any of their own, by the key's id."""
        with self._db.read() as session:
            return store.limited_keys(session)


def _set(limits: KeyLimits) -> dict[str, int]:
    """The limits that are not open, by name."""
    return {name: number for name, number in numbers(limits).items() if number is not None}


def key_sha256(key: str) -> str:
    """The form in which a key is stored and cached: hex SHA-256 of its text."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def key_actor(key: ApiKey) -> Actor:
    """The key as the one who asks: a customer of its tenant, and nothing else."""
    grants = {key.tenant_id: frozenset({Role.CUSTOMER})}
    return Actor(kind="key", id=f"key:{key.id}", name=key.name, grants=grants)
