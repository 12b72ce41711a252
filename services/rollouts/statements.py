"""Signed steps: each step of a rollout as an in-toto statement that names the one before it.

The digest of a statement stands in the audit event of its step, so the Merkle log holds it; the
chain of digests makes a step that was left out noticed. Numbers are decimal strings.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from services.audit.merkle import timestamp
from services.rollouts.models import Rollout

PREDICATE_TYPE = "https://param-console.dev/rollout-event/v1"

Sign = Callable[[Mapping[str, str], Mapping[str, Any]], dict[str, Any]]
"""Signs subjects (digests by name) and a predicate with the key for events; a DSSE envelope."""


@dataclass(frozen=True)
class Signed:
    """A signed step.

    Attributes:
        sha256: Of the signed payload, hex; what the next statement and the audit event name.
    """

    sha256: str
    envelope: dict[str, Any]


def predicate(
    rollout: Rollout,
    *,
    policy_digest: str | None,
    verdict: Mapping[str, Any] | None,
    previous: str | None,
) -> dict[str, Any]:
    """The latest step of a rollout.

    Args:
        verdict: Facts of the look that led to it; None where a person decided.
        previous: Digest of the statement of the step before it; None for the first.
    """
    step = rollout.steps[-1]
    plan = rollout.plan
    return {
        "rolloutId": rollout.id,
        "tenant": rollout.tenant_id,
        "alias": rollout.alias,
        "stable": rollout.stable,
        "seq": str(step.seq),
        "state": step.state.value,
        "percent": str(step.percent),
        "reason": step.reason,
        "actor": step.actor_id,
        "at": timestamp(step.at),
        "backend": None if plan is None else plan.backend,
        "target": {} if plan is None else dict(plan.target),
        "policy": None if policy_digest is None else {"sha256": policy_digest},
        "verdict": None if verdict is None else dict(verdict),
        "previous": None if previous is None else {"sha256": previous},
    }


def sign(rollout: Rollout, digest: str, found: Mapping[str, Any], signer: Sign) -> Signed:
    """Sign a step.

    Args:
        digest: sha256 of the candidate's weights, hex.
    """
    envelope = signer({rollout.candidate: digest}, found)
    return Signed(sha256(base64.b64decode(envelope["payload"])).hexdigest(), envelope)
