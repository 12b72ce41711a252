"""What else is known of pairs and data sets that other domains name: topics, file digests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.db import Database
from services.preferences.queries import CHUNK
from services.preferences.store import DatasetRow, PairRow
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

_TOPICS = ("topic", "category", "subject", "domain")


@dataclass(frozen=True)
class PairLabel:
    """What a pair is about.

    Attributes:
        language: `tr`, `en` or `other`.
        topic: What its file said in `topic` (or `category`, `subject`, `domain`); empty for nothing.
        source: The file that it came from.
    """

    language: str
    topic: str
    source: str


class PairLabels:
    """Looks labels of many pairs up at once."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def of(self, actor: Actor, tenant_id: str, ids: Collection[str]) -> dict[str, PairLabel]:
        """The labels of those pairs that the tenant has, by id.

        Raises:
            NotPermitted: The actor may read neither pairs nor evaluations of the tenant.
        """
        tenant = scope(actor, tenant_id, Permission.READ_MODELS)
        wanted = sorted(ids)
        found: dict[str, PairLabel] = {}
        with self._db.read() as session:
            for first in range(0, len(wanted), CHUNK):
                query = select(PairRow.id, PairRow.language, PairRow.extra, PairRow.source).where(
                    PairRow.tenant_id == tenant, PairRow.id.in_(wanted[first : first + CHUNK])
                )
                for row in session.execute(query):
                    found[row.id] = PairLabel(row.language, _topic(row.extra), row.source)
        return found


def _topic(extra: Mapping[str, object] | None) -> str:
    named = ((extra or {}).get(name) for name in _TOPICS)
    return next((topic.strip()[:80] for topic in named if isinstance(topic, str) and topic), "")


def file_digests(session: Session, tenant_id: str, dataset_sha256: str) -> dict[str, str]:
    """The sha256 of each file of a frozen data set, by name; empty where it is not there."""
    manifest = session.scalar(
        select(DatasetRow.manifest).where(
            DatasetRow.tenant_id == tenant_id, DatasetRow.sha256 == dataset_sha256
        )
    )
    files = (manifest or {}).get("files", {})
    return {name: str(facts["sha256"]) for name, facts in sorted(files.items())}
