"""What a tenant's month still allows work that spends money by itself: no request, no gateway.

Runs of AI feedback and the judge of evaluations ask here before each call. A month's sum is read
at most every few seconds; between two readings the work's own spending is counted along.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from services.errors import BudgetExceeded
from services.metering.models import MonthLeft
from services.metering.service import Metering

READ_AGAIN_S = 2.0


class Allowance:
    """The money of one tenant's month, as one piece of work sees it.

    Args:
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        metering: Metering,
        tenant_id: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metering, self._tenant_id = metering, tenant_id
        self._monotonic = monotonic
        self._read: tuple[float, MonthLeft | None] | None = None
        self._paid = 0

    def left_micro(self, session: Session) -> int | None:
        """Micro-USD of the month that are not spent; None where the tenant has no budget."""
        month = self._month(session)
        return None if month is None else month.left_micro - self._paid

    def paid(self, micro: int) -> None:
        """Count along what this work has spent."""
        self._paid += micro

    def refuse_beyond(
        self, session: Session, needs_micro: int, what: str, *, held_micro: int = 0
    ) -> None:
        """Do nothing where an amount fits into the month, or the tenant has no budget.

        Args:
            what: What needs the amount, for the sentence.
            held_micro: Promised to calls on their way, and not spent yet.

        Raises:
            BudgetExceeded: It does not fit.
        """
        month = self._month(session)
        if month is not None and needs_micro > month.left_micro - self._paid - held_micro:
            left = max(0, month.left_micro - self._paid - held_micro)
            raise BudgetExceeded(
                f"tenant {self._tenant_id}: {what} may cost {needs_micro / 1e6:.6f} USD, "
                f"{left / 1e6:.6f} USD of the {month.limit_micro / 1e6:g} USD for {month.month} "
                "are left; raise the month's budget, or go on next month",
                retry_after_s=month.ends_in_s,
            )

    def _month(self, session: Session) -> MonthLeft | None:
        now = self._monotonic()
        if self._read is None or now - self._read[0] >= READ_AGAIN_S:
            self._read, self._paid = (now, self._metering.month_left(session, self._tenant_id)), 0
        return self._read[1]
