"""Hints from outside that a job may have something to do: worth a look, never believed.

Who may hint is proven by a secret of its own for each subject, made from the installation's: who
reads one (a web hook's headers are seen by everybody on a Label Studio server) can hint at that
subject and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.db import Database
from services.jobs.models import Job, JobStatus
from services.jobs.service import Jobs
from services.jobs.store import JobRow, as_job
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

LABEL_STUDIO = "label-studio.sync"
"""Kind of the job that synchronises one project; its payload is `{"project": ID}`."""

RECENT = 200


def secret_of(installation_secret: str, subject: str) -> str:
    """The secret that hints at one subject bear, 64 hex characters."""
    message = f"param.hint.v1|{subject}".encode()
    return hmac.new(installation_secret.encode(), message, hashlib.sha256).hexdigest()


def label_studio_subject(tenant_id: str, project_id: str) -> str:
    """What hints at a Label Studio project are about; also the end of their address."""
    return f"label-studio/{tenant_id}/{project_id}"


def is_genuine(installation_secret: str, subject: str, found: str) -> bool:
    """Whether a hint bears the subject's secret; compared in constant time.

    Without a secret of the installation no hint is genuine.
    """
    expected = secret_of(installation_secret, subject).encode()
    return bool(installation_secret) and hmac.compare_digest(
        expected, found.encode("utf-8", "replace")
    )


def enqueue_once(
    db: Database, jobs: Jobs, actor: Actor, tenant_id: str, kind: str, payload: dict[str, str]
) -> Job:
    """Queue a job unless an equal one waits already: that one will see whatever there is to see.

    Raises:
        NotPermitted: The actor may not ask for it in this tenant.
    """
    scope(actor, tenant_id, Permission.EDIT_PAIRS)
    with db.write() as session:
        waiting = select(JobRow).where(
            JobRow.tenant_id == tenant_id,
            JobRow.kind == kind,
            JobRow.status == JobStatus.QUEUED.value,
        )
        for row in session.scalars(waiting):
            if row.payload == payload:
                return as_job(row)
        return jobs.enqueue_in_session(
            session, actor, tenant_id, kind, dict(payload), permission=Permission.EDIT_PAIRS
        )


def latest(session: Session, tenant_id: str, kind: str, name: str, value: str) -> Job | None:
    """The newest job of a kind whose payload says this under this name.

    Looks at the tenant's last `RECENT` jobs of the kind: an older one tells nothing any more.
    """
    wanted = select(JobRow).where(JobRow.tenant_id == tenant_id, JobRow.kind == kind)
    newest = wanted.order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(RECENT)
    return next(
        (as_job(row) for row in session.scalars(newest) if row.payload.get(name) == value), None
    )
