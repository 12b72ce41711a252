"""A rollout, its steps, and what the gateway needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class RolloutState(StrEnum):
    """Where a rollout stands; always that of its latest step.

    planned -> preloading -> stepping -> promoted
                             stepping <-> paused, drilling
    every state -> rolled_back
    """

    PLANNED = "planned"
    PRELOADING = "preloading"
    STEPPING = "stepping"
    PAUSED = "paused"
    DRILLING = "drilling"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"

    @property
    def is_open(self) -> bool:
        """Whether the rollout has not ended."""
        return self not in {RolloutState.PROMOTED, RolloutState.ROLLED_BACK}


class Arm(StrEnum):
    """Which side of a split answered.

    `PINNED` when the client named an adapter itself, `FALLBACK` when the engine failed and a
    second one answered with a model of its own: neither tells anything about a split.
    """

    STABLE = "stable"
    CANARY = "canary"
    PINNED = "pinned"
    FALLBACK = "fallback"


@dataclass(frozen=True)
class Step:
    """One change of a rollout; never altered afterwards.

    Attributes:
        seq: Position in its rollout, from 1.
        percent: Share of the candidate from then on, 0 to 100.
        reason: What the person gave as the reason; empty where none was needed.
    """

    seq: int
    state: RolloutState
    percent: int
    reason: str
    actor_id: str
    actor_name: str
    at: datetime


@dataclass(frozen=True)
class Planned:
    """How a rollout drives itself; fixed at its start.

    Attributes:
        policy_source: YAML; see `services.rollouts.policy`.
        backend: What splits the traffic; see `services.rollouts.backends`.
        target: Where, in the backend's words; empty for the gateway.
    """

    policy_source: str
    backend: str = "gateway"
    target: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rollout:
    """One candidate's way to an alias.

    Attributes:
        stable: What the alias meant when the rollout began; None for the base model.
        candidate: The adapter that is tried.
        salt: Random, public; makes the split of this rollout independent of all others.
        steps: All steps, oldest first, at least one.
        plan: How it drives itself; None where a person moves it.
    """

    id: str
    tenant_id: str
    alias: str
    stable: str | None
    candidate: str
    salt: str
    started_at: datetime
    steps: tuple[Step, ...]
    plan: Planned | None = None

    @property
    def state(self) -> RolloutState:
        """The state of the latest step."""
        return self.steps[-1].state

    @property
    def percent(self) -> int:
        """The candidate's present share, 0 to 100."""
        return self.steps[-1].percent

    @property
    def is_open(self) -> bool:
        """Whether it still splits traffic."""
        return self.state.is_open

    @property
    def ended_at(self) -> datetime | None:
        """When it was promoted or rolled back; None while it is open."""
        closing = [step.at for step in self.steps if not step.state.is_open]
        return closing[0] if closing else None


@dataclass(frozen=True)
class Route:
    """What the gateway needs to choose an arm for one alias.

    Attributes:
        stable: What the alias means; None for the base model.
        candidate: The adapter of the open rollout; None where there is none.
        percent: The candidate's share, 0 to 100.
        salt: Of the open rollout; empty where there is none.
        is_split_outside: A cluster splits behind the engine's address: it is asked for the alias,
            and which adapter answers is not known here.
    """

    tenant_id: str
    alias: str
    stable: str | None
    candidate: str | None = None
    percent: int = 0
    salt: str = ""
    rollout_id: str | None = None
    is_split_outside: bool = False


@dataclass(frozen=True)
class ArmTraffic:
    """What one arm has answered since the rollout began.

    Attributes:
        errors: Requests that ended without an answer.
        partial: Answers that were cut off, mostly by clients that went away.
        mean_latency_ms: Over all requests of the arm; None without requests.
        cost_micro: Micro-units of the price table's currency.
    """

    arm: Arm
    requests: int
    errors: int
    partial: int
    prompt_tokens: int
    completion_tokens: int
    cost_micro: int
    mean_latency_ms: int | None


@dataclass(frozen=True)
class Traffic:
    """Asked and observed split of one rollout.

    Attributes:
        asked_percent: The present share, 0 to 100.
        observed_percent: The candidate's part of all requests since the start; None without any.
        low_percent: Lower end of the 95 % Wilson interval of the observed share.
        high_percent: Upper end of it.
        elsewhere: Requests that a second engine answered since the start, for an arm that failed.
    """

    rollout_id: str
    asked_percent: int
    stable: ArmTraffic
    canary: ArmTraffic
    observed_percent: float | None
    low_percent: float | None
    high_percent: float | None
    elsewhere: int = 0
