"""What an export is told of the annotators' agreement: services measure none themselves."""

from __future__ import annotations

from labeling.agreement import Agreements
from services.preferences.gates.models import Agreement
from services.tenants.models import Actor

DIGITS = 4


def measured(agreements: Agreements, actor: Actor, tenant_id: str) -> Agreement:
    """Alpha between people over all pairs of a tenant, by their votes before any reveal."""
    found = agreements.report(actor, tenant_id).overall.people
    return Agreement(_rounded(found.value), _rounded(found.low), _rounded(found.high), found.n)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
