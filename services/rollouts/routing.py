"""What every alias is served by, for the gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.db import Database
from services.rollouts import store
from services.rollouts.backends import GATEWAY
from services.rollouts.models import Rollout, Route

if TYPE_CHECKING:
    from services.tenants.service import Tenants


def routes(db: Database, tenants: Tenants) -> dict[tuple[str, str], Route]:
    """The routes of the installation, by tenant and alias; see `Rollouts.routes`."""
    with db.read() as session:
        opened = store.all_open(session)
        outside = store.split_outside(session, GATEWAY)
    found = {
        (tenant_id, alias): Route(tenant_id, alias, adapter)
        for (tenant_id, alias), adapter in tenants.alias_table().items()
    }
    for rollout in opened:
        key = (rollout.tenant_id, rollout.alias)
        stable = found[key].stable if key in found else rollout.stable
        found[key] = _route(rollout, stable)
    for key in outside & found.keys():
        found[key] = replace(found[key], is_split_outside=True)
    return found


def _route(rollout: Rollout, stable: str | None) -> Route:
    if rollout.plan is not None and rollout.plan.backend != GATEWAY:
        # It is split behind the engine's address; here the alias stays one.
        return Route(rollout.tenant_id, rollout.alias, stable)
    return Route(
        tenant_id=rollout.tenant_id,
        alias=rollout.alias,
        stable=stable,
        candidate=rollout.candidate,
        percent=rollout.percent,
        salt=rollout.salt,
        rollout_id=rollout.id,
    )
