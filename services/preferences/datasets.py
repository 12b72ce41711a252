"""Frozen data sets: their folders and their rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.attestation.custody import Custody
from services.audit.outbox import record
from services.db import Clock, Database, new_id
from services.errors import Conflict, NotFound
from services.preferences import queries, snapshots, staging
from services.preferences.choices import Choices
from services.preferences.gates.truncation import TrainingTokenizer
from services.preferences.models import Dataset, Manifest
from services.preferences.snapshots import Progress
from services.preferences.store import DatasetRow
from services.tenants.models import Actor


class Datasets:
    """Writes and lists data sets for callers who have been admitted to the tenant.

    Args:
        root: Folder of all snapshots, a folder a tenant.
        tokenizer: Gives the tokenizer of the model that is trained here, if it is on disk.
        custody: States what is frozen and exported.
    """

    def __init__(
        self,
        db: Database,
        root: Path,
        *,
        tokenizer: Callable[[], TrainingTokenizer | None],
        custody: Custody | None,
        clock: Clock,
    ) -> None:
        self._db, self._root, self._tokenizer, self._clock = db, root, tokenizer, clock
        self._custody = custody

    def snapshot(self, actor: Actor, tenant_id: str, choices: Choices) -> Dataset:
        """See `Preferences.snapshot`."""
        # The name is the digest, which is known only when the files are written.
        with staging.staged(self._root / tenant_id / "next") as stage:
            manifest = self._write(tenant_id, choices, stage.folder)
            if not manifest.n_train:
                raise Conflict(
                    f"tenant {tenant_id}: expected at least one pair to train on, found none; "
                    f"{manifest.n_dropped} pairs are left out, most of them not approved yet"
                ).because("no_pairs_to_freeze", count=manifest.n_dropped)
            folder = self._root / tenant_id / manifest.sha256[:16]
            # A run may be reading the folder: it is replaced only if it is damaged.
            if not staging.is_whole(folder, manifest):
                stage.place(folder)
        with self._db.write() as session:
            queries.serialise(session, f"datasets|{tenant_id}")
            wanted = select(DatasetRow).where(
                DatasetRow.tenant_id == tenant_id, DatasetRow.sha256 == manifest.sha256
            )
            row = session.scalar(wanted) or self._add(session, actor, tenant_id, folder, manifest)
            return _dataset(row)

    def _add(
        self, session: Session, actor: Actor, tenant_id: str, folder: Path, manifest: Manifest
    ) -> DatasetRow:
        row = DatasetRow(
            id=new_id(),
            tenant_id=tenant_id,
            folder=str(folder),
            sha256=manifest.sha256,
            n_train=manifest.n_train,
            n_eval=manifest.n_eval,
            manifest=dict(manifest.content),
            actor_id=actor.id,
            created_at=self._clock(),
        )
        session.add(row)
        stated = self._stated(session, actor, tenant_id, row.id, manifest, row.created_at)
        record(
            session, actor, "dataset.frozen", f"dataset:{row.id}", tenant_id=tenant_id,
            details=_details(manifest) | stated, at=row.created_at,
        )  # fmt: skip
        return row

    def _stated(
        self,
        session: Session,
        actor: Actor,
        tenant_id: str,
        name: str,
        manifest: Manifest,
        at: datetime,
    ) -> dict[str, str]:
        """What an event says of a data set's statement."""
        if self._custody is None:
            return {}
        content = manifest.content
        digest = self._custody.state_in_session(
            session,
            actor,
            tenant_id,
            kind="dataset",
            name=name,
            digest=manifest.sha256,
            facts={
                "format": content["format"],
                "train": str(manifest.n_train),
                "eval": str(manifest.n_eval),
                "dropped": str(manifest.n_dropped),
                "people": content["annotators"],
            },
            materials={f"file {file}": facts["sha256"] for file, facts in content["files"].items()},
            at=at,
        )
        return {"statement": digest}

    def export(
        self,
        actor: Actor,
        tenant_id: str,
        out_dir: Path,
        choices: Choices,
        *,
        progress: Progress = snapshots.silent,
    ) -> Manifest:
        """See `Preferences.export`."""
        with staging.staged(out_dir) as stage:
            manifest = self._write(tenant_id, choices, stage.folder, progress)
            # Recorded before the folder appears: no data leaves without a trace.
            with self._db.write() as session:
                subject, now = f"tenant:{tenant_id}", self._clock()
                name = f"export-{manifest.sha256[:12]}"
                stated = self._stated(session, actor, tenant_id, name, manifest, now)
                record(
                    session, actor, "pairs.exported", subject, tenant_id=tenant_id,
                    details=_details(manifest) | stated, at=now,
                )  # fmt: skip
                stage.place(out_dir.absolute())
        return Manifest(
            folder=out_dir.absolute(),
            sha256=manifest.sha256,
            n_train=manifest.n_train,
            n_eval=manifest.n_eval,
            n_dropped=manifest.n_dropped,
            content=manifest.content,
        )

    def list(self, tenant_id: str) -> list[Dataset]:
        """The tenant's data sets, newest first."""
        wanted = select(DatasetRow).where(DatasetRow.tenant_id == tenant_id)
        with self._db.read() as session:
            newest = wanted.order_by(DatasetRow.created_at.desc(), DatasetRow.id.desc())
            return [_dataset(row) for row in session.scalars(newest)]

    def get(self, tenant_id: str, dataset_id: str) -> Dataset:
        """One data set.

        Raises:
            NotFound: The tenant has no such data set.
        """
        with self._db.read() as session:
            row = session.get(DatasetRow, dataset_id)
            if row is None or row.tenant_id != tenant_id:
                raise NotFound(f"tenant {tenant_id} has no data set {dataset_id!r}")
            return _dataset(row)

    def _write(
        self,
        tenant_id: str,
        choices: Choices,
        folder: Path,
        progress: Progress = snapshots.silent,
    ) -> Manifest:
        tokenizer = self._tokenizer()
        with self._db.read() as session:
            queries.steady(session)
            return snapshots.write(
                session, tenant_id, choices, folder, tokenizer=tokenizer, progress=progress
            )


def _details(manifest: Manifest) -> dict[str, Any]:
    return {
        "sha256": manifest.sha256,
        "train": manifest.n_train,
        "eval": manifest.n_eval,
        "dropped": manifest.n_dropped,
    }


def _dataset(row: DatasetRow) -> Dataset:
    return Dataset(
        id=row.id,
        tenant_id=row.tenant_id,
        folder=Path(row.folder),
        sha256=row.sha256,
        n_train=row.n_train,
        n_eval=row.n_eval,
        manifest=row.manifest,
        created_at=row.created_at,
        created_by=row.actor_id,
    )
