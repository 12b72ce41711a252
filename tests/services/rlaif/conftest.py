from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.db import Database
from tests.fakes.anthropic import FakeAnthropic
from tests.services.rlaif.world import Candidates, World, add_tenant, build_world


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    add_tenant(database)
    add_tenant(database, "globex")
    with FakeAnthropic() as judge, Candidates() as engine:
        yield World(
            **build_world(database, tmp_path, judge.url, engine.url), judge=judge, engine=engine
        )
