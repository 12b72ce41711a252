"""Backends: what really splits the traffic of a rollout between two adapters.

Owns the interface that the driver moves rollouts through. A backend is told the share that was
asked for and reads back the share that is in effect; it decides nothing, judges nothing, and
refuses to change a target that is no longer the one it captured.

The order in which the driver calls it, each step of which may be the last before a crash:

    probe      once before anything changes; what it refuses is told to the person in words
    capture    once, before the first change; the driver keeps the answer durably
    apply      as often as the effective share differs from the one asked; must be idempotent
    effective  at every look; a change is done when it is `is_settled` and says the share asked
    restore    at a rollback, again and again until it returns; must be idempotent

Failures of what is outside are `Unavailable` (the driver tries again later) or `Conflict` (the
target is not what it was: a person has to look). Both leave the target as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.rollouts.models import Rollout

GATEWAY = "gateway"
"""Name of the local backend, which every rollout uses that names no other."""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do where it was asked to look.

    Attributes:
        backend: Its name: `gateway`, `kserve-standard`, `kserve-knative`, `llmd`.
        target: What it would change, as people write it, such as `prod/support-llm`.
        is_sticky: Whether a user stays on an arm; where not, each request is dealt anew.
        least_percent: The smallest share above zero that it can give.
        can_promote: Whether the candidate can become the stable one there without being
            deployed again.
        refusals: One sentence for each reason why a change would be refused or do nothing
            there; empty where it would work.
        notes: One sentence for each thing worth knowing that is no reason to refuse.
    """

    backend: str
    target: str
    is_sticky: bool
    least_percent: int = 1
    can_promote: bool = True
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether a rollout can be driven through it."""
        return not self.refusals


@dataclass(frozen=True)
class Previous:
    """All that a rollback needs to put everything back as it was.

    Attributes:
        backend: Which backend captured it.
        state: JSON; the full saved state of the target, not only its share.
    """

    backend: str
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EffectiveSplit:
    """How the target splits traffic at this moment, read back from it.

    Attributes:
        percent: The candidate's share as routed; None where it cannot be known.
        is_ready: Whether the candidate is loaded and answers.
        is_settled: Whether the last change has reached everything that routes.
        source: Where this was read, in words, such as `status.canaryStatuses of prod/support`.
    """

    percent: int | None
    is_ready: bool
    is_settled: bool
    source: str


Evidence = Mapping[str, Any]
"""What one change did, JSON without floats or secrets: the patch that was sent, digests of the
target before and after, warnings."""


def unwitnessed(_evidence: Evidence) -> None:
    """What a plan does with the evidence of a change where nobody keeps it."""


@dataclass(frozen=True)
class Plan:
    """The state that the target shall be in.

    Attributes:
        rollout: Names the tenant, the alias, both adapters and the rollout.
        percent: Share of the candidate, 0 (loaded, not served) to 100.
        promote: Make the candidate the stable one, the canary is over; `percent` is 100 then.
        target: Where, as the rollout's plan says it: for clusters `namespace` and `name`, and
            what else the backend documents (`storage_uri` of the candidate …); strings only.
        witness: Is given the evidence of each change as soon as it is made, so that what was done
            before a failure is known too.
    """

    rollout: Rollout
    percent: int
    promote: bool = False
    target: Mapping[str, str] = field(default_factory=dict)
    witness: Callable[[Evidence], None] = unwitnessed


@dataclass(frozen=True)
class Applied:
    """What a call of `apply` did.

    Attributes:
        asked_percent: The share of the plan.
        changed: Whether anything had to be changed.
        evidence: Of the change; empty where nothing had to be changed.
    """

    asked_percent: int
    changed: bool
    evidence: Evidence = field(default_factory=dict)


class SplitBackend(Protocol):
    """Moves the traffic of one kind of target; holds no state of its own between calls.

    `target` is the mapping of `Plan.target`; constructors connect to nothing.
    """

    @property
    def name(self) -> str:
        """How plans name it; also in `Capabilities.backend` and `Previous.backend`."""
        ...

    def probe(self, target: Mapping[str, str]) -> Capabilities:
        """What is possible there; changes nothing.

        Raises:
            InvalidInput: The target lacks something that this backend needs.
            Unavailable: What is outside does not answer.
        """
        ...

    def capture(self, plan: Plan) -> Previous:
        """Read the full state that a rollback shall restore; changes nothing.

        Raises:
            Unavailable: What is outside does not answer.
        """
        ...

    def effective(self, plan: Plan) -> EffectiveSplit:
        """Read back what is in effect; `plan.percent` is what was last asked for.

        Raises:
            Unavailable: What is outside does not answer.
        """
        ...

    def apply(self, plan: Plan) -> Applied:
        """Bring the target to the plan; once it is there, calling again changes nothing.

        Raises:
            Conflict: The target is not the one that was captured.
            Unavailable: What is outside does not answer or refuses.
        """
        ...

    def restore(self, plan: Plan, previous: Previous) -> None:
        """Put back what was captured, whatever happened since; calling again changes nothing.

        `plan` is the one that the rollback ends: it names the candidate that has to go.

        Raises:
            Conflict: Somebody else has changed the target since, and it shows.
            Unavailable: What is outside does not answer or refuses.
        """
        ...
