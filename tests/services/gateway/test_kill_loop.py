import pytest

from services.db import Database
from tests.fakes.engine import FakeEngine
from tests.services.gateway.edges import process_over
from tests.services.gateway.killing import kill_often

KILLS = 8
"""Fifty are in `bench/kills.py`."""


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_killed_again_and_again_it_loses_repeats_and_overshoots_nothing(
    database: Database, engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with process_over(database, engine, tmp_path_factory.mktemp("killed")) as gateway:
        found = kill_often(gateway, KILLS)
    assert found.statuses[429] > 0, "neither the tokens nor the money ever ran out"
    assert found.interrupted > 0, "no kill ever hit a request"
