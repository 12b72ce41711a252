"""Tenants and everything that identifies who asks: the domain's one public class."""

from __future__ import annotations

import builtins
from datetime import timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from argon2 import PasswordHasher
from sqlalchemy.exc import IntegrityError

from services.audit import record
from services.db import Clock, Database, utcnow
from services.errors import Conflict, InvalidInput, NotFound
from services.tenants import store
from services.tenants.accounts import Accounts
from services.tenants.aliases import Aliases, point
from services.tenants.api_keys import ApiKeys
from services.tenants.limits import checked_limits, numbers
from services.tenants.models import (
    EVERY_TENANT,
    Actor,
    AliasTarget,
    Limits,
    Permission,
    Tenant,
)
from services.tenants.names import checked_label, checked_tenant_id, slug
from services.tenants.scope import member, scope
from services.tenants.sign_in import SignIn
from services.tenants.store import TenantRow

# RFC 9106, section 4, second recommended option: 64 MiB, 3 passes, 4 lanes.
RFC_9106 = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4)


class Tenants(Accounts, SignIn, ApiKeys, Aliases):
    """Tenants, their people, keys and aliases.

    Args:
        db: Where they are kept.
        clock: Gives the present time.
        session_lifetime: How long a sign-in lasts.
        hasher: Argon2id parameters of passwords; older hashes are renewed at sign-in.
    """

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock = utcnow,
        session_lifetime: timedelta = timedelta(hours=12),
        hasher: PasswordHasher = RFC_9106,
    ) -> None:
        Accounts.__init__(self, db, clock, hasher)
        SignIn.__init__(self, db, clock, hasher, session_lifetime)

    def create(
        self,
        actor: Actor,
        name: str,
        *,
        limits: Limits,
        tenant_id: str | None = None,
        timezone: str = "Europe/Istanbul",
    ) -> Tenant:
        """Make a tenant; its default alias, named like it, means the base model.

        Args:
            tenant_id: Made from the name where None.
            timezone: IANA name; where the tenant's day begins.

        Raises:
            NotPermitted: The actor does not manage every tenant.
            InvalidInput: The name, id, time zone or a limit cannot be used.
            Conflict: The id is taken.
        """
        scope(actor, EVERY_TENANT, Permission.MANAGE_TENANT)
        label = checked_label("tenant name", name)
        limits = checked_limits(limits)
        row = TenantRow(
            id=slug(label) if tenant_id is None else checked_tenant_id(tenant_id),
            name=label,
            timezone=_checked_timezone(timezone),
            created_at=self._clock(),
            **numbers(limits),
        )
        with self._db.write() as session:
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise Conflict(f"tenant id {row.id!r}: expected a free id, found it taken").because(
                    "tenant_id_taken", name=row.id
                ) from error
            record(
                session, actor, "tenant.created", f"tenant:{row.id}",
                tenant_id=row.id, details={"name": label, **numbers(limits)}, at=row.created_at,
            )  # fmt: skip
            point(session, actor, AliasTarget(row.id, row.id, None, row.created_at))
            return row.tenant()

    def list(self, actor: Actor) -> builtins.list[Tenant]:
        """The tenants in which the actor holds any role, by name."""
        with self._db.read() as session:
            everywhere = bool(actor.roles_in(EVERY_TENANT))
            return store.tenants_of(session, None if everywhere else frozenset(actor.grants))

    def get(self, actor: Actor, tenant_id: str) -> Tenant:
        """One tenant; any role in it may ask.

        Raises:
            NotPermitted: The actor holds no role there.
            NotFound: There is no such tenant (only told to those with a role in every tenant).
        """
        scoped = member(actor, tenant_id)
        with self._db.read() as session:
            tenant = store.find_tenant(session, scoped)
        if tenant is None:
            raise NotFound(f"tenant {scoped!r}: expected an existing tenant, found none").because(
                "no_such_tenant"
            )
        return tenant

    def set_limits(self, actor: Actor, tenant_id: str, limits: Limits) -> Tenant:
        """Change how much a tenant may ask for, from the gateway's next look on.

        Raises:
            NotPermitted: The actor does not manage the tenant.
            InvalidInput: A limit is not a whole number from 1 on.
            NotFound: There is no such tenant.
        """
        scoped = scope(actor, tenant_id, Permission.MANAGE_TENANT)
        limits = checked_limits(limits)
        with self._db.write() as session:
            row = session.get(TenantRow, scoped, with_for_update=True)
            if row is None:
                raise NotFound(
                    f"tenant {scoped!r}: expected an existing tenant, found none"
                ).because("no_such_tenant")
            before = numbers(row.tenant().limits)
            for name, number in numbers(limits).items():
                setattr(row, name, number)
            record(
                session, actor, "tenant.limited", f"tenant:{scoped}",
                tenant_id=scoped, details={"before": before, "after": numbers(limits)},
                at=self._clock(),
            )  # fmt: skip
            return row.tenant()


def _checked_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(
            f"time zone: expected an IANA name such as Europe/Istanbul, found {name[:80]!r}"
        ).because("time_zone", found=name[:80]) from error
    return name
