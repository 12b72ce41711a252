"""What is checked before a rollout changes; each refusal is one sentence."""

from __future__ import annotations

from services.errors import Conflict, InvalidInput, NotFound
from services.rollouts.models import Rollout, RolloutState
from services.tenants.models import Actor, Permission

MAX_REASON = 2_000
"""Characters of a reason that are kept; a longer one is refused."""


def visible(actor: Actor, rollout_id: str, found: Rollout | None) -> Rollout:
    """The rollout, or the same refusal for one that is missing and one that is another's."""
    if found is None or not actor.may(Permission.READ_MODELS, found.tenant_id):
        raise NotFound(f"there is no rollout {rollout_id!r} in your tenants").because(
            "no_such_rollout"
        )
    return found


def check_open(rollout: Rollout) -> None:
    """Admit only a rollout that has not ended."""
    if not rollout.is_open:
        raise Conflict(
            f"rollout {rollout.id}: expected an open one, found {rollout.state.value}"
        ).because("rollout_ended")


def check_no_drill(rollout: Rollout) -> None:
    """Admit only a rollout that is in no drill."""
    if rollout.state is RolloutState.DRILLING:
        raise Conflict(
            f"rollout {rollout.id}: expected no drill, found one that is running"
        ).because("drill_running")


def check_percent(percent: int) -> None:
    """Admit only a whole share from 0 to 100."""
    if isinstance(percent, bool) or not isinstance(percent, int) or not 0 <= percent <= 100:
        raise InvalidInput(
            f"percent: expected a whole number from 0 to 100, found {percent!r}"
        ).because("range", field="percent", low=0, high=100, found=percent)


def check_reason(reason: str) -> str:
    """The reason without blanks around it, if it is not too long."""
    reason = reason.strip()
    if len(reason) > MAX_REASON:
        raise InvalidInput(
            f"reason: expected at most {MAX_REASON} characters, found {len(reason)}"
        ).because("too_long", field="reason", most=MAX_REASON, found=len(reason))
    return reason
