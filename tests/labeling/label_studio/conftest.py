from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select

from labeling.label_studio.models import Project, Selection
from labeling.label_studio.service import LabelStudio
from labeling.label_studio.store import TaskRow
from labeling.queue import ReviewQueue
from services.db import Database, new_id
from services.jobs.service import Jobs
from services.preferences.models import Pair, Review, ReviewKind
from services.preferences.service import Preferences
from services.preferences.store import PairRow
from services.settings import load
from services.tenants.models import Actor, Role
from services.tenants.store import GrantRow, TenantRow, UserRow
from tests.fakes.label_studio import TOKEN
from tests.labeling.label_studio import servers
from tests.labeling.label_studio.servers import Annotators, RunningServer
from tests.services.preferences.conftest import Time

SECRET = "hook-secret-of-the-installation"
ENGINEER = Actor("user", "user-engineer", "Engineer", {"acme": frozenset({Role.ENGINEER})})


@pytest.fixture(
    scope="session",
    params=["fake", pytest.param("real", marks=[pytest.mark.slow])],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """The fake server, and the real one: what holds for one holds for the other."""
    if request.param == "fake":
        with servers.fake() as fake:
            yield fake
        return
    with servers.real(tmp_path_factory.mktemp("label-studio")) as real:
        yield real


@dataclass
class World:
    """A tenant with pairs, two annotators, and a Label Studio.

    Attributes:
        accounts: Numbers over there of Ada and Bora.
        annotators: Their ids here.
    """

    db: Database
    preferences: Preferences
    queue: ReviewQueue
    label_studio: LabelStudio
    people: Annotators
    time: Time
    accounts: tuple[int, int]
    annotators: tuple[str, str] = ("user-ada", "user-bora")

    def import_pairs(self, count: int, *, source: str = "made", scores: bool = True) -> None:
        rows = []
        for n in range(count):
            row = {
                "prompt": f"Soru {source} {n}: Türkiye'nin başkenti? <b>&amp;</b>",
                "chosen": f"Ankara, {n}. {source} 🎉",
                "rejected": f"İstanbul, {n}.\n\n  {source}",
            }
            if scores:
                row |= {"chosen_score": 8.0, "rejected_score": 4.0}
            rows.append(json.dumps(row, ensure_ascii=False))
        stream = io.BytesIO("\n".join(rows).encode())
        report = self.preferences.import_pairs(ENGINEER, "acme", stream, source=source)
        assert report.imported == count, report

    def push(self, *, title: str | None = None, is_blind: bool = True, limit: int = 100) -> Project:
        """Hand pairs over and synchronise once."""
        project, _ = self.label_studio.push(
            ENGINEER, "acme", Selection(limit=limit), title=title or new_id()[:40],
            is_blind=is_blind,
        )  # fmt: skip
        self.sync(project)
        return self.project(project.id)

    def sync(self, project: Project, *, everything: bool = False) -> int:
        return self.label_studio.run_here(ENGINEER, "acme", project.id, everything=everything)

    def project(self, project_id: str) -> Project:
        found = self.label_studio.projects(ENGINEER, "acme")
        return next(one.project for one in found if one.project.id == project_id)

    def name_accounts(self) -> None:
        """Say who Ada and Bora are; they are known once they have annotated."""
        server = self.label_studio.sync.settings.label_studio_url
        for account, annotator in zip(self.accounts, self.annotators, strict=True):
            known = {one.remote_id for one in self.label_studio.people(ENGINEER, "acme")}
            if account in known:
                self.label_studio.map_person(ENGINEER, "acme", server, account, annotator)

    def tasks(self, project: Project) -> list[TaskRow]:
        with self.db.read() as session:
            wanted = select(TaskRow).where(TaskRow.project_id == project.id)
            return list(session.scalars(wanted.order_by(TaskRow.created_at, TaskRow.id)))

    def pairs(self) -> list[Pair]:
        with self.db.read() as session:
            ids = session.scalars(select(PairRow.id).order_by(PairRow.position)).all()
        return [self.preferences.pair(ENGINEER, "acme", pair_id) for pair_id in ids]

    def votes(self, pair_id: str | None = None) -> list[Review]:
        found = self.pairs() if pair_id is None else [self.pair(pair_id)]
        histories = [one.history for one in found if one.history is not None]
        return [
            review
            for history in histories
            for review in history.reviews
            if review.kind is ReviewKind.VOTE
        ]

    def pair(self, pair_id: str) -> Pair:
        return self.preferences.pair(ENGINEER, "acme", pair_id)

    def overlap(self, number: int) -> None:
        with self.db.write() as session:
            for row in session.scalars(select(PairRow)):
                row.overlap = number


@pytest.fixture
def world(server: RunningServer, database: Database, tmp_path: Path) -> Iterator[World]:
    time = Time()
    with database.write() as session:
        session.add(
            TenantRow(
                id="acme",
                name="Acme",
                tps=1,
                rpm=1,
                daily_tokens=1,
                timezone="UTC",
                created_at=time(),
            )  # fmt: skip
        )
        for name in ("ada", "bora"):
            session.add(
                UserRow(
                    id=f"user-{name}",
                    username=name,
                    display_name=name.title(),
                    password_hash="-",
                    language="en",
                    disabled=False,
                    created_at=time(),
                )  # fmt: skip
            )
            session.flush()
            role = Role.ANNOTATOR.value
            session.add(GrantRow(user_id=f"user-{name}", tenant_id="acme", role=role))
    preferences = Preferences(database, datasets_dir=tmp_path / "datasets", clock=time)
    queue = ReviewQueue(database, preferences, clock=time)
    settings = replace(
        load({"PARAM_HOME": str(tmp_path)}, directory=tmp_path),
        label_studio_url=server.url, label_studio_token=TOKEN,
    )  # fmt: skip
    label_studio = LabelStudio(database, queue, Jobs(database), settings, clock=time)
    with closing(Annotators(server.url)) as people:
        accounts = people.enrol("ada"), people.enrol("bora")
        yield World(database, preferences, queue, label_studio, people, time, accounts)
