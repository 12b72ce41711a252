"""What a check finds, and what is done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Action(StrEnum):
    """What a finding leads to; the order is from the mildest to the strictest."""

    FLAG = "flag"
    APPEND = "append"
    MASK = "mask"
    BLOCK = "block"


class Place(StrEnum):
    """Where a text stands.

    `tools`: what a tool answered, which a stranger may have written.
    """

    INPUT = "input"
    TOOLS = "tools"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text, without the text.

    Attributes:
        start: First character, from 0.
        end: Behind the last character.
    """

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found at one place.

    Attributes:
        check: Name of the check, such as `pii`.
        kind: What it was, such as `email`.
    """

    check: str
    kind: str
    action: Action
    span: Span


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a text.

    Attributes:
        text: As it may go on: masked, or with a notice behind it. Not to be used if blocked.
        findings: In the order of the text.
    """

    text: str
    findings: tuple[Finding, ...] = ()

    @property
    def blocked_by(self) -> Finding | None:
        """The first finding that stops the text."""
        return next((one for one in self.findings if one.action is Action.BLOCK), None)


def tally(findings: tuple[Finding, ...]) -> Mapping[str, int]:
    """How often each check found each kind, as `check.kind.action`; what may be logged."""
    counted = Counter(f"{one.check}.{one.kind}.{one.action.value}" for one in findings)
    return dict(sorted(counted.items()))


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version of a tenant's policy.

    Attributes:
        version: 1 for the first; 0 names the built-in default, which has no row.
        source: The YAML text exactly as it was saved.
        digest: sha256 of the source, 64 hex characters.
    """

    tenant_id: str
    version: int
    source: str
    digest: str
    actor_id: str
    created_at: datetime
