"""Operating the gateway: the domain's one public class."""

from __future__ import annotations

from fnmatch import fnmatchcase

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.db.locks import serialise
from services.errors import InvalidInput, NotFound
from services.metering.service import Metering
from services.operations import store
from services.operations.client import GatewayAdmin
from services.operations.models import FallbackSwitch, GatewayState, TenantView, fallback_served
from services.operations.store import FallbackSwitchRow
from services.operations.token import admin_token
from services.settings import Settings
from services.tenants.models import EVERY_TENANT, Actor, Permission
from services.tenants.scope import scope
from services.tenants.store import find_tenant

LONGEST_REASON = 500


class Operations:
    """The gateway of this installation, and the tenants' decisions about a second engine.

    Args:
        metering: Knows whether the second engine's model has a price of its own.
    """

    def __init__(
        self, db: Database, metering: Metering, settings: Settings, *, clock: Clock = utcnow
    ) -> None:
        self._db, self._metering, self._settings, self._clock = db, metering, settings, clock
        self._gateway = GatewayAdmin(settings.gateway_url, lambda: admin_token(settings))

    @property
    def fallback_model(self) -> str:
        """The model of the second engine; empty where none is configured."""
        return self._settings.fallback_model

    def state(self, actor: Actor, tenant_id: str) -> GatewayState:
        """The gateway as it is now; nothing of it belongs to any tenant.

        Args:
            tenant_id: Where the actor holds the role that lets them look.

        Raises:
            NotPermitted: The actor operates nothing there.
            Unavailable: The gateway does not answer.
        """
        scope(actor, tenant_id, Permission.OPERATE)
        return self._gateway.state()

    def view(self, actor: Actor, tenant_id: str) -> TenantView | None:
        """A tenant as the gateway sees it now; None where it knows no key of it.

        Raises:
            NotPermitted: The actor operates nothing there.
            Unavailable: The gateway does not answer.
        """
        scoped = scope(actor, tenant_id, Permission.OPERATE)
        try:
            return self._gateway.tenant(scoped)
        except NotFound:
            return None

    def drain(self, actor: Actor, on: bool, *, reason: str) -> None:
        """Let the gateway take no more chat requests, or take them again.

        Raises:
            NotPermitted: The actor does not manage every tenant.
            InvalidInput: No reason, or a very long one.
            Unavailable: The gateway does not answer; nothing was recorded.
        """
        scope(actor, EVERY_TENANT, Permission.MANAGE_TENANT)
        why = _checked_reason(reason)
        with self._db.write() as session:
            action = "gateway.drained" if on else "gateway.opened"
            record(
                session, actor, action, "gateway:local", tenant_id=None,
                details={"reason": why}, at=self._clock(),
            )  # fmt: skip
            self._gateway.drain(on)

    def retry(self, actor: Actor, upstream: str) -> None:
        """Let the next request try an engine that is left alone.

        Raises:
            NotPermitted: The actor does not manage every tenant.
            InvalidInput: There is no such engine.
            Unavailable: The gateway does not answer; nothing was recorded.
        """
        scope(actor, EVERY_TENANT, Permission.MANAGE_TENANT)
        if upstream not in {"engine", "fallback"}:
            raise InvalidInput(f"expected engine or fallback, found {upstream[:80]!r}")
        with self._db.write() as session:
            record(
                session, actor, "gateway.retried", f"upstream:{upstream}", tenant_id=None,
                details={}, at=self._clock(),
            )  # fmt: skip
            self._gateway.retry(upstream)

    def set_fallback(
        self, actor: Actor, tenant_id: str, *, allowed: bool, reason: str
    ) -> FallbackSwitch:
        """Decide whether a second engine may answer a tenant; gateways follow within a second.

        Its prompts then leave this installation whenever the own engine fails.

        Raises:
            NotPermitted: The actor does not manage the tenant.
            InvalidInput: No reason; or it is to be allowed, and no second engine is configured
                or its model has no price of its own.
            NotFound: There is no such tenant.
        """
        scoped = scope(actor, tenant_id, Permission.MANAGE_TENANT)
        why = _checked_reason(reason)
        if allowed:
            self._require_priced_fallback()
        with self._db.write() as session:
            serialise(session, f"fallback|{scoped}")
            if find_tenant(session, scoped) is None:
                raise NotFound(f"tenant {scoped!r}: expected an existing tenant, found none")
            row = FallbackSwitchRow(
                id=new_id(), tenant_id=scoped, seq=_last(session, scoped) + 1, allowed=allowed,
                reason=why, actor_id=actor.id, actor_name=actor.name, at=self._clock(),
            )  # fmt: skip
            session.add(row)
            record(
                session, actor, "tenant.fallback_allowed" if allowed else "tenant.fallback_denied",
                f"tenant:{scoped}", tenant_id=scoped,
                details={"seq": row.seq, "model": self.fallback_model, "reason": why}, at=row.at,
            )  # fmt: skip
            return row.switch()

    def fallback(self, actor: Actor, tenant_id: str, limit: int = 20) -> list[FallbackSwitch]:
        """A tenant's decisions about a second engine, newest first; without any it is not allowed.

        Raises:
            NotPermitted: The actor may not read the tenant's settings.
        """
        scoped = scope(actor, tenant_id, Permission.READ_TENANT)
        with self._db.read() as session:
            return store.switches_of(session, scoped, limit)

    def allows_fallback(self, tenant_id: str) -> bool:
        """Whether a second engine may answer a tenant; for the gateway, which knows who asks."""
        with self._db.read() as session:
            found = store.switches_of(session, tenant_id, 1)
        return bool(found) and found[0].allowed

    def _require_priced_fallback(self) -> None:
        if not self.fallback_model:
            raise InvalidInput(
                "expected a second engine in PARAM_FALLBACK_URL and PARAM_FALLBACK_MODEL, "
                "found none"
            ).because("no_second_engine")
        served = fallback_served(self.fallback_model)
        patterns = self._metering.price_tables()[0].prices
        if not any(fnmatchcase(served, pattern) for pattern in patterns if pattern.strip("*")):
            raise InvalidInput(
                f"expected a price of its own for {served!r} (or fallback/*) in the price table, "
                "found only the one for everything; it would be billed like the own model"
            ).because("no_own_price", name=served)


def _last(session: Session, tenant_id: str) -> int:
    newest = select(func.max(FallbackSwitchRow.seq))
    return session.scalar(newest.where(FallbackSwitchRow.tenant_id == tenant_id)) or 0


def _checked_reason(reason: str) -> str:
    why = reason.strip()
    if not 1 <= len(why) <= LONGEST_REASON:
        raise InvalidInput(
            f"reason: expected 1 to {LONGEST_REASON} characters, found {len(why)}"
        ).because("length", field="reason", low=1, high=LONGEST_REASON, found=len(why))
    return why
