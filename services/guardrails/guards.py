"""A policy's guards for all places, compiled once for as long as the policy holds."""

from __future__ import annotations

from dataclasses import dataclass

from services.guardrails.guard import Guard
from services.guardrails.models import Place, Verdict
from services.guardrails.policy import read_policy


@dataclass(frozen=True)
class Guards:
    """What one version of a policy checks.

    Attributes:
        version: 0 for the built-in default.
        digest: sha256 of the policy's source, 64 hex characters.
        input: For what people write; `tools` for what tools answered.
        output: For what the model answers; `formal` for an answer that must stay JSON and
            therefore gets nothing behind it.
    """

    version: int
    digest: str
    input: Guard
    tools: Guard
    output: Guard
    formal: Guard


def compile_guards(version: int, source: str) -> Guards:
    """Compile a policy; takes some 50 ms, so keep the result.

    Raises:
        InvalidInput: The source is no policy.
    """
    policy = read_policy(source)
    return Guards(
        version,
        policy.digest,
        input=Guard(policy, Place.INPUT),
        tools=Guard(policy, Place.TOOLS),
        output=Guard(policy, Place.OUTPUT),
        formal=Guard(policy, Place.OUTPUT, appends=False),
    )


def try_out(source: str, place: Place, text: str) -> Verdict:
    """What a policy makes of a text; the policy need not be anybody's.

    Raises:
        InvalidInput: The source is no policy.
    """
    return Guard(read_policy(source), place).check(text)
