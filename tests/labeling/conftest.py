from __future__ import annotations

from pathlib import Path

import pytest

from labeling.queue import ReviewQueue
from services.db import Database
from services.preferences.service import Preferences
from tests.services.preferences.conftest import Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def preferences(database: Database, tmp_path: Path, time: Time) -> Preferences:
    return Preferences(database, datasets_dir=tmp_path / "datasets", clock=time)


@pytest.fixture
def queue(database: Database, preferences: Preferences, time: Time) -> ReviewQueue:
    return ReviewQueue(database, preferences, clock=time)
