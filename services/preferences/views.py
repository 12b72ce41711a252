"""What people look at again and again, under a name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import InvalidInput, NotFound, NotPermitted
from services.preferences.filters import Filters, refuse
from services.preferences.queries import serialise
from services.preferences.store import ViewRow
from services.preferences.text import defect
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

MAX_NAME = 80
MAX_VIEWS = 100
"""Views of one person in one tenant."""


@dataclass(frozen=True)
class View:
    """Filters under a name.

    Attributes:
        owner_id: Who saved it, and alone can change or remove it.
        is_shared: Everybody who may read the tenant's pairs sees it.
    """

    id: str
    owner_id: str
    name: str
    filters: Filters
    is_shared: bool
    created_at: datetime


class Views:
    """Saved views of all tenants; each change is a new row."""

    def __init__(self, db: Database, *, clock: Clock = utcnow) -> None:
        self._db, self._clock = db, clock

    def list(self, actor: Actor, tenant_id: str) -> list[View]:
        """One's own views and those that others share, by name."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            found = _current(session, tenant_id)
        seen = [view for view in found if view.is_shared or view.owner_id == actor.id]
        return sorted(seen, key=lambda view: (view.name.casefold(), view.id))

    def save(
        self,
        actor: Actor,
        tenant_id: str,
        name: str,
        filters: Filters,
        *,
        is_shared: bool = False,
    ) -> View:
        """Keep filters under a name; one's own view of the same name is replaced.

        Raises:
            InvalidInput: The name is empty or too long, the filters cannot be asked, or there
                are too many views.
        """
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        name = name.strip()
        _refuse_name(name)
        refuse(filters)
        with self._db.write() as session:
            serialise(session, f"pair views|{tenant_id}")
            mine = [one for one in _current(session, tenant_id) if one.owner_id == actor.id]
            before = next((one for one in mine if one.name == name), None)
            if before is None and len(mine) >= MAX_VIEWS:
                raise InvalidInput(
                    f"views: expected at most {MAX_VIEWS} a person, found more"
                ).because("too_many_views", most=MAX_VIEWS)
            view = View(
                before.id if before else new_id(),
                actor.id, name, filters, is_shared, self._clock(),
            )  # fmt: skip
            _append(session, actor, tenant_id, view, "pairs.view_saved")
        return view

    def remove(self, actor: Actor, tenant_id: str, view_id: str) -> None:
        """Forget one of one's own views.

        Raises:
            NotFound: The tenant has no such view, or it is another person's and not shared.
            NotPermitted: Somebody else shares it.
        """
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.write() as session:
            serialise(session, f"pair views|{tenant_id}")
            found = next((one for one in _current(session, tenant_id) if one.id == view_id), None)
            if found is None or not (found.is_shared or found.owner_id == actor.id):
                raise NotFound(f"tenant {tenant_id} has no view {view_id!r}")
            if found.owner_id != actor.id:
                raise NotPermitted(f"view {view_id}: only who saved it may remove it").because(
                    "not_your_view"
                )
            _append(session, actor, tenant_id, found, "pairs.view_removed", is_removed=True)


def _refuse_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME:
        raise InvalidInput(f"name: expected 1 to {MAX_NAME} characters, found {len(name)}").because(
            "length", field="view_name", low=1, high=MAX_NAME, found=len(name)
        )
    if found := defect(name):
        raise InvalidInput(f"name: expected text that can be stored, found {found}").because(
            "not_storable", field="view_name"
        )


def _append(
    session: Session,
    actor: Actor,
    tenant_id: str,
    view: View,
    action: str,
    *,
    is_removed: bool = False,
) -> None:
    newest = session.scalar(select(func.max(ViewRow.version)).where(ViewRow.view_id == view.id))
    session.add(
        ViewRow(
            id=new_id(),
            tenant_id=tenant_id,
            view_id=view.id,
            version=(newest or 0) + 1,
            owner_id=view.owner_id,
            name=view.name,
            filters=view.filters.as_json(),
            is_shared=view.is_shared,
            is_removed=is_removed,
            created_at=view.created_at,
        )
    )
    details = {"version": (newest or 0) + 1, "is_shared": view.is_shared}
    record(session, actor, action, f"view:{view.id}", tenant_id=tenant_id, details=details)


def _current(session: Session, tenant_id: str) -> list[View]:
    newest = (
        select(ViewRow.view_id, func.max(ViewRow.version).label("version"))
        .where(ViewRow.tenant_id == tenant_id)
        .group_by(ViewRow.view_id)
        .subquery()
    )
    same = and_(ViewRow.view_id == newest.c.view_id, ViewRow.version == newest.c.version)
    rows = session.scalars(select(ViewRow).join(newest, same).where(ViewRow.is_removed.is_(False)))
    return [
        View(
            row.view_id, row.owner_id, row.name, Filters.from_json(row.filters), row.is_shared,
            row.created_at,
        )
        for row in rows
    ]  # fmt: skip
