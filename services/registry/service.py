"""What may be done with adapters: register, look up, prove, choose a champion."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.attestation.custody import Custody
from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, DigestMismatch, NotFound, Unavailable
from services.preferences.labels import file_digests
from services.registry import folders, store
from services.registry.digest import adapter_digest
from services.registry.mirror import MlflowMirror
from services.registry.models import (
    Adapter,
    Admission,
    Champion,
    Lineage,
    valid_alias,
    valid_digest,
    valid_name,
)
from services.registry.store import AdapterRow, ChampionRow, MirrorRow, OriginRow
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Origin:
    """What a registration claims."""

    tenant_id: str
    alias: str
    base_model: str
    base_digest: str
    run_id: str
    dataset_sha256: str
    mlflow_run_id: str | None
    metrics: Mapping[str, float] = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)


class Registry:
    """The adapters of all tenants.

    Args:
        db: Where the rows live.
        adapters_dir: Folder of the adapters, one folder each.
        mlflow_tracking_uri: MLflow's store or server.
        custody: States registrations; without it they are only in the log.
        clock: Gives the present time.
    """

    def __init__(
        self,
        db: Database,
        adapters_dir: Path,
        mlflow_tracking_uri: str,
        *,
        custody: Custody | None = None,
        clock: Clock = utcnow,
    ) -> None:
        self.db = db
        self.adapters_dir = adapters_dir
        self.mlflow = MlflowMirror(mlflow_tracking_uri, adapters_dir.parent / "mlartifacts")
        self._custody = custody
        self._clock = clock

    def register(
        self,
        actor: Actor,
        tenant_id: str,
        *,
        alias: str,
        folder: Path,
        base_model: str,
        base_digest: str,
        run_id: str,
        dataset_sha256: str,
        metrics: Mapping[str, float],
        parameters: Mapping[str, str] | None = None,
        mlflow_run_id: str | None = None,
    ) -> Adapter:
        """Take an adapter in under its immutable name.

        Doing it again, after a crash at any point, ends with the same one adapter. Equal bytes
        of another run are the same adapter; the run is added to its lineage. MLflow follows as
        far as it can be reached.

        Args:
            alias: What users call it; the first part of the name.
            folder: Holds `adapter_config.json` and `adapter_model.safetensors`; is copied.
            base_digest: Digest of the base model's files, sha256 hex.
            run_id: The training run that made it.
            dataset_sha256: Digest of the dataset that the run learned from.
            metrics: What the run reported at its end, by name.
            parameters: What the run was told, by name.
            mlflow_run_id: The run in MLflow.

        Raises:
            NotPermitted: The actor may not train in this tenant.
            InvalidInput: The alias, a digest or the folder has not the expected form.
            MissingModel: The folder holds no adapter.
            Conflict: The run has registered other bytes, or the adapter another base model.
            DigestMismatch: Other bytes lie under the name.
            StorageFull: The disk is full; nothing was registered.
        """
        origin = _Origin(
            tenant_id=scope(actor, tenant_id, Permission.TRAIN),
            alias=valid_alias(alias),
            base_model=base_model,
            base_digest=valid_digest("base model", base_digest),
            run_id=run_id,
            dataset_sha256=valid_digest("dataset", dataset_sha256),
            mlflow_run_id=mlflow_run_id,
            metrics=dict(metrics),
            parameters=dict(parameters or {}),
        )
        facts = folders.inspect(folder)
        name = f"{origin.alias}-{facts.digest[:12]}"
        self._refuse_namesake(name, facts.digest)
        folders.place(folder, self.adapters_dir, name, facts.digest)
        try:
            adapter = self._insert(actor, origin, name, facts)
        except IntegrityError:  # another worker registered the same run first
            adapter = self._insert(actor, origin, name, facts)
        self._mirror(adapter)
        return self.get(actor, tenant_id, adapter.name)

    def list(self, actor: Actor, tenant_id: str) -> builtins.list[Adapter]:
        """The tenant's adapters, newest first."""
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            return store.of_tenant(session, tenant, self.adapters_dir)

    def get(self, actor: Actor, tenant_id: str, name: str) -> Adapter:
        """One adapter of the tenant.

        Raises:
            InvalidInput: The name has not the form of an adapter's name.
            NotFound: The tenant has no such adapter.
        """
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            return self._found(session, tenant, name)

    def holders(self, actor: Actor, name: str) -> builtins.list[str]:
        """The tenants that have an adapter of this name, as far as the actor reads their models."""
        with self.db.read() as session:
            tenants = [row.tenant_id for row in store.namesakes(session, name)]
        return sorted(tenant for tenant in tenants if actor.may(Permission.READ_MODELS, tenant))

    def of_run(self, actor: Actor, tenant_id: str, run_id: str) -> Adapter | None:
        """The adapter that a run made, if it has registered one."""
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            found = store.of_run(session, run_id, self.adapters_dir)
        return found if found is not None and found.tenant_id == tenant else None

    def verify_digest(self, adapter: Adapter) -> str:
        """Prove that the bytes on disk are those that the name promises.

        Returns:
            The digest.

        Raises:
            DigestMismatch: They are not.
            MissingModel: The folder is gone.
        """
        found = adapter_digest(self.adapters_dir / valid_name(adapter.name))
        if found != adapter.digest or not adapter.name.endswith(f"-{found[:12]}"):
            raise DigestMismatch(
                f"adapter {adapter.name}: expected digest {adapter.digest}, found {found}"
            )
        return found

    def lineage(self, actor: Actor, tenant_id: str, name: str) -> Lineage:
        """Where an adapter comes from: its runs, their datasets, its base model.

        Raises:
            NotFound: The tenant has no such adapter.
        """
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            adapter = self._found(session, tenant, name)
            origins = store.origins(session, tenant, name)
        return Lineage(
            adapter=adapter.name,
            digest=adapter.digest,
            run_id=adapter.run_id,
            dataset_sha256=adapter.dataset_sha256,
            base_model=adapter.base_model,
            base_digest=adapter.base_digest,
            runs=tuple((row.run_id, row.dataset_sha256) for row in origins),
            mlflow_model_uri=adapter.mlflow_model_uri,
        )

    def set_champion(
        self, actor: Actor, tenant_id: str, name: str, admission: Admission
    ) -> Champion:
        """Make an adapter the best of its alias; `admission` says why it may be.

        Raises:
            NotPermitted: The actor may not change what users are served.
            NotFound: The tenant has no such adapter.
        """
        with self.db.write() as session:
            champion = self.set_champion_in_session(session, actor, tenant_id, name, admission)
        self._mirror_champion(champion)
        return champion

    def set_champion_in_session(
        self, session: Session, actor: Actor, tenant_id: str, name: str, admission: Admission
    ) -> Champion:
        """The same in the caller's transaction; MLflow follows with the next `sync_mlflow`."""
        tenant = scope(actor, tenant_id, Permission.ROLL_OUT)
        adapter = self._found(session, tenant, name)
        row = ChampionRow(
            id=new_id(),
            tenant_id=tenant,
            alias=adapter.alias,
            name=adapter.name,
            actor_name=actor.name,
            at=self._clock(),
        )
        session.add(row)
        record(
            session,
            actor,
            "adapter.champion_set",
            f"adapter:{adapter.name}",
            tenant_id=tenant,
            details={
                "alias": adapter.alias,
                "digest": adapter.digest,
                "admission": admission.kind,
                "reason": admission.reason,
                "shortfalls": list(admission.shortfalls),
            },
            at=row.at,
        )
        return store.as_champion(row)

    def champion(self, actor: Actor, tenant_id: str, alias: str) -> Champion | None:
        """The champion of an alias, if one was chosen."""
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        with self.db.read() as session:
            return store.champion(session, tenant, alias)

    def sync_mlflow(self) -> int:
        """Make known to MLflow what it missed: adapters first, then champions.

        Returns:
            How many adapters were added.

        Raises:
            Unavailable: MLflow does not answer; what is missing stays missing until next time.
        """
        with self.db.read() as session:
            missing = store.unmirrored(session, self.adapters_dir)
            champions = store.champions(session)
        for adapter in missing:
            self._write_mirror(adapter, *self.mlflow.add(adapter, self._files(adapter)))
        for champion in champions.values():
            if (version := self._version_of(champion)) is not None:
                self.mlflow.set_champion(champion, version)
        return len(missing)

    def _insert(self, actor: Actor, origin: _Origin, name: str, facts: folders.Facts) -> Adapter:
        with self.db.write() as session:
            earlier = store.of_run(session, origin.run_id, self.adapters_dir)
            if earlier is not None:
                return _same(earlier, origin, name)
            adapter = store.find(session, origin.tenant_id, name, self.adapters_dir)
            if adapter is None:
                session.add(self._row(origin, name, facts))
                session.flush()
            elif adapter.base_digest != origin.base_digest:
                raise Conflict(
                    f"adapter {name}: expected base model digest {adapter.base_digest}, "
                    f"found {origin.base_digest}"
                )
            self._add_origin(session, actor, origin, name, facts)
            found = store.find(session, origin.tenant_id, name, self.adapters_dir)
            assert found is not None, "the row was added above"
            return found

    def _row(self, origin: _Origin, name: str, facts: folders.Facts) -> AdapterRow:
        return AdapterRow(
            tenant_id=origin.tenant_id,
            name=name,
            alias=origin.alias,
            digest=facts.digest,
            base_model=origin.base_model,
            base_digest=origin.base_digest,
            run_id=origin.run_id,
            dataset_sha256=origin.dataset_sha256,
            config_sha256=facts.config_sha256,
            size_bytes=facts.size_bytes,
            metrics=dict(origin.metrics),
            parameters=dict(origin.parameters),
            mlflow_run_id=origin.mlflow_run_id,
            created_at=self._clock(),
        )

    def _add_origin(
        self, session: Session, actor: Actor, origin: _Origin, name: str, facts: folders.Facts
    ) -> None:
        now = self._clock()
        session.add(
            OriginRow(
                run_id=origin.run_id,
                tenant_id=origin.tenant_id,
                name=name,
                dataset_sha256=origin.dataset_sha256,
                created_at=now,
            )
        )
        session.flush()
        stated = self._stated(session, actor, origin, name, facts, now)
        record(
            session,
            actor,
            "adapter.registered",
            f"adapter:{name}",
            tenant_id=origin.tenant_id,
            details={
                "digest": facts.digest,
                "run_id": origin.run_id,
                "dataset_sha256": origin.dataset_sha256,
                "base_model": origin.base_model,
                "base_digest": origin.base_digest,
                "size_bytes": facts.size_bytes,
                **stated,
            },
            at=now,
        )

    def _stated(
        self,
        session: Session,
        actor: Actor,
        origin: _Origin,
        name: str,
        facts: folders.Facts,
        at: datetime,
    ) -> dict[str, str]:
        """What the event says of the registration's statement."""
        if self._custody is None:
            return {}
        digest = self._custody.state_in_session(
            session,
            actor,
            origin.tenant_id,
            kind="adapter",
            name=name,
            digest=facts.digest,
            facts={"run": origin.run_id, "alias": origin.alias, "bytes": str(facts.size_bytes)},
            materials={
                "data set manifest": origin.dataset_sha256,
                "base model": origin.base_digest,
                "adapter configuration": facts.config_sha256,
            },
            at=at,
        )
        return {"statement": digest}

    def _found(self, session: Session, tenant_id: str, name: str) -> Adapter:
        found = store.find(session, tenant_id, valid_name(name), self.adapters_dir)
        if found is None:
            raise NotFound(f"tenant {tenant_id} has no adapter {name}").because(
                "no_such_adapter", name=name
            )
        return found

    def _refuse_namesake(self, name: str, digest: str) -> None:
        """Twelve hex digits may collide, if never by chance; the full digest decides."""
        with self.db.read() as session:
            others = {row.digest for row in store.namesakes(session, name)} - {digest}
        if others:
            raise DigestMismatch(
                f"adapter {name}: expected digest {others.pop()}, found {digest}; "
                "another adapter bears this name"
            )

    def _mirror(self, adapter: Adapter) -> None:
        """Tell MLflow, if it can be reached; the adapter exists either way."""
        if adapter.mlflow_model_uri is not None:
            return
        try:
            self._write_mirror(adapter, *self.mlflow.add(adapter, self._files(adapter)))
        except Unavailable as error:
            log.warning("adapter %s is not in MLflow yet: %s", adapter.name, error)

    def _files(self, adapter: Adapter) -> dict[str, str]:
        """Digest of each file of the dataset that an adapter learned from, as far as it is known."""
        with self.db.read() as session:
            return file_digests(session, adapter.tenant_id, adapter.dataset_sha256)

    def _mirror_champion(self, champion: Champion) -> None:
        try:
            if (version := self._version_of(champion)) is not None:
                self.mlflow.set_champion(champion, version)
        except Unavailable as error:
            log.warning("champion %s is not in MLflow yet: %s", champion.adapter, error)

    def _version_of(self, champion: Champion) -> str | None:
        with self.db.read() as session:
            row = store.mirror(session, champion.tenant_id, champion.adapter)
            return None if row is None else row.version

    def _write_mirror(self, adapter: Adapter, model_uri: str, version: str) -> None:
        with self.db.write() as session:
            if store.mirror(session, adapter.tenant_id, adapter.name) is None:
                session.add(
                    MirrorRow(
                        tenant_id=adapter.tenant_id,
                        name=adapter.name,
                        model_uri=model_uri,
                        version=version,
                        at=self._clock(),
                    )
                )


def _same(earlier: Adapter, origin: _Origin, name: str) -> Adapter:
    """What a run registered before, if it is what it registers now."""
    if (earlier.tenant_id, earlier.name) != (origin.tenant_id, name):
        raise Conflict(
            f"run {origin.run_id}: expected no adapter or {name}, found another one registered"
        )
    return earlier
