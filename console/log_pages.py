"""The audit log read backwards, a page at a time."""

from __future__ import annotations

from console import wiring
from services.audit.models import Entry
from services.audit.service import MOST_ENTRIES
from services.tenants.models import Actor


def older(
    actor: Actor, tenant_id: str | None, *, before: int, action: str | None, limit: int
) -> list[Entry]:
    """The newest entries below a number, newest first.

    The log is read in windows that grow, since it only reads forwards and an action, or a
    tenant, may be rare in it.

    Args:
        tenant_id: None for the whole installation.
        before: Only entries with a smaller number.
        action: See `AuditLog.entries`.
        limit: How many are wanted.

    Raises:
        NotPermitted: The actor may not read the audit log there.
    """
    found: list[Entry] = []
    end, width = before, 4 * limit
    while end > 1 and len(found) < limit:
        start = max(0, end - 1 - width)
        window = wiring.services().audit.entries(
            actor, tenant_id, after=start, limit=width, action=action
        )
        found += [entry for entry in reversed(window) if entry.seq < end]
        end, width = start + 1, min(4 * width, MOST_ENTRIES)
    return found[:limit]
