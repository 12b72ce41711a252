"""What is known of the other side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from labeling.models import Verdict
from services.jobs.models import Job

FormLanguage = Literal["en", "tr"]


class TaskState(StrEnum):
    """Where a task stands.

    planned ──▶ sent ──▶ closing ──▶ closed
       ╰───────────────────────────────▲

    A planned task may be over there already: nobody knows until the server is asked. A closed
    one still exists there, marked as labeled, so that no vote on it is lost.
    """

    PLANNED = "planned"
    SENT = "sent"
    CLOSING = "closing"
    CLOSED = "closed"


class Outcome(StrEnum):
    """What became of one annotation as it stood at one time."""

    VOTED = "voted"
    SKIPPED = "skipped"
    """Its author skipped the task there: no vote."""
    WAITING = "waiting"
    """Nobody has said who its author is."""
    LATE = "late"
    """A vote that cannot count any more: the pair is decided, or its answers have changed."""
    REFUSED = "refused"
    """It is not what our form can say."""


@dataclass(frozen=True)
class Selection:
    """Which pairs are handed over: unreviewed, nobody's card, assigned to nobody.

    Attributes:
        limit: At most so many, by priority, then by arrival.
        source: Only of this import source; None for all; likewise language.
        pair_ids: Only these; None for all.
    """

    limit: int = 100
    source: str | None = None
    language: str | None = None
    pair_ids: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Project:
    """One project over there, which belongs to one tenant here.

    Attributes:
        server: Address of the server; a project stays with the server it was made on.
        remote_id: Number of the project there; None until it is known to exist.
        is_blind: Annotators are not shown what the AI prefers.
        language: Of the form.
        hook_id: Number of our webhook there; None where there is none.
        hook_note: Why there is none, in words; empty otherwise.
        synced_at: When both sides were last found to agree; None for never.
    """

    id: str
    tenant_id: str
    server: str
    title: str
    is_blind: bool
    language: FormLanguage
    remote_id: int | None
    hook_id: int | None
    hook_note: str
    synced_at: datetime | None
    created_at: datetime

    @property
    def assignee(self) -> str:
        """What pairs of this project bear as their assignee: the desk does not serve them."""
        return f"label-studio:{self.id}"

    @property
    def url(self) -> str | None:
        """Address of its list of tasks; None until it exists."""
        return None if self.remote_id is None else f"{self.server}/projects/{self.remote_id}/data"


@dataclass(frozen=True)
class Person:
    """Somebody who annotates over there.

    Attributes:
        remote_id: Number of the account there.
        label: The account's e-mail address or name there: what it says of itself, no proof.
        annotator_id: Who that is here; None while nobody has said.
    """

    server: str
    remote_id: int
    label: str
    annotator_id: str | None


@dataclass(frozen=True)
class Problem:
    """An annotation that is no vote.

    Attributes:
        reason: Why, in one sentence; empty for `waiting`.
    """

    pair_id: str
    task_id: int | None
    annotation_id: int
    remote_user: int
    outcome: Outcome
    reason: str
    seen_at: datetime


@dataclass(frozen=True)
class ProjectState:
    """How far one project is.

    Attributes:
        tasks: Tasks by state.
        annotations: Annotations by outcome, as each stands at present.
        gone: Votes whose annotation was deleted over there; the votes stand.
        job: The latest synchronisation; None where there was none.
    """

    project: Project
    tasks: Mapping[TaskState, int]
    annotations: Mapping[Outcome, int]
    gone: int
    problems: tuple[Problem, ...]
    job: Job | None


@dataclass(frozen=True)
class Answer:
    """What an annotation says, checked, in our words.

    Attributes:
        verdict: From the response that was shown as A (-3) to the one shown as B (3).
        ratings: By side (`a`, `b`), by criterion.
        edits: Changed texts by side; what was left as it was prefilled is absent.
        active_ms: None where the time over there may contain pauses.
    """

    verdict: Verdict
    ratings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    note: str = ""
    edits: Mapping[str, str] = field(default_factory=dict)
    active_ms: int | None = None
