"""The local backend: this installation's gateways split by user, from the rollout's own rows.

Nothing has to be changed anywhere else: the gateways read the latest step twice a second. A share
is therefore in effect as soon as every gateway has read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from services.db import Clock, utcnow
from services.rollouts.backends import (
    GATEWAY,
    Applied,
    Capabilities,
    EffectiveSplit,
    Plan,
    Previous,
)
from services.rollouts.models import RolloutState

FOLLOWS_AFTER = timedelta(seconds=1)
"""Gateways renew their routes every half second; one that cannot stops answering."""


class GatewayBackend:
    """Splits by user in the gateway.

    Args:
        loaded: Names of the models that the engine serves; raises `Unavailable` where it does
            not answer.
    """

    name = GATEWAY

    def __init__(self, loaded: Callable[[], frozenset[str]], *, clock: Clock = utcnow) -> None:
        self._loaded = loaded
        self._clock = clock

    def probe(self, target: Mapping[str, str]) -> Capabilities:
        """What the gateway can do; there is nothing that it could not."""
        return Capabilities(self.name, "gateway", is_sticky=True)

    def capture(self, plan: Plan) -> Previous:
        """What the alias means; the rollout's row says it as well."""
        return Previous(self.name, {"alias": plan.rollout.alias, "stable": plan.rollout.stable})

    def effective(self, plan: Plan) -> EffectiveSplit:
        """The share of the latest step, settled once every gateway has read it."""
        age = self._clock() - plan.rollout.steps[-1].at
        is_loading = plan.rollout.state is RolloutState.PRELOADING
        is_ready = not is_loading or plan.rollout.candidate in self._loaded()
        return EffectiveSplit(
            percent=plan.percent,
            is_ready=is_ready,
            is_settled=age >= FOLLOWS_AFTER,
            source="the rollout's latest step",
        )

    def apply(self, plan: Plan) -> Applied:
        """Nothing to do: the step itself is what the gateways read."""
        return Applied(plan.percent, changed=False)

    def restore(self, plan: Plan, previous: Previous) -> None:
        """Nothing to do: the rollback has moved the alias in its own transaction."""
