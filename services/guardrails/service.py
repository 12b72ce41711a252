"""The tenants' policies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from sqlalchemy import Select, func, select

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.db.locks import serialise
from services.errors import Conflict, NotFound
from services.guardrails.models import PolicyVersion
from services.guardrails.policy import default_policy, read_policy
from services.guardrails.store import GuardrailPolicyRow
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Guardrails:
    """Policies of all tenants; a change is a new version."""

    def __init__(self, db: Database, *, clock: Clock = utcnow) -> None:
        self._db, self._clock = db, clock

    def save(
        self, actor: Actor, tenant_id: str, source: str, *, expected_version: int | None = None
    ) -> PolicyVersion:
        """Make a policy the tenant's; gateways follow within a second.

        Args:
            source: YAML; see `policy.read_policy`.
            expected_version: The version that the writer saw, if it matters.

        Raises:
            NotPermitted: The actor may not change this tenant.
            InvalidInput: It is no policy; nothing was saved.
            Conflict: Somebody else has saved a version since.
        """
        tenant_id = scope(actor, tenant_id, Permission.MANAGE_TENANT)
        policy = read_policy(source)
        with self._db.write() as session:
            serialise(session, f"policy|{tenant_id}")
            newest = select(func.max(GuardrailPolicyRow.version))
            before = session.scalar(newest.where(GuardrailPolicyRow.tenant_id == tenant_id)) or 0
            if expected_version is not None and expected_version != before:
                raise Conflict(
                    f"policy of tenant {tenant_id}: expected version {expected_version} to be the "
                    f"newest, found {before}; nothing was saved"
                ).because("policy_changed", expected=expected_version, found=before)
            row = GuardrailPolicyRow(
                id=new_id(), tenant_id=tenant_id, version=before + 1, source=source,
                digest=policy.digest, actor_id=actor.id, created_at=self._clock(),
            )  # fmt: skip
            session.add(row)
            record(
                session, actor, "policy.changed", f"tenant:{tenant_id}", tenant_id=tenant_id,
                details={"version": row.version, "digest": row.digest}, at=row.created_at,
            )  # fmt: skip
            return _version(row)

    def current(self, actor: Actor, tenant_id: str) -> PolicyVersion:
        """The policy that holds; the built-in default where the tenant has none."""
        found = self.versions(actor, tenant_id)
        return found[0] if found else default_version(tenant_id)

    def versions(self, actor: Actor, tenant_id: str) -> list[PolicyVersion]:
        """The tenant's own policies, newest first."""
        tenant_id = scope(actor, tenant_id, Permission.READ_TENANT)
        wanted = select(GuardrailPolicyRow).where(GuardrailPolicyRow.tenant_id == tenant_id)
        with self._db.read() as session:
            newest = wanted.order_by(GuardrailPolicyRow.version.desc())
            return [_version(row) for row in session.scalars(newest)]

    def version(self, actor: Actor, tenant_id: str, number: int) -> PolicyVersion:
        """One version; 0 is the built-in default.

        Raises:
            NotFound: The tenant has no such version.
        """
        if number == 0:
            return default_version(scope(actor, tenant_id, Permission.READ_TENANT))
        for found in self.versions(actor, tenant_id):
            if found.version == number:
                return found
        raise NotFound(f"tenant {tenant_id} has no policy version {number}")

    def live(self) -> Mapping[str, tuple[int, str]]:
        """Version and source of the policy that holds, by tenant id; for the gateway."""
        with self._db.read() as session:
            found = session.execute(_newest())
            return {tenant_id: (version, source) for tenant_id, version, source in found}


@cache  # Asked for twice a second by each gateway; building it took longer than answering it.
def _newest() -> Select[str, int, str]:
    versions = select(
        GuardrailPolicyRow.tenant_id, func.max(GuardrailPolicyRow.version).label("version")
    )
    newest = versions.group_by(GuardrailPolicyRow.tenant_id).subquery()
    return select(
        GuardrailPolicyRow.tenant_id, GuardrailPolicyRow.version, GuardrailPolicyRow.source
    ).join(
        newest,
        (GuardrailPolicyRow.tenant_id == newest.c.tenant_id)
        & (GuardrailPolicyRow.version == newest.c.version),
    )


def default_version(tenant_id: str) -> PolicyVersion:
    """The built-in default as a tenant's version 0."""
    policy = default_policy()
    return PolicyVersion(tenant_id, 0, policy.source, policy.digest, "system", _BEGINNING)


def _version(row: GuardrailPolicyRow) -> PolicyVersion:
    return PolicyVersion(
        row.tenant_id, row.version, row.source, row.digest, row.actor_id, row.created_at
    )
