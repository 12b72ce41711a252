"""The registry's tables: all of them append-only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ForeignKeyConstraint, Index, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.db import Base
from services.registry.models import Adapter, Champion


class AdapterRow(Base):
    """One adapter of one tenant. Equal bytes of two tenants share a folder, never a row."""

    __tablename__ = "registry_adapters"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str]
    digest: Mapped[str]
    base_model: Mapped[str]
    base_digest: Mapped[str]
    run_id: Mapped[str]
    dataset_sha256: Mapped[str]
    config_sha256: Mapped[str]
    size_bytes: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    parameters: Mapped[dict[str, Any]]
    mlflow_run_id: Mapped[str | None]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "name"), Index(None, "tenant_id", "created_at"))


class OriginRow(Base):
    """One run that made an adapter; several runs may make the same bytes."""

    __tablename__ = "registry_origins"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    name: Mapped[str]
    dataset_sha256: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "name"], ["registry_adapters.tenant_id", "registry_adapters.name"]
        ),
        Index(None, "tenant_id", "name"),
    )


class MirrorRow(Base):
    """What MLflow calls an adapter; there is none until MLflow was reached."""

    __tablename__ = "registry_mirrors"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    model_uri: Mapped[str]
    version: Mapped[str]
    at: Mapped[datetime]

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "name"], ["registry_adapters.tenant_id", "registry_adapters.name"]
        ),
    )


class ChampionRow(Base):
    """One choice of a champion; the latest row of an alias holds."""

    __tablename__ = "registry_champions"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    alias: Mapped[str]
    name: Mapped[str]
    actor_name: Mapped[str]
    at: Mapped[datetime]

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "name"], ["registry_adapters.tenant_id", "registry_adapters.name"]
        ),
        Index(None, "tenant_id", "alias", "id"),
    )


def find(session: Session, tenant_id: str, name: str, folder: Path) -> Adapter | None:
    """One adapter of a tenant.

    Args:
        folder: The folder of all adapters.
    """
    found = _adapters(session, folder, AdapterRow.tenant_id == tenant_id, AdapterRow.name == name)
    return found[0] if found else None


def digest_of(session: Session, tenant_id: str, name: str) -> str | None:
    """The digest of an adapter of a tenant."""
    return session.scalar(
        select(AdapterRow.digest).where(AdapterRow.tenant_id == tenant_id, AdapterRow.name == name)
    )


def of_tenant(session: Session, tenant_id: str, folder: Path) -> list[Adapter]:
    """A tenant's adapters, newest first."""
    return _adapters(session, folder, AdapterRow.tenant_id == tenant_id)


def of_run(session: Session, run_id: str, folder: Path) -> Adapter | None:
    """The adapter that a run made."""
    origin = session.get(OriginRow, run_id)
    return None if origin is None else find(session, origin.tenant_id, origin.name, folder)


def namesakes(session: Session, name: str) -> Sequence[AdapterRow]:
    """The adapters of all tenants that have a name."""
    return session.scalars(select(AdapterRow).where(AdapterRow.name == name)).all()


def origins(session: Session, tenant_id: str, name: str) -> Sequence[OriginRow]:
    """The runs that made an adapter, oldest first."""
    query = (
        select(OriginRow)
        .where(OriginRow.tenant_id == tenant_id, OriginRow.name == name)
        .order_by(OriginRow.created_at, OriginRow.run_id)
    )
    return session.scalars(query).all()


def unmirrored(session: Session, folder: Path) -> list[Adapter]:
    """The adapters of all tenants that MLflow does not know yet, oldest first."""
    return _adapters(session, folder, MirrorRow.model_uri.is_(None))[::-1]


def champion(session: Session, tenant_id: str, alias: str) -> Champion | None:
    """The champion of an alias."""
    query = (
        select(ChampionRow)
        .where(ChampionRow.tenant_id == tenant_id, ChampionRow.alias == alias)
        .order_by(ChampionRow.id.desc())
        .limit(1)
    )
    row = session.scalars(query).first()
    return None if row is None else as_champion(row)


def champions(session: Session) -> dict[tuple[str, str], Champion]:
    """The champions of the whole installation, by tenant and alias."""
    rows = session.scalars(select(ChampionRow).order_by(ChampionRow.id))
    return {(row.tenant_id, row.alias): as_champion(row) for row in rows}


def mirror(session: Session, tenant_id: str, name: str) -> MirrorRow | None:
    """What MLflow calls an adapter."""
    return session.get(MirrorRow, (tenant_id, name))


def as_champion(row: ChampionRow) -> Champion:
    """The row as a value."""
    return Champion(
        tenant_id=row.tenant_id,
        alias=row.alias,
        adapter=row.name,
        actor_name=row.actor_name,
        since=row.at,
    )


def _adapters(session: Session, folder: Path, *conditions: Any) -> list[Adapter]:
    query = (
        select(AdapterRow, MirrorRow.model_uri)
        .outerjoin(
            MirrorRow,
            (MirrorRow.tenant_id == AdapterRow.tenant_id) & (MirrorRow.name == AdapterRow.name),
        )
        .where(*conditions)
        .order_by(AdapterRow.created_at.desc(), AdapterRow.name.desc())
    )
    return [
        Adapter(
            name=row.name,
            tenant_id=row.tenant_id,
            alias=row.alias,
            digest=row.digest,
            base_model=row.base_model,
            base_digest=row.base_digest,
            path=folder / row.name,
            run_id=row.run_id,
            dataset_sha256=row.dataset_sha256,
            config_sha256=row.config_sha256,
            size_bytes=row.size_bytes,
            metrics=dict(row.metrics),
            parameters=dict(row.parameters),
            mlflow_run_id=row.mlflow_run_id,
            mlflow_model_uri=model_uri,
            created_at=row.created_at,
        )
        for row, model_uri in session.execute(query)
    ]
