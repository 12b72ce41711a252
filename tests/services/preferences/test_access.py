from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.errors import NotFound, NotPermitted
from services.preferences.models import PairStatus
from services.preferences.service import Preferences
from services.tenants.models import Actor
from tests.services.preferences.rows import ANNOTATOR, ENGINEER, MANAGER, STRANGER, pairs_file

Call = Callable[[Preferences, Actor, Path], Any]
WRITES: dict[str, Call] = {
    "import": lambda p, actor, _: p.import_pairs(actor, "acme", pairs_file(1), source="file"),
    "demo set": lambda p, actor, _: p.load_demo(actor, "acme"),
    "decide": lambda p, actor, _: p.decide(actor, "acme", "x", verdict=PairStatus.REJECTED),
    "approve": lambda p, actor, _: p.approve_imported(actor, "acme"),
    "snapshot": lambda p, actor, _: p.snapshot(actor, "acme"),
    "export": lambda p, actor, path: p.export(actor, "acme", path / "out"),
}
READS: dict[str, Call] = {
    "pairs": lambda p, actor, _: p.pairs(actor, "acme"),
    "pair": lambda p, actor, _: p.pair(actor, "acme", "x"),
    "counts": lambda p, actor, _: p.counts(actor, "acme"),
    "sources": lambda p, actor, _: p.sources(actor, "acme"),
    "stats": lambda p, actor, _: p.stats(actor, "acme"),
    "data sets": lambda p, actor, _: p.datasets(actor, "acme"),
    "data set": lambda p, actor, _: p.dataset(actor, "acme", "x"),
}


@pytest.mark.parametrize("call", [*WRITES.values(), *READS.values()], ids=[*WRITES, *READS])
def test_people_of_another_tenant_are_refused(
    preferences: Preferences, call: Call, tmp_path: Path
) -> None:
    with pytest.raises(NotPermitted):
        call(preferences, STRANGER, tmp_path)
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
def test_a_manager_changes_nothing(preferences: Preferences, call: Call, tmp_path: Path) -> None:
    with pytest.raises(NotPermitted):
        call(preferences, MANAGER, tmp_path)


@pytest.mark.parametrize("call", READS.values(), ids=READS)
def test_an_annotator_sees_no_votes_and_no_lists(
    preferences: Preferences, call: Call, tmp_path: Path
) -> None:
    with pytest.raises(NotPermitted):
        call(preferences, ANNOTATOR, tmp_path)


def test_each_tenant_sees_only_its_own_pairs(preferences: Preferences) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(3), source="file")
    preferences.import_pairs(STRANGER, "globex", pairs_file(2), source="file")
    assert preferences.pairs(ENGINEER, "acme").total == 3
    theirs = preferences.pairs(STRANGER, "globex")
    assert theirs.total == 2
    with pytest.raises(NotFound):
        preferences.pair(ENGINEER, "acme", theirs.pairs[0].id)
    with pytest.raises(NotFound):
        preferences.decide(ENGINEER, "acme", theirs.pairs[0].id, verdict=PairStatus.REJECTED)
    assert preferences.stats(ENGINEER, "acme").total == 3
