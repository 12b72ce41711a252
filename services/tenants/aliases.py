"""What an alias means: which adapter answers under a stable name."""

from __future__ import annotations

from sqlalchemy.orm import Session

from services.audit import record
from services.db import Clock, Database
from services.errors import InvalidInput, NotFound
from services.tenants import store
from services.tenants.models import Actor, AliasTarget, Permission
from services.tenants.names import checked_alias, checked_label
from services.tenants.scope import member, scope
from services.tenants.store import AliasRow


class Aliases:
    """The aliases of tenants; each change is a new row, so what was served when stays known."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def set_alias(
        self, actor: Actor, tenant_id: str, alias: str, adapter: str | None
    ) -> AliasTarget:
        """Let an alias mean an adapter, or the bare base model for None, from now on.

        Raises:
            NotPermitted: The actor may not change what the tenant's users are served.
            NotFound: There is no such tenant.
            InvalidInput: The alias or adapter cannot be a name.
        """
        with self._db.write() as session:
            return self.alias_in_session(session, actor, tenant_id, alias, adapter)

    def alias_in_session(
        self, session: Session, actor: Actor, tenant_id: str, alias: str, adapter: str | None
    ) -> AliasTarget:
        """The same as `set_alias`, inside a transaction of the caller's."""
        scoped = scope(actor, tenant_id, Permission.ROLL_OUT)
        if store.find_tenant(session, scoped) is None:
            raise NotFound(f"tenant {scoped!r}: expected an existing tenant, found none")
        target = AliasTarget(
            tenant_id=scoped,
            alias=checked_alias(alias),
            adapter=None if adapter is None else checked_label("adapter name", adapter),
            since=self._clock(),
        )
        point(session, actor, target)
        return target

    def aliases(self, actor: Actor, tenant_id: str) -> list[AliasTarget]:
        """What each alias of the tenant means now, by name; any role may ask.

        Raises:
            NotPermitted: The actor holds no role in the tenant.
        """
        scoped = member(actor, tenant_id)
        with self._db.read() as session:
            return store.current_aliases(session, scoped)

    def alias_table(self) -> dict[tuple[str, str], str | None]:
        """The whole installation: (tenant id, alias) to adapter name, for the gateway."""
        with self._db.read() as session:
            targets = store.current_aliases(session)
        return {(target.tenant_id, target.alias): target.adapter for target in targets}


def point(session: Session, actor: Actor, target: AliasTarget) -> None:
    """Append what an alias means, with its event; the caller has checked who asks."""
    if target.adapter == "":
        raise InvalidInput("adapter name: expected a name or nothing, found empty text")
    session.add(
        AliasRow(
            tenant_id=target.tenant_id,
            alias=target.alias,
            adapter=target.adapter,
            since=target.since,
            set_by=actor.id,
        )
    )
    record(
        session, actor, "alias.set", f"alias:{target.tenant_id}/{target.alias}",
        tenant_id=target.tenant_id, details={"adapter": target.adapter}, at=target.since,
    )  # fmt: skip
