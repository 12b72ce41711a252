"""Checks of all pairs as jobs: start one, watch it, look at what it found, take the files.

A check writes a whole data set into a folder of its own, so that what the page shows and what is
handed out are the same bytes.
"""

from __future__ import annotations

import builtins
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, NotFound
from services.jobs.models import Job
from services.jobs.service import Jobs
from services.preferences import queries
from services.preferences.choices import Choices, choices_as_json
from services.preferences.gates.store import QualityReportRow
from services.preferences.models import Manifest, Pair
from services.preferences.store import PairRow
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

KIND = "preferences.quality"
KEPT = 3
"""Folders of checks a tenant keeps; a later check replaces the oldest."""
_LONG = ("unreviewed", "demo", "edited")
_WAITING = 50
"""Jobs among which a running check is looked for."""


@dataclass(frozen=True)
class QualityReport:
    """What one check found.

    Attributes:
        content: The manifest, but for the lists of pairs, of which the number is told.
        folder: Where the data set lies; gone once later checks took its place.
        created_by: Name of the person who asked for the check.
    """

    id: str
    tenant_id: str
    job_id: str
    sha256: str
    choices: Mapping[str, Any]
    content: Mapping[str, Any] = field(repr=False)
    folder: Path
    created_at: datetime
    created_by: str

    @property
    def is_kept(self) -> bool:
        """Whether its files are still there."""
        return (self.folder / "manifest.json").is_file()


@dataclass(frozen=True)
class Found:
    """One page of what a gate found.

    Attributes:
        rows: Pairs, as they are now, with the reason that was found then.
        total: How many there are on all pages.
    """

    rows: tuple[tuple[Pair, str], ...]
    total: int


class Quality:
    """The checks of all tenants.

    Args:
        root: Folder of all checks, a folder a tenant.
    """

    def __init__(self, db: Database, jobs: Jobs, root: Path, *, clock: Clock = utcnow) -> None:
        self._db, self._jobs, self._root, self._clock = db, jobs, root, clock

    def start(self, actor: Actor, tenant_id: str, choices: Choices) -> Job:
        """Queue a check.

        Raises:
            NotPermitted: The actor may not export in this tenant.
            Conflict: A check is under way.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        if (running := self.running(actor, tenant_id)) is not None:
            raise Conflict(
                f"tenant {tenant_id}: expected no check under way, found one of {running.created_by}"
            ).because("check_running")
        with self._db.write() as session:
            return self._jobs.enqueue_in_session(
                session, actor, tenant_id, KIND, choices_as_json(choices),
                permission=Permission.EDIT_PAIRS,
            )  # fmt: skip

    def running(self, actor: Actor, tenant_id: str) -> Job | None:
        """The tenant's check that has not ended, if there is one."""
        found = self._jobs.list(actor, tenant_id, KIND, limit=_WAITING)
        return next((job for job in found if not job.status.is_final), None)

    def last_job(self, actor: Actor, tenant_id: str) -> Job | None:
        """The tenant's latest check, ended or not."""
        return next(iter(self._jobs.list(actor, tenant_id, KIND, limit=1)), None)

    def stop(self, actor: Actor, tenant_id: str) -> None:
        """Have the running check end without a result."""
        scope(actor, tenant_id, Permission.EDIT_PAIRS)
        if (job := self.running(actor, tenant_id)) is not None:
            self._jobs.request_stop(actor, job.id)

    def reports(
        self, actor: Actor, tenant_id: str, *, limit: int = 10
    ) -> builtins.list[QualityReport]:
        """The tenant's checks, newest first."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        wanted = (
            select(QualityReportRow)
            .where(QualityReportRow.tenant_id == tenant_id)
            .order_by(QualityReportRow.created_at.desc(), QualityReportRow.id.desc())
        )
        with self._db.read() as session:
            return [self._report(row) for row in session.scalars(wanted.limit(limit))]

    def report(self, actor: Actor, tenant_id: str, report_id: str) -> QualityReport:
        """One check.

        Raises:
            NotFound: The tenant has no such check.
        """
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            row = session.get(QualityReportRow, report_id)
            if row is None or row.tenant_id != tenant_id:
                raise NotFound(f"tenant {tenant_id} has no quality report {report_id!r}")
            return self._report(row)

    def rows(
        self,
        actor: Actor,
        tenant_id: str,
        report_id: str,
        gate: str,
        *,
        limit: int = 25,
        offset: int = 0,
    ) -> Found:
        """One page of the pairs in which a gate found something, in order of arrival.

        Raises:
            NotFound: The tenant has no such check, or its files were replaced by later ones.
        """
        report = self._whole(self.report(actor, tenant_id, report_id))
        # A gate either drops or warns, so its findings are in one of the files.
        found = [
            (row["pair_id"], row["reason"])
            for name in ("dropped", "warned")
            for row in _lines(report.folder / f"{name}.jsonl", gate)
        ]
        chosen = found[offset : offset + limit]
        wanted = [PairRow.tenant_id == report.tenant_id, PairRow.id.in_({one for one, _ in chosen})]
        with self._db.read() as session:
            pairs = {pair.id: pair for pair in queries.find(session, wanted, limit=limit, offset=0)}
        rows = tuple((pairs[pair_id], reason) for pair_id, reason in chosen if pair_id in pairs)
        return Found(rows, len(found))

    def files(self, actor: Actor, tenant_id: str, report_id: str) -> Path:
        """The folder of a check, for somebody who takes its files away.

        Raises:
            NotFound: The tenant has no such check, or its files were replaced by later ones.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        report = self._whole(self.report(actor, tenant_id, report_id))
        with self._db.write() as session:
            record(
                session, actor, "pairs.downloaded", f"quality_report:{report.id}",
                tenant_id=tenant_id, details={"sha256": report.sha256}, at=self._clock(),
            )  # fmt: skip
        return report.folder

    def folder_of(self, tenant_id: str, job_id: str) -> Path:
        """Where the files of a check go."""
        return self._root / tenant_id / job_id

    def is_finished(self, job_id: str) -> bool:
        """Whether a check has left its report."""
        wanted = select(QualityReportRow.id).where(QualityReportRow.job_id == job_id)
        with self._db.read() as session:
            return session.scalar(wanted) is not None

    def finish(self, actor: Actor, job: Job, manifest: Manifest) -> None:
        """Write the report of a check whose files are in place, and forget the oldest files."""
        tenant_id = scope(actor, job.tenant_id, Permission.EDIT_PAIRS)
        short = {name: len(manifest.content[name]) for name in _LONG}
        row = QualityReportRow(
            id=new_id(),
            tenant_id=tenant_id,
            job_id=job.id,
            sha256=manifest.sha256,
            choices=dict(job.payload),
            content={**manifest.content, **short},
            actor_id=actor.id,
            created_by=job.created_by,
            created_at=self._clock(),
        )
        with self._db.write() as session:
            session.add(row)
            record(
                session, actor, "pairs.checked", f"quality_report:{row.id}", tenant_id=tenant_id,
                details={"sha256": manifest.sha256, "job": job.id}, at=row.created_at,
            )  # fmt: skip
        for old in self.reports(actor, tenant_id, limit=_WAITING)[KEPT:]:
            shutil.rmtree(old.folder, ignore_errors=True)

    def _report(self, row: QualityReportRow) -> QualityReport:
        return QualityReport(
            id=row.id,
            tenant_id=row.tenant_id,
            job_id=row.job_id,
            sha256=row.sha256,
            choices=row.choices,
            content=row.content,
            folder=self.folder_of(row.tenant_id, row.job_id),
            created_at=row.created_at,
            created_by=row.created_by,
        )

    def _whole(self, report: QualityReport) -> QualityReport:
        if not report.is_kept:
            raise NotFound(
                f"quality report {report.id}: expected its files, found none; "
                f"only the last {KEPT} checks keep theirs"
            ).because("report_files_gone", count=KEPT)
        return report


def _lines(path: Path, gate: str) -> builtins.list[dict[str, Any]]:
    """The rows of one gate; a plain search first, since most lines are another gate's."""
    wanted = f'"gate":"{gate}"'.encode()
    with path.open("rb") as file:
        return [json.loads(line) for line in file if wanted in line]
