"""Where a job stands: a sign, a word and a colour, and why it does not move."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from console import wiring
from console.i18n import t
from services.jobs.models import ACTIVE, Job, JobStatus
from services.tenants.models import Actor

Colour = Literal["gray", "blue", "orange", "green", "red"]
_LOOKED_AT = 2_000  # jobs, the newest ones: more are not counted as being before one
_LOOKS: dict[JobStatus, tuple[Colour, str]] = {
    JobStatus.QUEUED: ("gray", "hourglass_top"),
    JobStatus.RUNNING: ("blue", "play_circle"),
    JobStatus.STOPPING: ("orange", "pause_circle"),
    JobStatus.STOPPED: ("orange", "stop_circle"),
    JobStatus.SUCCEEDED: ("green", "check_circle"),
    JobStatus.FAILED: ("red", "error"),
}


def label(status: JobStatus) -> str:
    """A status in the reader's language."""
    return t(f"job.status_{status.value}")


def badge(status: JobStatus) -> None:
    """Draw a status by sign, word and colour."""
    colour, icon = _LOOKS[status]
    st.badge(label(status), color=colour, icon=f":material/{icon}:")


def cells() -> dict[JobStatus, tuple[str, Colour]]:
    """Word and colour of every status, for the cells of a list."""
    return {status: (label(status), _LOOKS[status][0]) for status in JobStatus}


def column() -> Any:
    """The column of a table whose cells are `[label(status)]`."""
    return st.column_config.MultiselectColumn(
        t("job.status"),
        options=[label(status) for status in JobStatus],
        color=[_LOOKS[status][0] for status in JobStatus],
        width="small",
    )


def why_waiting(actor: Actor, job: Job) -> str:
    """What a queued job waits for, as far as the reader may know it."""
    ahead = [
        other
        for other in wiring.services().jobs.list(actor, job.tenant_id, limit=_LOOKED_AT)
        if other.queue == job.queue
        and (
            other.status in ACTIVE
            or (other.status is JobStatus.QUEUED and other.created_at < job.created_at)
        )
    ]
    if ahead:
        return t("job.waits_in_line", count=len(ahead))
    return t("job.waits_for_worker")


def trouble(job: Job) -> None:
    """Draw the one sentence of a failed job."""
    if job.status is JobStatus.FAILED:
        st.error(t("job.failed"), icon=":material/error:")
        st.code(job.error or job.message, language=None, wrap_lines=True)
