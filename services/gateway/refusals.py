"""Requests that were refused: counted, and told to the audit log once a minute.

A refusal is answered in microseconds and must not cost a commit. What came to be recorded one by
one (an engine's failure, a policy that blocks) is not counted here again. A gateway that is killed
loses the counts of its last minute; nothing was used or charged by them.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from services.audit import record
from services.db import Clock, Database, utcnow
from services.errors import ConsoleError
from services.gateway.answers import Refused
from services.gateway.limits import OverLimit
from services.tenants.models import Actor

ACTION = "inference.refused"
_SELF = Actor.system("gateway")


def reason(error: ConsoleError) -> str:
    """Why a request was refused, in one of a few words: never free text of an engine or client."""
    if isinstance(error, OverLimit):
        return f"{error.code}.{error.limit}"
    return f"refused_{error.http_status}" if isinstance(error, Refused) else error.code


class Refusals:
    """The counts since they were last written.

    Args:
        db: Where the audit events go.
    """

    def __init__(self, db: Database, *, clock: Clock = utcnow) -> None:
        self._db = db
        self._clock = clock
        self._counts: Counter[tuple[str | None, str]] = Counter()
        self._since = clock()

    def note(self, tenant_id: str | None, error: ConsoleError) -> None:
        """Count one; without a tenant, where no valid key came along."""
        self._counts[tenant_id, reason(error)] += 1

    def take(self) -> tuple[dict[str | None, dict[str, int]], datetime]:
        """The counts by tenant and reason, and since when; counting begins anew."""
        taken, since = self._counts, self._since
        self._counts, self._since = Counter(), self._clock()
        found: dict[str | None, dict[str, int]] = {}
        for (tenant_id, why), count in sorted(taken.items(), key=str):
            found.setdefault(tenant_id, {})[why] = count
        return found, since

    def write(self, found: dict[str | None, dict[str, int]], since: datetime) -> None:
        """Write one audit event for each tenant; counts that cannot be written are kept.

        Raises:
            ConsoleError: The database cannot be written.
        """
        until = self._clock()
        try:
            with self._db.write() as session:
                for tenant_id, counts in found.items():
                    record(
                        session, _SELF, ACTION, f"tenant:{tenant_id}" if tenant_id else "gateway",
                        tenant_id=tenant_id, at=until,
                        details={
                            "since": since.isoformat(timespec="seconds"),
                            "until": until.isoformat(timespec="seconds"),
                            "counts": counts,
                        },
                    )  # fmt: skip
        except BaseException:
            for tenant_id, counts in found.items():
                for why, count in counts.items():
                    self._counts[tenant_id, why] += count
            self._since = min(self._since, since)
            raise
