"""The tenants and people of a first start."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from services.errors import Conflict
from services.tenants.models import EVERY_TENANT, Actor, Limits, Role
from services.tenants.service import Tenants

DEMO_TENANTS: tuple[tuple[str, str, Limits], ...] = (
    ("ailydian-hq", "Ailydian HQ", Limits(tps=10, rpm=300, daily_tokens=10_000_000)),
    ("medical-ai", "Medical AI", Limits(tps=5, rpm=150, daily_tokens=5_000_000)),
    ("legal-ai", "Legal AI", Limits(tps=3, rpm=100, daily_tokens=3_000_000)),
)
_ALL = tuple(tenant_id for tenant_id, _name, _limits in DEMO_TENANTS)
DEMO_USERS: tuple[tuple[str, str, tuple[str, ...], Role], ...] = (
    ("annotator", "Demo annotator", _ALL, Role.ANNOTATOR),
    ("engineer", "Demo engineer", _ALL, Role.ENGINEER),
    ("manager", "Demo manager", _ALL, Role.MANAGER),
    ("admin", "Demo administrator", (EVERY_TENANT,), Role.ADMIN),
    ("legal.annotator", "Legal annotator", ("legal-ai",), Role.ANNOTATOR),
    ("medical.engineer", "Medical engineer", ("medical-ai",), Role.ENGINEER),
)


@dataclass(frozen=True)
class Credential:
    """One fresh account, at the only moment at which its password is known.

    Attributes:
        tenants: Ids of its tenants; `*` for every tenant.
    """

    username: str
    password: str = field(repr=False)
    role: Role
    tenants: tuple[str, ...]


def create_demo(tenants: Tenants) -> list[Credential]:
    """Make the three demo tenants and six demo users, as far as they are not there.

    Returns:
        One credential for each user that was made by this call; none when all were there. The
        passwords are kept nowhere else.
    """
    actor = Actor.system("setup")
    for tenant_id, name, limits in DEMO_TENANTS:
        # Found there already, maybe just made by another process that starts for the first time.
        with suppress(Conflict):
            tenants.create(actor, name, limits=limits, tenant_id=tenant_id)
    taken = {user.username for user in tenants.list_users(actor)}
    made: list[Credential] = []
    for username, display_name, tenant_ids, role in DEMO_USERS:
        if username in taken:
            continue
        grants = {tenant_id: frozenset({role}) for tenant_id in tenant_ids}
        with suppress(Conflict):
            _user, password = tenants.create_user(
                actor, username, display_name=display_name, grants=grants
            )
            made.append(Credential(username, password, role, tenant_ids))
    return made
