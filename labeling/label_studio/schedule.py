"""Asks for a synchronisation of every project now and then, whatever hints were lost."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError

from labeling.label_studio.store import ProjectRow, TaskRow
from labeling.label_studio.sync import CARRIER
from services.db import Clock, Database, utcnow
from services.errors import ConsoleError
from services.jobs import hints
from services.jobs.service import Jobs
from services.settings import Settings

POLL_S = 15.0

_log = logging.getLogger("param.label-studio")


def ask_for_due(db: Database, jobs: Jobs, settings: Settings, *, clock: Clock = utcnow) -> int:
    """Queue a synchronisation of each project on this server whose last one is long ago.

    Projects without any task are left alone. Several workers may ask: a job that waits already
    is not queued again.

    Returns:
        How many projects are due.
    """
    if not settings.label_studio_url or not settings.label_studio_every_s:
        return 0
    before = clock() - timedelta(seconds=settings.label_studio_every_s)
    has_tasks = select(TaskRow.id).where(TaskRow.project_id == ProjectRow.id).exists()
    with db.read() as session:
        due = session.execute(
            select(ProjectRow.tenant_id, ProjectRow.id).where(
                ProjectRow.server == settings.label_studio_url,
                or_(ProjectRow.synced_at.is_(None), ProjectRow.synced_at < before),
                or_(ProjectRow.asked_at.is_(None), ProjectRow.asked_at < before),
                has_tasks,
            )
        ).all()
    for tenant_id, project_id in due:
        with db.write() as session:
            session.get_one(ProjectRow, project_id).asked_at = clock()
        hints.enqueue_once(
            db, jobs, CARRIER, tenant_id, hints.LABEL_STUDIO, {"project": project_id}
        )
    return len(due)


def keep_asking(db: Database, jobs: Jobs, settings: Settings, stop: threading.Event) -> None:
    """Ask for what is due until told to stop; a database that is away is waited for."""
    while not stop.wait(POLL_S):
        try:
            ask_for_due(db, jobs, settings)
        except (ConsoleError, SQLAlchemyError) as error:
            _log.warning("Label Studio could not be looked after, trying again: %s", error)
