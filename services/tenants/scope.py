"""The one place where tenants are kept apart."""

from __future__ import annotations

from services.errors import NotPermitted
from services.tenants.models import EVERY_TENANT, Actor, Permission


def scope(actor: Actor, tenant_id: str, permission: Permission) -> str:
    """Admit an actor to one tenant's data, or refuse.

    Every service method that touches tenant data calls this first and uses the returned id in
    its query.

    Returns:
        The tenant id, for the query.

    Raises:
        NotPermitted: No role of the actor grants the permission there. The message is the same
            for a tenant that does not exist, so nothing can be learned by asking.
    """
    if not actor.may(permission, tenant_id):
        raise NotPermitted(
            f"{actor.name} may not {permission.value} in tenant {tenant_id!r}"
        ).because("no_role_for_this")
    return tenant_id


def tenants_where(actor: Actor, permission: Permission) -> frozenset[str]:
    """The tenant ids in which the actor holds the permission; `{"*"}` for every tenant."""
    if actor.may(permission, EVERY_TENANT):
        return frozenset({EVERY_TENANT})
    return frozenset(tenant for tenant in actor.grants if actor.may(permission, tenant))


def member(actor: Actor, tenant_id: str) -> str:
    """Admit an actor who holds any role in the tenant, for what every role may see.

    Returns:
        The tenant id, for the query.

    Raises:
        NotPermitted: The actor holds no role there, or there is no such tenant.
    """
    if not actor.roles_in(tenant_id):
        raise NotPermitted(f"{actor.name} has no role in tenant {tenant_id!r}").because(
            "no_role_here"
        )
    return tenant_id
