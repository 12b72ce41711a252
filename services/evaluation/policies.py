"""What tenants ask of promotions: read, and set anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, utcnow
from services.errors import Conflict
from services.evaluation import store
from services.evaluation.policy import DEFAULT_POLICY, GatePolicy, policy_from
from services.evaluation.store import PolicyRow
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope


class GatePolicies:
    """The gate policies of all tenants; every change is a new version."""

    def __init__(self, db: Database, *, clock: Clock = utcnow) -> None:
        self._db = db
        self._clock = clock

    def get(self, actor: Actor, tenant_id: str) -> GatePolicy:
        """What the tenant asks of a promotion."""
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self._db.read() as session:
            return policy_of(session, tenant)

    def change(self, actor: Actor, tenant_id: str, values: Mapping[str, Any]) -> GatePolicy:
        """Ask something else of promotions from now on.

        Args:
            values: What changes, by the names of `GatePolicy`.

        Raises:
            NotPermitted: The actor may not change what users are served.
            InvalidInput: An unknown name, or a value out of range.
            Conflict: Somebody else changed it at the same moment.
        """
        tenant = scope(actor, tenant_id, Permission.ROLL_OUT)
        try:
            with self._db.write() as session:
                row = store.policy(session, tenant)
                held = policy_of(session, tenant)
                made = policy_from({**held.as_json(), **values})
                if made != held:
                    self._add(session, actor, tenant, 1 if row is None else row.version + 1, made)
        except IntegrityError as error:
            raise Conflict(
                f"gate policy of {tenant}: expected to be the only one to change it, found "
                "another change at the same moment; look at it and try again"
            ) from error
        return made

    def _add(
        self, session: Session, actor: Actor, tenant: str, version: int, made: GatePolicy
    ) -> None:
        row = PolicyRow(
            tenant_id=tenant,
            version=version,
            body=made.as_json(),
            actor_name=actor.name,
            created_at=self._clock(),
        )
        session.add(row)
        session.flush()
        # Floats have no single canonical form.
        told = {
            name: str(value) if isinstance(value, float) else value
            for name, value in made.as_json().items()
        }
        record(
            session, actor, "evaluation.policy_set", f"tenant:{tenant}", tenant_id=tenant,
            details={"version": version, **told}, at=row.created_at,
        )  # fmt: skip


def policy_of(session: Session, tenant_id: str) -> GatePolicy:
    """The policy that holds in a tenant."""
    row = store.policy(session, tenant_id)
    return DEFAULT_POLICY if row is None else policy_from(row.body)
