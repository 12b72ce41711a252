"""Following a job until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from console.cli.output import say
from console.exit_status import CHECK_FAILED, DONE

if TYPE_CHECKING:
    from services.jobs.models import Job

POLL_S = 0.5


def follow(look: Callable[[], Job], *, quiet: bool) -> Job:
    """Wait until the job has ended; says what it does whenever that changes.

    Args:
        look: Reads the job anew.
        quiet: Say nothing.
    """
    told = ""
    while True:
        job = look()
        line = f"{job.status.value:<10} {job.progress:>4.0%}  {job.message}"
        if line != told and not quiet:
            say(line)
            told = line
        if job.status.is_final:
            return job
        time.sleep(POLL_S)


def status_of(job: Job) -> int:
    """Exit status of a command that waited for the job."""
    from services.jobs.models import JobStatus

    return DONE if job.status is JobStatus.SUCCEEDED else CHECK_FAILED
